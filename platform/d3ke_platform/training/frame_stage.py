"""Training of the per-frame network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from d3ke.arrays import ImageArray, IntArray
from d3ke.augmentation import augment, center_crop
from d3ke.draws import Draws
from d3ke.losses import d3ke_loss
from d3ke.mirroring import Mirror
from d3ke.networks.frame_network import FrameNetwork
from d3ke.networks.prediction import Estimate, PredictionHead, mean_estimate
from d3ke.occluders import OccluderBank
from d3ke_platform.storage import DataSet
from d3ke_platform.training.error_sums import ErrorSums
from d3ke_platform.training.frame_crops import crop_reader, make_frame_crops, share_places
from d3ke_platform.training.loader import FrameBatch, FrameLoader
from d3ke_platform.training.pictures import (
    Place,
    choose_places,
    curve_picture,
    skeleton_picture,
)
from d3ke_platform.training.samples import Samples, load_samples, neighbours
from d3ke_platform.training.seeds import number_seed
from d3ke_platform.training.sequences import frame_rate
from d3ke_platform.training.settings import FrameTraining
from d3ke_platform.training.task import Predict
from d3ke_platform.training.transfer import freeze, start_from_bundle
from d3ke_platform.training.validation import METRICS, Validator
from d3ke_platform.training.worker import Worker, threads_per_worker


@dataclass(frozen=True, kw_only=True)
class FrameJob:
    """Train the per-frame network on the crops of a data set."""

    data: str
    settings: FrameTraining
    seed: int
    exclude_subjects: tuple[str, ...] = ()
    """Training subjects to leave out (cross-fitting)."""
    coordinates: tuple[str, ...] = ()
    """Predicted coordinates or groups; () = all of the data set's."""
    name: str = "frame"

    def task(self, worker: Worker) -> FrameTask:
        return FrameTask(self, worker)


