"""Training of the sequence network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from d3ke.arrays import ImageArray
from d3ke.losses import Target, d3ke_loss
from d3ke.networks.prediction import Estimate, PredictionHead
from d3ke.networks.sequence_network import SequenceNetwork
from d3ke_platform.storage import DataSet
from d3ke_platform.training.batch_plan import BatchPlan
from d3ke_platform.training.error_sums import ErrorSums
from d3ke_platform.training.pictures import curve_picture
from d3ke_platform.training.samples import load_samples
from d3ke_platform.training.sequences import (
    LabelledSequence,
    Windows,
    WindowSet,
    frame_rate,
    load_sequences,
)
from d3ke_platform.training.settings import SequenceTraining
from d3ke_platform.training.task import Predict
from d3ke_platform.training.validation import METRICS, Validator
from d3ke_platform.training.worker import Worker

_WHOLE = 2**31
"""Length of a window that no recording exceeds."""
_VALIDATION_FRAMES = 8192
"""Frames per validation batch; bounds its memory."""


@dataclass(frozen=True, kw_only=True)
class SequenceJob:
    """Train the sequence network on per-frame estimates of a data set's recordings."""

    data: str
    settings: SequenceTraining
    seed: int
    training_passes: tuple[str, ...]
    """Folders with estimates of every training recording, one per pass."""
    validation_estimates: str
    """Folder with estimates of every validation recording."""
    coordinates: tuple[str, ...] = ()
    """Predicted coordinates or groups; () = all of the data set's."""
    name: str = "sequence"

    def task(self, worker: Worker) -> SequenceTask:
        return SequenceTask(self, worker)


def batch_norm_momentum(epoch: int, epochs: int) -> float:
    """Share of a batch in the running statistics: from 0.1 down to 0.001 in the last epoch, as in
    VideoPose3D (the temporal convolution alone has such layers)."""
    return 0.1 * 100.0 ** (-epoch / max(epochs - 1, 1))


class SequenceTask:
    """Windows of this worker, the network and its losses (see `Task`).

    Epoch 0 is the untrained network, which is the identity: the choice of the best epoch on the
    validation subjects can therefore never make the estimates worse than the per-frame ones.
    """

    validate_untrained = True

    def __init__(self, job: SequenceJob, worker: Worker) -> None:
        data = DataSet.open(job.data, coordinates=job.coordinates)
        self.name, self.settings = job.name, job.settings
        self._worker, self._device = worker, worker.device
        train, recordings = load_split(data, "train", job.training_passes)
        self._fps = frame_rate(data, recordings)
        validation, recordings = load_split(data, "validation", (job.validation_estimates,))
        frame_rate(data, recordings)
        self._predicted, self._first_recording = data.predicted(), recordings[0]
        settings = job.settings
        self._train = WindowSet(train, window=settings.window, stride=settings.window_stride)
        self._validation = WindowSet(
            validation[worker.rank :: worker.world_size], window=_WHOLE, stride=1
        )
        self._plan = BatchPlan(
            count=len(self._train),
            batch_size=settings.batch_size,
            seed=job.seed,
            world_size=worker.world_size,
            rank=worker.rank,
        )
        self.steps_per_epoch = self._plan.steps
        self.samples_per_epoch = self._plan.steps * self._plan.slots
        torch.manual_seed(job.seed)
        head = PredictionHead(data.skeleton(), data.measurements(), data.predicted())
        self.module = SequenceNetwork(settings.network(), head).to(self._device)
        self._head = self.module.head
        self._validator = Validator(self._head, data.skeleton(), data.predicted())

    def batches(self, epoch: int) -> Iterator[Windows]:
        for layer in self.module.modules():
            if isinstance(layer, _BatchNorm):
                layer.momentum = batch_norm_momentum(epoch, self.settings.total_epochs)
        for rows in self._plan.epoch(epoch):
            yield self._train.batch(rows, self._device)

    def losses(self, predict: Predict, batch: Windows) -> dict[str, Tensor]:
        estimate = predict(batch.estimate, batch.valid)
        return d3ke_loss(
            self._head, estimate, batch.target, self.settings.loss, self._worker.mean_count
        )

    def validate(self, predict: Predict) -> ErrorSums:
        sums = ErrorSums(METRICS, self._device)
        count = len(self._validation)
        # Recordings are refined whole, as in scoring.
        size = max(1, _VALIDATION_FRAMES // self._validation.window)
        for start in range(0, count, size):
            rows = np.arange(start, min(start + size, count))
            batch = self._validation.batch(rows, self._device)
            estimate = predict(batch.estimate, batch.valid)
            self._validator.add_frames(sums, *select(estimate, batch.target, batch.labelled()))
            pairs = batch.labelled()[:, :-1] & batch.labelled()[:, 1:]
            self._validator.add_speeds(
                sums, estimate.coordinates, batch.target.coordinates, pairs, self._fps
            )
        return sums

    def pictures(self, predict: Predict) -> dict[str, ImageArray]:
        batch = self._validation.batch(np.array([0]), self._device)
        estimate = predict(batch.estimate, batch.valid)
        inside = batch.valid[0].cpu()
        known = (batch.target.coordinate_mask & batch.labelled()[..., None])[0]
        angles = {
            "label": torch.where(known, batch.target.coordinates[0], torch.nan),
            "per-frame": batch.estimate.coordinates[0],
            "sequence": estimate.coordinates[0].float(),
        }
        time_s = np.arange(int(inside.sum())) / self._fps
        curves = {name: values.cpu()[inside].numpy() for name, values in angles.items()}
        return {"angles": curve_picture(self._predicted, time_s, curves, self._first_recording)}


def load_split(
    data: DataSet, split: str, folders: tuple[str, ...]
) -> tuple[list[LabelledSequence], tuple[str, ...]]:
    """Labelled sequences of a split, once per folder of estimates, and the recordings' ids."""
    samples = load_samples(data, split)
    sequences: list[LabelledSequence] = []
    for folder in folders:
        uris = [f"{folder}/{recording}.parquet" for recording in samples.recording_ids]
        sequences += load_sequences(samples, uris)
    return sequences, samples.recording_ids


def select(estimate: Estimate, target: Target, mask: Tensor) -> tuple[Estimate, Target]:
    """The frames [n,...] of windows [B,T,...] where `mask` [B,T]."""
    labels: dict[str, Any] = {k: v if v is None else v[mask] for k, v in target._asdict().items()}
    return Estimate(*(values[mask] for values in estimate)), Target(**labels)
