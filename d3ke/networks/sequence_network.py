"""The sequence network: refines the per-frame estimates of a recording (paper, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.networks.prediction import Estimate, PredictionHead, full_precision
from d3ke.networks.smoothing import Smoothing
from d3ke.networks.temporal_convolution import TemporalConvolution
from d3ke.networks.temporal_lstm import TemporalLSTM
from d3ke.networks.temporal_transformer import TemporalTransformer

PAPER_DROPOUT = {"transformer": 0.0, "lstm": 0.1, "tcn": 0.25}
PAPER_WIDTH = {"transformer": 256, "lstm": 256, "tcn": 1024}
FEATURE_FRAMES = 1024
"""Frames whose skeletons are computed at a time where no gradient is asked for: an hour's at once
take 3 GB, more than everything else that scoring an hour of video holds."""


@dataclass(frozen=True, kw_only=True)
class SequenceNetworkConfig:
    """Architecture of the sequence network; the defaults are the paper's transformer."""

    kind: str = "transformer"
    """Kind of temporal network: transformer, lstm or tcn."""
    window: int = 243
    """Frames that an output frame can see, half before and half after it; odd. For the LSTM:
    only the length of the training sequences."""
    width: int | None = None
    """Channels; None: the paper's (transformer 256, LSTM 256 (128 per direction), TCN 1024)."""
    heads: int = 8
    """Attention heads (transformer)."""
    layers: int = 3
    """Vanilla blocks (transformer) or recurrent layers (LSTM)."""
    feed_forward: int = 512
    """Hidden channels of the position-wise networks (transformer)."""
    strides: tuple[int, ...] = (3, 9, 9)
    """Strides of the strided blocks that follow the vanilla ones (transformer)."""
    dropout: float | None = None
    """Dropout probability; None: the paper's (transformer 0, LSTM 0.1, TCN 0.25)."""
    residual: bool = True
    """Add a correction to the input estimate instead of predicting everything anew (paper). With
    the few recordings of a small data set a new prediction is worse than its input for long."""
    smoothing: int = 9
    """Taps of the learnable filter that the correction is added to; odd, 0 for none, which is
    the paper's. With `residual` only."""

    def __post_init__(self) -> None:
        if self.kind not in PAPER_DROPOUT:
            raise UnknownNameError("kind of sequence network", self.kind, PAPER_DROPOUT)
        if self.window < 3 or self.window % 2 == 0:
            raise InvalidInputError(
                f"window {self.window}", "not an odd number of 3 or more frames"
            )
        width = self.channels
        if width < 2 or width % 2:
            raise InvalidInputError(f"width {width}", "not an even number of 2 or more channels")
        if self.kind == "transformer" and width % (2 * self.heads):
            raise InvalidInputError(
                f"width {width}", f"not a multiple of 2 x heads ({self.heads} heads)"
            )
        if self.layers < 1 or self.feed_forward < 1 or any(stride < 1 for stride in self.strides):
            raise InvalidInputError("layers, feed_forward and strides", "must be positive")
        if self.smoothing and (self.smoothing < 3 or self.smoothing % 2 == 0):
            raise InvalidInputError(f"smoothing {self.smoothing}", "not 0 or an odd number of taps")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise InvalidInputError(f"dropout {self.dropout}", "not a probability below 1")

    @property
    def channels(self) -> int:
        """Channels of the network."""
        return PAPER_WIDTH[self.kind] if self.width is None else self.width

    @property
    def dropped(self) -> float:
        """Dropout probability."""
        return PAPER_DROPOUT[self.kind] if self.dropout is None else self.dropout