class FrameTask:
    """Crops of this worker, the network and its losses (see `Task`)."""

    validate_untrained = False

    def __init__(self, job: FrameJob, worker: Worker) -> None:
        data = DataSet.open(job.data, coordinates=job.coordinates)
        self.name, self.settings = job.name, job.settings
        self._seed, self._worker, self._device = job.seed, worker, worker.device
        self._margin = float(data.crop["margin"])
        train = load_samples(data, "train", exclude_subjects=job.exclude_subjects)
        # On the CPU the network needs the cores itself.
        threads = threads_per_worker(worker.workers_on_node) if self._device.type != "cpu" else 1
        self._crops = make_frame_crops(
            data, train, job.settings, seed=job.seed, worker=worker, threads=threads
        )
        self.steps_per_epoch = self._crops.steps
        self.samples_per_epoch = self._crops.steps * self._crops.slots
        validation = load_samples(data, "validation")
        # Whole recordings, so that each worker sees neighbouring frames.
        mine = validation.recording % worker.world_size == worker.rank
        share = validation.subset(np.flatnonzero(mine))
        self._data = data
        # What fits in training fits without gradients.
        self._size = -(-job.settings.batch_size // worker.world_size)
        self._places: Place | None = None
        self._share, self._fps = share, frame_rate(data, validation.recording_ids)
        self._read_validation = crop_reader(data, share, job.settings)
        self._validation = FrameLoader(share, self._device, threads=threads)
        self.module = make_frame_network(data, job, train).to(self._device)
        if job.settings.channels_last:
            self.module.to(memory_format=torch.channels_last)
        self._head = self.module.head
        self._validator = Validator(self._head, data.skeleton(), data.predicted())
        self._weights = job.settings.loss
        folder = job.settings.augmentation.occluders
        self._occluders = OccluderBank(folder).to(self._device) if folder else None
        self._mirror = (
            Mirror(data.skeleton(), data.measurements(), data.predicted()).to(self._device)
            if job.settings.augmentation.mirror_probability
            else None
        )

    def batches(self, epoch: int) -> Iterator[FrameBatch]:
        places = torch.tensor(share_places(self._crops, self._worker), device=self._device)
        for step, batch in enumerate(self._crops.epoch(epoch)):
            # The same numbers for a sample whichever worker has it.
            generator = torch.Generator(self._device).manual_seed(
                number_seed(self._seed, epoch, step)
            )
            draws = Draws(generator, total=self._crops.slots, places=places)
            yield batch._replace(draws=draws)

    def losses(self, predict: Predict, batch: FrameBatch) -> dict[str, Tensor]:
        images, intrinsics, target, draws = batch
        assert draws is not None
        if self._mirror is not None:
            probability = self.settings.augmentation.mirror_probability
            images, intrinsics, target = self._mirror.some(
                images, intrinsics, target, draws, probability
            )
        images, root_rotation = augment(
            images,
            intrinsics,
            target.root_rotation,
            self.settings.image_size,
            draws,
            self.settings.augmentation,
            self._margin,
            self._occluders,
        )
        target = target._replace(root_rotation=root_rotation)
        estimate = predict(self._layout(images))
        return d3ke_loss(self._head, estimate, target, self._weights, self._worker.mean_count)

    def validate(self, predict: Predict) -> ErrorSums:
        sums = ErrorSums(METRICS, self._device)
        size = self._size
        count = len(self._share)
        rows = [np.arange(first, min(first + size, count)) for first in range(0, count, size)]
        angles = []
        for batch, estimate in self._estimates(predict, rows):
            self._validator.add_frames(sums, estimate, batch.target)
            angles.append(estimate.coordinates.float())
        if angles:
            labels = torch.from_numpy(self._share.coordinates).to(self._device)
            pairs = torch.from_numpy(neighbours(self._share)).to(self._device)
            self._validator.add_speeds(
                sums, torch.cat(angles)[None], labels[None], pairs[None], self._fps
            )
        return sums

    def pictures(self, predict: Predict) -> dict[str, ImageArray]:
        if self._places is None:
            self._places = choose_places(self._data, self._share)
        (batch, estimate), *_ = self._estimates(predict, [self._places.rows])
        recording = int(self._share.recording[self._places.rows[0]])
        rows = np.flatnonzero(self._share.recording == recording)
        size = self._size
        parts = [rows[first : first + size] for first in range(0, len(rows), size)]
        angles = [one.coordinates.float().cpu() for _, one in self._estimates(predict, parts)]
        known = self._share.coordinate_mask[rows]
        return {
            "skeletons": skeleton_picture(
                batch.images.cpu().numpy(),
                batch.intrinsics.cpu().numpy(),
                self._places.pelvis,
                self._head,
                estimate,
                batch.target,
                self._data.predicted().bony_landmarks,
            ),
            "angles": curve_picture(
                self._data.predicted(),
                self._share.frame[rows] / self._fps,
                {
                    "label": np.where(known, self._share.coordinates[rows], np.nan),
                    "per-frame": torch.cat(angles).numpy(),
                },
                self._share.recording_ids[recording],
            ),
        }

    def _estimates(
        self, predict: Predict, rows: Iterable[IntArray]
    ) -> Iterator[tuple[FrameBatch, Estimate]]:
        """Validation samples, as they are, with their estimates."""
        for batch in self._validation.batches(rows, self._read_validation):
            images = center_crop(batch.images, self.settings.image_size, self._margin)
            yield batch, predict(self._layout(images))

    def _layout(self, images: Tensor) -> Tensor:
        if not self.settings.channels_last:
            return images
        return images.contiguous(memory_format=torch.channels_last)


def make_frame_network(data: DataSet, job: FrameJob, train: Samples) -> FrameNetwork:
    """The network before training: it predicts the mean of the training labels, but for what it
    takes over from a bundle."""
    torch.manual_seed(job.seed)
    head = PredictionHead(data.skeleton(), data.measurements(), data.predicted())
    labels = Estimate(
        coordinates=torch.from_numpy(train.coordinates),
        root_rotation=torch.from_numpy(train.root_rotation),
        factors=torch.from_numpy(train.factors),
    )
    start = mean_estimate(labels, torch.from_numpy(train.coordinate_mask))
    network = FrameNetwork(job.settings.network(), head, start)
    if job.settings.bundle:
        start_from_bundle(network, job.settings.bundle)
    if job.settings.freeze:
        freeze(network, job.settings.freeze)
    return network
