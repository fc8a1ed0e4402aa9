"""Both networks fine-tuned together, on windows of crops: the end of one is the start of the other.

Trained in succession, the per-frame network never learns what the sequence network makes of its
estimates. Here the loss of the refined estimates reaches the backbone. A window holds as many crops
as frames, so windows are short, and the per-frame network computes a few frames at a time whose
activations are made again for the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from d3ke.arrays import BoolArray, ImageArray, IntArray
from d3ke.augmentation import augment, center_crop
from d3ke.draws import Draws
from d3ke.losses import Target, d3ke_loss
from d3ke.networks.frame_network import FrameNetwork
from d3ke.networks.prediction import Estimate, PredictionHead
from d3ke.networks.sequence_network import SequenceNetwork
from d3ke_platform.storage import DataSet
from d3ke_platform.training import checkpoint as saved
from d3ke_platform.training.batch_plan import BatchPlan
from d3ke_platform.training.error_sums import ErrorSums
from d3ke_platform.training.frame_crops import crop_reader
from d3ke_platform.training.loader import FrameBatch, FrameLoader
from d3ke_platform.training.memory_need import first_samples
from d3ke_platform.training.pictures import curve_picture
from d3ke_platform.training.samples import Samples, load_samples, neighbours
from d3ke_platform.training.seeds import number_seed
from d3ke_platform.training.sequence_stage import select
from d3ke_platform.training.sequences import frame_rate, window_starts
from d3ke_platform.training.settings import FrameTraining, JointTraining, SequenceTraining
from d3ke_platform.training.task import Predict
from d3ke_platform.training.transfer import freeze
from d3ke_platform.training.validation import METRICS, Validator
from d3ke_platform.training.worker import Worker, threads_per_worker

FRAME, SEQUENCE = "frame.", "sequence."
"""Beginnings of the names of the networks' weights."""


@dataclass(frozen=True, kw_only=True)
class JointJob:
    """Fine-tune two trained networks together."""

    data: str
    settings: JointTraining
    frame: FrameTraining
    sequence: SequenceTraining
    frame_weights: str
    """Folder with the trained per-frame network's weights."""
    sequence_weights: str
    """The same of the sequence network."""
    seed: int
    coordinates: tuple[str, ...] = ()
    """Predicted coordinates or groups; () = all of the data set's."""
    name: str = "joint"

    def task(self, worker: Worker) -> JointTask:
        return JointTask(self, worker)


class JointEstimates(NamedTuple):
    """What both networks make of windows, [B,T,...]."""

    per_frame: Estimate
    refined: Estimate


class JointNetwork(nn.Module):
    """The per-frame network on every frame of a window, then the sequence network."""

    def __init__(
        self, frame: FrameNetwork, sequence: SequenceNetwork, *, frames_at_once: int
    ) -> None:
        super().__init__()
        self.frame, self.sequence = frame, sequence
        self._at_once = frames_at_once

    def train(self, mode: bool = True) -> JointNetwork:
        """Batch statistics of the backbone stand still: the frames of a window are too alike."""
        super().train(mode)
        for layer in self.frame.modules():
            if isinstance(layer, _BatchNorm):
                layer.eval()
        return self

    def forward(self, images: Tensor, valid: Tensor) -> JointEstimates:
        """Estimates of windows of `images` [B,T,3,H,W], of which `valid` [B,T] are frames."""
        count, length = valid.shape
        parts = [self._frames(part) for part in images.flatten(0, 1).split(self._at_once)]
        joined = (torch.cat(values) for values in zip(*parts, strict=True))
        per_frame = Estimate(*(values.unflatten(0, (count, length)) for values in joined))
        return JointEstimates(per_frame, self.sequence(per_frame, valid))

    def _frames(self, images: Tensor) -> Estimate:
        if torch.is_grad_enabled():
            return checkpoint(self.frame, images, use_reentrant=False)
        return self.frame(images)


class JointBatch(NamedTuple):
    """Windows of crops, before augmentation; all have the same length."""

    valid: Tensor
    """[B,T]"""
    crops: FrameBatch
    """[B*T,...] the frames of one window after the other."""

    def first(self, count: int) -> JointBatch:
        """The first windows."""
        draws = self.crops.draws
        frames = first_samples(self.crops._replace(draws=None), count * self.valid.shape[1])
        return JointBatch(
            self.valid[:count], frames._replace(draws=None if draws is None else draws.first(count))
        )


