"""What a training run is made of. Lengths are frames or pixels, angles degrees where named so."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import Literal

from d3ke.augmentation import AugmentationConfig
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.losses import LossWeights
from d3ke.networks.backbones import IMAGENET
from d3ke.networks.frame_network import FrameNetworkConfig
from d3ke.networks.sequence_network import SequenceNetworkConfig

SelectionMetric = Literal["mae_all_deg", "mae_main_deg", "mae_legs_deg"]
SELECTION_METRICS = ("mae_all_deg", "mae_main_deg", "mae_legs_deg")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """How one network is optimised; shared by the per-frame and the sequence network."""

    epochs: tuple[int, ...] = (28, 2)
    """Epochs of each phase of the schedule; the optimiser starts afresh with every phase."""
    learning_rate_start: tuple[float, ...] = (5e-4, 3.33e-6)
    """Learning rate at the start of each phase."""
    learning_rate_end: tuple[float, ...] = (3.33e-5, 1e-6)
    """Learning rate at the end of each phase; it falls exponentially in between."""
    schedule_by: Literal["epoch", "step"] = "epoch"
    """Lower the learning rate once an epoch (the paper) or at every step."""
    batch_size: int = 64
    """Samples of one optimiser step over all workers together."""
    weight_decay: float = 1e-3
    """Weight decay of AdamW."""
    gradient_clip: float = 0.0
    """Largest norm of the gradient; 0 = no clipping."""
    ema_decay: float = 0.0
    """Decay of the exponential moving average of the weights, which is then what is validated and
    kept; 0 = none."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's products; losses and kinematics are always float32."""
    compile: bool = False
    """Compile the network with torch.compile: a minute at the start, then faster steps on a GPU."""
    sync_batch_norm: bool = True
    """Batch-norm layers use the statistics of all workers' samples, as one worker would; False
    saves the workers an exchange per layer and step, and every worker normalises by itself."""
    selection_metric: SelectionMetric = "mae_all_deg"
    """The epoch with the lowest value on the validation subjects is kept."""
    patience: int = 0
    """Epochs without a better one after which training ends early; 0 = never."""
    pictures_every: int = 5
    """Epochs from one set of pictures of validation frames to the next; the last epoch has one too;
    0 = none."""
    loss: LossWeights = field(default_factory=LossWeights)
    """Weights of the loss terms."""

    def __post_init__(self) -> None:
        phases = {len(self.epochs), len(self.learning_rate_start), len(self.learning_rate_end)}
        if len(phases) != 1 or 0 in phases:
            raise InvalidInputError(
                "epochs, learning_rate_start and learning_rate_end",
                f"have {len(self.epochs)}, {len(self.learning_rate_start)} and "
                f"{len(self.learning_rate_end)} values",
                "Give one value of each per phase.",
            )
        for count in self.epochs:
            _at_least("epochs", count, 1)
        for rate in (*self.learning_rate_start, *self.learning_rate_end):
            if not (math.isfinite(rate) and rate > 0):
                raise InvalidInputError("learning rate", f"{rate} is not a positive number")
        _at_least("batch_size", self.batch_size, 1)
        _at_least("weight_decay", self.weight_decay, 0.0)
        _at_least("gradient_clip", self.gradient_clip, 0.0)
        _at_least("pictures_every", self.pictures_every, 0)
        _at_least("patience", self.patience, 0)
        if not 0 <= self.ema_decay < 1:
            raise InvalidInputError("ema_decay", f"{self.ema_decay} is not in [0, 1)")
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("selection_metric", self.selection_metric, SELECTION_METRICS)
        _one_of("schedule_by", self.schedule_by, ("epoch", "step"))

    @property
    def total_epochs(self) -> int:
        """Epochs of all phases."""
        return sum(self.epochs)