class SequenceNetwork(nn.Module):
    """Refines estimates with what the frames around them say.

    Input features of a frame are all the paper feeds (facts of the pose, relative to the
    pelvis): joint centres, markers, factors, root rotation, coordinates. With `residual` the
    output layer starts at zero, so the untrained network returns its input. Measured with
    transformers on 80 noisy synthetic sequences of 25 frames (9.1 deg error, mean velocity
    105 deg/s, labels 27 deg/s), held-out sequences after 120 steps: 11.5 deg predicted anew,
    8.9 deg with a correction, 7.3 deg and 27 deg/s with a correction and the filter.
    """

    def __init__(
        self, config: SequenceNetworkConfig, head: PredictionHead, start: Estimate | None = None
    ) -> None:
        """Build the network; `start` as in `FrameNetwork`, used without `residual` only."""
        super().__init__()
        self.config, self.head = config, head
        skeleton = head.skeleton
        positions = 3 * (len(skeleton.joints) + len(skeleton.markers))
        self.feature_count = positions + head.size - 6 + 9
        self.temporal = _temporal(config, self.feature_count)
        self.output = nn.Linear(config.channels, head.size)
        self.smoothing = None
        if config.residual:
            self.smoothing = Smoothing(head.size, config.smoothing) if config.smoothing else None
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)
        elif start is not None:
            with torch.no_grad():
                self.output.bias.copy_(head.encode(start))

    def forward(self, estimate: Estimate, valid: Bool[Tensor, "B T"]) -> Estimate:
        """Refine sequences [B,T,...], an output for every frame.

        Args:
            estimate: per-frame estimates; what stands in frames that are not valid is ignored.
            valid: False for padding and for frames without a person. They are filled by
                repetition of the nearest valid frame before (else after) them.
        """
        filled = repeat_valid(estimate, valid)
        mixed = self.temporal(self.features(filled), valid)
        with full_precision(mixed):
            raw = self.output(mixed.float())
            if self.config.residual:
                raw = raw + self._smooth(self.head.encode(filled))
            return self.head.decode(raw)

    def _smooth(self, raw: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return raw if self.smoothing is None else self.smoothing(raw)

    def features(self, estimate: Estimate) -> Float[Tensor, "B T F"]:
        """Input features of every frame: metres, factors, matrix entries, radians; all about 1."""
        frames = estimate.coordinates.shape[1]
        if torch.is_grad_enabled() or frames <= FEATURE_FRAMES:
            return self._features(estimate)
        parts = [
            self._features(Estimate(*(v[:, start : start + FEATURE_FRAMES] for v in estimate)))
            for start in range(0, frames, FEATURE_FRAMES)
        ]
        return torch.cat(parts, dim=1)

    def _features(self, estimate: Estimate) -> Float[Tensor, "B T F"]:
        pose = self.head.pose(estimate)
        parts = (
            pose.joint_centers.flatten(-2),
            pose.markers.flatten(-2),
            estimate.factors,
            estimate.root_rotation.flatten(-2),
            estimate.coordinates,
        )
        return torch.cat(parts, dim=-1)


def _temporal(config: SequenceNetworkConfig, features: int) -> nn.Module:
    dropout = config.dropped
    if config.kind == "lstm":
        return TemporalLSTM(features, width=config.channels, layers=config.layers, dropout=dropout)
    if config.kind == "tcn":
        return TemporalConvolution(
            features, width=config.channels, window=config.window, dropout=dropout
        )
    return TemporalTransformer(
        features,
        width=config.channels,
        heads=config.heads,
        layers=config.layers,
        feed_forward=config.feed_forward,
        strides=config.strides,
        window=config.window,
        dropout=dropout,
    )


def repeat_valid(estimate: Estimate, valid: Bool[Tensor, "B T"]) -> Estimate:
    """Replace frames that are not valid by the last valid one before, else the first after."""
    frames = torch.arange(valid.shape[1], device=valid.device).expand_as(valid)
    last = torch.where(valid, frames, -1).cummax(dim=1).values
    first = valid.int().argmax(dim=1, keepdim=True)
    source = torch.where(last >= 0, last, first)
    rows = torch.arange(valid.shape[0], device=valid.device)[:, None]
    return Estimate(*(values[rows, source] for values in estimate))