class JointTask:
    """Windows of this worker, both networks and their losses (see `Task`).

    Epoch 0 is the networks as they came: fine-tuning that makes them worse is not kept.
    """

    validate_untrained = True

    def __init__(self, job: JointJob, worker: Worker) -> None:
        data = DataSet.open(job.data, coordinates=job.coordinates)
        self.name, self.settings, self._job = job.name, job.settings, job
        self._worker, self._device = worker, worker.device
        self._margin = float(data.crop["margin"])
        self._predicted = data.predicted()
        threads = threads_per_worker(worker.workers_on_node) if self._device.type != "cpu" else 1
        self._load_training(data, threads)
        validation = load_samples(data, "validation")
        mine = validation.recording % worker.world_size == worker.rank
        self._share = validation.subset(np.flatnonzero(mine))
        self._fps = frame_rate(data, validation.recording_ids)
        self._read_validation = crop_reader(data, self._share, job.frame)
        self._validation = FrameLoader(self._share, self._device, threads=threads)
        self.module = load_networks(data, job).to(self._device)
        if job.frame.channels_last:
            self.module.frame.to(memory_format=torch.channels_last)
        self._head = self.module.frame.head
        self._validator = Validator(self._head, data.skeleton(), data.predicted())

    def _load_training(self, data: DataSet, threads: int) -> None:
        samples = load_samples(data, "train")
        windows, valid = cut_windows(
            samples, self.settings.window, self.settings.stride or self.settings.window
        )
        self._plan = BatchPlan(
            count=len(windows),
            batch_size=self.settings.batch_size,
            seed=self._job.seed,
            world_size=self._worker.world_size,
            rank=self._worker.rank,
        )
        self.steps_per_epoch = self._plan.steps
        self.samples_per_epoch = self._plan.steps * self._plan.slots * windows.shape[1]
        # This worker's crops, and its windows in their numbers.
        needed, numbers = np.unique(windows[self._plan.owned()], return_inverse=True)
        share = samples.subset(needed)
        self._windows = numbers.reshape(-1, windows.shape[1])
        self._valid = valid[self._plan.owned()]
        self._read_training = crop_reader(data, share, self._job.frame)
        self._training = FrameLoader(share, self._device, threads=threads)

    def batches(self, epoch: int) -> Iterator[JointBatch]:
        owned = self._plan.owned()
        steps = [np.searchsorted(owned, rows) for rows in self._plan.epoch(epoch)]
        flat = (self._windows[rows].ravel() for rows in steps)
        places = torch.tensor(list(self._plan.places()), device=self._device)
        loaded = self._training.batches(flat, self._read_training)
        for step, (rows, crops) in enumerate(zip(steps, loaded, strict=True)):
            generator = torch.Generator(self._device).manual_seed(
                number_seed(self._job.seed, epoch, step)
            )
            # One change for a window: its frames belong together.
            length = self._windows.shape[1]
            draws = Draws(generator, total=self._plan.slots, places=places, repeat=length)
            valid = torch.from_numpy(self._valid[rows]).to(self._device)
            yield JointBatch(valid, crops._replace(draws=draws))

    def losses(self, predict: Predict, batch: JointBatch) -> dict[str, Tensor]:
        valid, crops = batch
        assert crops.draws is not None
        images, root_rotation = augment(
            crops.images,
            crops.intrinsics,
            crops.target.root_rotation,
            self._job.frame.image_size,
            crops.draws,
            self._job.frame.augmentation,
            self._margin,
        )
        flat = crops.target._replace(root_rotation=root_rotation)
        target = _windowed(flat, valid)
        found: JointEstimates = predict(self._layout(images).unflatten(0, valid.shape), valid)
        count = self._worker.mean_count
        refined = d3ke_loss(self._head, found.refined, target, self._job.sequence.loss, count)[
            "total"
        ]
        per_frame = d3ke_loss(self._head, found.per_frame, target, self._job.frame.loss, count)[
            "total"
        ]
        total = refined + self.settings.frame_weight * per_frame
        return {"refined": refined, "per_frame": per_frame, "total": total}

    def validate(self, predict: Predict) -> ErrorSums:
        sums = ErrorSums(METRICS, self._device)
        for rows in runs(self._share):
            found, target, valid = self._estimate(predict, rows)
            self._validator.add_frames(sums, *select(found.refined, target, valid))
            pairs = valid[:, :-1] & valid[:, 1:]
            self._validator.add_speeds(
                sums, found.refined.coordinates, target.coordinates, pairs, self._fps
            )
        return sums

    def pictures(self, predict: Predict) -> dict[str, ImageArray]:
        rows = max(runs(self._share), key=len)
        found, target, _ = self._estimate(predict, rows)
        known = target.coordinate_mask[0]
        angles = {
            "label": torch.where(known, target.coordinates[0], torch.nan),
            "per-frame": found.per_frame.coordinates[0].float(),
            "sequence": found.refined.coordinates[0].float(),
        }
        curves = {name: values.cpu().numpy() for name, values in angles.items()}
        name = self._share.recording_ids[self._share.recording[rows[0]]]
        return {
            "angles": curve_picture(self._predicted, np.arange(len(rows)) / self._fps, curves, name)
        }

    def _estimate(self, predict: Predict, rows: IntArray) -> tuple[JointEstimates, Target, Tensor]:
        """Estimates and labels [1,T,...] of one run of frames, as it is."""
        (crops,) = self._validation.batches([rows], self._read_validation)
        images = center_crop(crops.images, self._job.frame.image_size, self._margin)
        valid = torch.ones(1, len(rows), dtype=torch.bool, device=self._device)
        found: JointEstimates = predict(self._layout(images)[None], valid)
        return found, _windowed(crops.target, valid), valid

    def _layout(self, images: Tensor) -> Tensor:
        if not self._job.frame.channels_last:
            return images
        return images.contiguous(memory_format=torch.channels_last)