@dataclass(frozen=True, kw_only=True)
class FrameTraining(StageSettings):
    """The per-frame network: image crop -> angles, measurement factors, root orientation."""

    backbone: str = "resnext50_32x4d"
    """Image network; d3ke.networks.backbones names the choices."""
    weights: str = ""
    """Initial weights of the backbone: "" none, "imagenet" a download, or a state_dict file."""
    bundle: str = ""
    """Model bundle whose per-frame network training starts from; what both predict is taken over,
    by name. "" = from the start."""
    freeze: tuple[str, ...] = ()
    """Parts of the network that training leaves as they are: backbone, backbone.layer1, ..."""
    image_size: int = 256
    """Side of the square network input [px]."""
    channels_last: bool = True
    """Keep images as channels-last in memory, which convolutions prefer."""
    loading: Literal["auto", "memory", "stream"] = "auto"
    """Where the crops are during training: in the workers' memory, encoded, or streamed from their
    files every epoch; auto streams sets of more than `memory_gb`."""
    memory_gb: float = 4.0
    """Most encoded crops that `auto` keeps in memory, of all workers together [GB]."""
    shuffle_buffer: int = 8192
    """Crops that are shuffled together when they are streamed."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """Random changes of the crop camera and of the colours."""
    cross_fit_folds: int = 0
    """0 = off. With K folds the training estimates for the sequence network come from K extra
    networks, each of which has not seen the subjects it estimates; costs K trainings."""

    def with_absolute_paths(self) -> FrameTraining:
        """The same with paths that mean the same in any working folder."""

        def whole(path: str) -> str:
            return os.path.abspath(path) if path else path

        augmentation = replace(self.augmentation, occluders=whole(self.augmentation.occluders))
        weights = self.weights if self.weights == IMAGENET else whole(self.weights)
        return replace(self, weights=weights, bundle=whole(self.bundle), augmentation=augmentation)

    def network(self) -> FrameNetworkConfig:
        """The method's description of the network."""
        return FrameNetworkConfig(
            backbone=self.backbone, image_size=self.image_size, weights=self.weights
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.network()
        _one_of("loading", self.loading, ("auto", "memory", "stream"))
        _at_least("memory_gb", self.memory_gb, 0.0)
        _at_least("shuffle_buffer", self.shuffle_buffer, 1)
        if self.bundle and self.weights:
            raise InvalidInputError(
                "frame.bundle and frame.weights",
                "both say what the backbone starts from",
                "Give one of them.",
            )
        if self.cross_fit_folds == 1 or self.cross_fit_folds < 0:
            raise InvalidInputError(
                "cross_fit_folds", f"{self.cross_fit_folds} folds", "Use 0 (off) or at least 2."
            )
        if self.loss.velocity:
            raise InvalidInputError(
                "frame.loss.velocity",
                "single frames have no velocity",
                "Set sequence.loss.velocity.",
            )


@dataclass(frozen=True, kw_only=True)
class SequenceTraining(StageSettings):
    """The sequence network: per-frame estimates of one recording -> refined estimates."""

    enabled: bool = True
    """False keeps the per-frame network alone."""
    epochs: tuple[int, ...] = (50,)
    learning_rate_start: tuple[float, ...] = (1e-3,)
    learning_rate_end: tuple[float, ...] = (5e-6,)
    batch_size: int = 128
    """Windows of one optimiser step over all workers together."""
    kind: Literal["transformer", "lstm", "tcn"] = "transformer"
    """Structure of the network."""
    window: int = 243
    """Frames that an estimate can depend on, half before and half after it, and the length of
    training windows [frames]; odd."""
    stride: int = 0
    """Frames from one training window to the next; 0 = a quarter of the window."""
    width: int | None = None
    """Channels of the network; None: the paper's (transformer and lstm 256, tcn 1024)."""
    layers: int = 3
    """Vanilla blocks (transformer) or recurrent layers (lstm)."""
    heads: int = 8
    """Attention heads (transformer)."""
    feed_forward: int = 512
    """Hidden channels of the position-wise networks (transformer)."""
    strides: tuple[int, ...] = (3, 9, 9)
    """Strides of the blocks after the vanilla ones (transformer)."""
    dropout: float | None = None
    """Share of activations dropped in training; None: the paper's (transformer 0, lstm 0.1,
    tcn 0.25)."""
    residual: bool = True
    """Correct the input instead of predicting everything anew, as the paper does."""
    smoothing: int = 9
    """Taps of the learnable filter that the correction is added to; odd, 0 for none."""
    estimate_passes: int = 4
    """Times every training recording is estimated, each time with other augmentation, to make the
    training input; 0 = once, without augmentation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.network()
        _at_least("stride", self.stride, 0)
        _at_least("estimate_passes", self.estimate_passes, 0)

    def network(self) -> SequenceNetworkConfig:
        """The method's description of the network."""
        return SequenceNetworkConfig(
            kind=self.kind,
            window=self.window,
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            feed_forward=self.feed_forward,
            strides=self.strides,
            dropout=self.dropout,
            residual=self.residual,
            smoothing=self.smoothing,
        )

    @property
    def window_stride(self) -> int:
        """Frames between the starts of neighbouring training windows."""
        return self.stride or max(1, self.window // 4)


@dataclass(frozen=True, kw_only=True)
class JointTraining(StageSettings):
    """Both trained networks fine-tuned together, on windows of crops. Their losses, what is frozen
    and the augmentation are those of their own trainings, but for mirroring and pasted occluders,
    which are left out."""

    enabled: bool = False
    """True fine-tunes after the sequence network is trained."""
    epochs: tuple[int, ...] = (4,)
    learning_rate_start: tuple[float, ...] = (2e-5,)
    learning_rate_end: tuple[float, ...] = (2e-6,)
    schedule_by: Literal["epoch", "step"] = "step"
    batch_size: int = 4
    """Windows of one optimiser step over all workers together."""
    window: int = 27
    """Frames of a window."""
    stride: int = 0
    """Frames from one window to the next; 0 = as long as a window."""
    frames_at_once: int = 32
    """Crops that the per-frame network computes together; their activations are made again for the
    gradient, so that memory follows this number and not the windows."""
    frame_weight: float = 0.5
    """Weight of the per-frame estimates' own loss beside that of the refined ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _at_least("window", self.window, 3)
        _at_least("stride", self.stride, 0)
        _at_least("frames_at_once", self.frames_at_once, 1)
        _at_least("frame_weight", self.frame_weight, 0.0)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """One training run: both networks of D3KE on one prepared data set."""

    data: str
    """Folder or URI of a prepared data set (jobs/prepare.py)."""
    output: str
    """Folder of the run, on a file system that all workers share. Rerunning continues it."""
    coordinates: tuple[str, ...] = ()
    """Coordinates to predict, or groups of them (main, legs, arms, trunk); all others stay at their
    defaults. Empty: all that the data set names."""
    frame: FrameTraining = field(default_factory=FrameTraining)
    """The per-frame network."""
    sequence: SequenceTraining = field(default_factory=SequenceTraining)
    """The sequence network."""
    joint: JointTraining = field(default_factory=JointTraining)
    """Fine-tuning of both together."""
    seed: int = 100
    """Seed of initial weights, sample order and augmentation."""
    workers: int = 0
    """Training workers; 0 = one per GPU of the cluster, or two on the CPU when it has none."""
    workers_min: int = 0
    """Fewest workers to go on with when nodes are lost or do not come; training then takes more of
    them, up to `workers`, as there is room. 0 = always `workers`."""
    deterministic: bool = False
    """Use PyTorch's deterministic algorithms only: the same run gives the same weights to the last
    bit on the same machine, also when it was broken off and resumed; slower on a GPU."""
    in_process: bool = False
    """Train in this process, without Ray Train: for debugging."""
    max_failures: int = 2
    """Times the workers are restarted from the last checkpoint after one of them died."""
    experiment: str = "d3ke"
    """Name of the MLflow experiment."""

    def __post_init__(self) -> None:
        if not self.data or not self.output:
            raise InvalidInputError("data and output", "both are needed", "Give --data --output.")
        if "://" in self.output:
            raise InvalidInputError(
                "output", f"{self.output!r} is not a folder", "Use a shared folder for runs."
            )
        _at_least("workers", self.workers, 0)
        if self.workers_min and not 0 < self.workers_min <= self.workers:
            raise InvalidInputError(
                "workers_min",
                f"{self.workers_min} of at most {self.workers} workers",
                "Give --workers too, no smaller than --workers-min.",
            )
        _at_least("max_failures", self.max_failures, 0)
        if self.joint.enabled and not self.sequence.enabled:
            raise InvalidInputError(
                "joint.enabled",
                "fine-tunes a sequence network, and sequence.enabled is off",
                "Switch both on or both off.",
            )


def _at_least(name: str, value: float, lowest: float) -> None:
    if not (math.isfinite(value) and value >= lowest):
        raise InvalidInputError(name, f"{value} is below {lowest}")


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UnknownNameError(name, value, valid)