def load_networks(data: DataSet, job: JointJob) -> JointNetwork:
    """Both networks with the weights they were trained to."""
    head = PredictionHead(data.skeleton(), data.measurements(), data.predicted())
    torch.manual_seed(job.seed)
    frame = FrameNetwork(job.frame.network(), head)
    frame.load_state_dict(saved.load_weights(Path(job.frame_weights)))
    if job.frame.freeze:
        freeze(frame, job.frame.freeze)
    sequence = SequenceNetwork(job.sequence.network(), head)
    sequence.load_state_dict(saved.load_weights(Path(job.sequence_weights)))
    return JointNetwork(frame, sequence, frames_at_once=job.settings.frames_at_once)


def split_weights(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the per-frame and of the sequence network out of those of both."""

    def of(start: str) -> dict[str, Tensor]:
        return {k.removeprefix(start): v for k, v in weights.items() if k.startswith(start)}

    return of(FRAME), of(SEQUENCE)


def runs(samples: Samples) -> list[IntArray]:
    """Samples of every stretch of neighbouring frames, in order; of none, no stretch."""
    if not len(samples):
        return []
    breaks = np.flatnonzero(~neighbours(samples)) + 1
    return np.split(np.arange(len(samples)), breaks)


def cut_windows(samples: Samples, window: int, stride: int) -> tuple[IntArray, BoolArray]:
    """Windows of neighbouring frames.

    Returns:
        samples [n, window] (fewer where no stretch is as long), and whether they are frames of the
        window [n, window]: a shorter stretch is filled up with its last frame.
    """
    stretches = runs(samples)
    window = min(window, max(map(len, stretches)))
    windows, valid = [], []
    for rows in stretches:
        for start in window_starts(len(rows), window, stride):
            at = np.arange(start, start + window)
            windows.append(rows[at.clip(max=len(rows) - 1)])
            valid.append(at < len(rows))
    return np.stack(windows), np.stack(valid)


def _windowed(target: Target, valid: Tensor) -> Target:
    """Labels [B*T,...] as those of windows [B,T,...]."""
    parts = (part if part is None else part.unflatten(0, valid.shape) for part in target)
    return Target._make(parts)._replace(valid=valid)
