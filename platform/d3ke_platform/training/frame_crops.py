"""Crops of the training set as batches of a worker: held in memory, or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from d3ke.errors import D3KEError
from d3ke_platform.storage import DataSet, file_sizes
from d3ke_platform.training.batch_plan import BatchPlan, places
from d3ke_platform.training.crop_stream import CropStream, DecodedShare, EncodedShare, decode_share
from d3ke_platform.training.loader import FrameBatch, FrameLoader, ReadCrops, prefetch
from d3ke_platform.training.samples import Samples
from d3ke_platform.training.settings import FrameTraining
from d3ke_platform.training.stream_plan import StreamPlan
from d3ke_platform.training.worker import Worker

_STREAM_MEMORY = 2**28
"""Object store memory that streaming gets besides what its buffer needs [bytes]."""
_ROWS_UNDER_WAY = 8
"""Decoded steps of a worker that may wait for it."""


class FrameCrops(Protocol):
    """Batches of the training set for one worker."""

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""

    @property
    def slots(self) -> int:
        """Samples of a step over all workers."""

    def epoch(self, epoch: int) -> Iterator[FrameBatch]:
        """This worker's batches of an epoch, in the order of its steps."""


def make_frame_crops(
    data: DataSet,
    samples: Samples,
    settings: FrameTraining,
    *,
    seed: int,
    worker: Worker,
    threads: int,
) -> FrameCrops:
    """The training set `samples` as the settings ask for it; `threads` decode in this process."""
    if streams(data, samples, settings):
        return StreamedCrops(data, samples, settings, seed=seed, worker=worker, threads=threads)
    return CropsInMemory(data, samples, settings, seed=seed, worker=worker, threads=threads)


def streams(data: DataSet, samples: Samples, settings: FrameTraining) -> bool:
    """Whether the crops of `samples` are streamed. Depends on the data alone, not on the machine:
    the order of samples does as well, and a run may be continued elsewhere."""
    if settings.loading != "auto":
        return settings.loading == "stream"
    return encoded_bytes(data, samples) > settings.memory_gb * 1e9


def encoded_bytes(data: DataSet, samples: Samples) -> int:
    """Size of the files with the crops of `samples`, nearly all of it pictures."""
    sizes = file_sizes(data.uri("crops"))
    names = {uri.rsplit("/", 1)[-1]: size for uri, size in sizes.items()}
    return sum(names.get(f"{name}.parquet", 0) for name in samples.recording_ids)


class CropsInMemory:
    """Every worker reads its share of the encoded crops once and keeps it."""

    def __init__(
        self,
        data: DataSet,
        samples: Samples,
        settings: FrameTraining,
        *,
        seed: int,
        worker: Worker,
        threads: int,
    ) -> None:
        self._plan = BatchPlan(
            count=len(samples),
            batch_size=settings.batch_size,
            seed=seed,
            world_size=worker.world_size,
            rank=worker.rank,
        )
        self.steps, self.slots = self._plan.steps, self._plan.slots
        self._owned = self._plan.owned()
        share = samples.subset(self._owned)
        self._jpegs = samples.crop_table(data).read(self._owned)
        self._loader = FrameLoader(share, worker.device, threads=threads)

    def epoch(self, epoch: int) -> Iterator[FrameBatch]:
        steps = (np.searchsorted(self._owned, rows) for rows in self._plan.epoch(epoch))
        return self._loader.batches(steps, lambda rows: [self._jpegs[row] for row in rows])


class StreamedCrops:
    """The crops are read anew every epoch. What is held is a few rounds of the plan, whatever the
    size of the set; only the labels are in memory (half a kilobyte per crop, in every worker).

    Several workers, and one of Ray Train, read one pipeline of Ray Data, which decodes on all
    nodes; a training in this process reads and decodes in threads.
    """

    def __init__(
        self,
        data: DataSet,
        samples: Samples,
        settings: FrameTraining,
        *,
        seed: int,
        worker: Worker,
        threads: int,
    ) -> None:
        self._samples, self._worker, self._threads = samples, worker, threads
        self._table = samples.crop_table(data)
        self._plan = StreamPlan(
            sizes=self._table.shard_sizes(),
            batch_size=settings.batch_size,
            buffer=settings.shuffle_buffer,
            seed=seed,
        )
        self._plan.require_workers(worker.world_size)
        self.steps, self.slots = self._plan.steps, self._plan.slots
        self._epochs = settings.total_epochs
        self._bytes_per_crop = encoded_bytes(data, samples) / len(samples)
        self._stored = int(data.crop["stored_size"])
        self._loader = FrameLoader(samples, worker.device)
        self._rows: Iterator[dict[str, np.ndarray]] | None = None
        self._next = -1

    def epoch(self, epoch: int) -> Iterator[FrameBatch]:
        shares = self._streamed(epoch) if self._worker.has_cluster else self._in_threads(epoch)
        return self._loader.decoded(shares)

    def _in_threads(self, epoch: int) -> Iterator[DecodedShare]:
        stream = CropStream(plan=self._plan, table=self._table)

        def read(number: int) -> list[EncodedShare]:
            return list(stream.round(epoch, number))

        def decode(share: EncodedShare) -> DecodedShare:
            return DecodedShare(share.samples, decode_share(share)["images"])

        # One round is read while the one before it is used up.
        rounds = prefetch(read, range(self._plan.rounds), threads=1, ahead=1)
        shares = (share for shares in rounds for share in shares)
        return prefetch(decode, shares, threads=self._threads)

    def _streamed(self, epoch: int) -> Iterator[DecodedShare]:
        from d3ke_platform.pipelines.ordered_stream import read_stream

        if self._rows is None or self._next != epoch:
            iterators = self._worker.share(lambda: self._open(epoch))
            self._rows = read_stream(iterators[self._worker.rank])
        self._next = epoch + 1
        for step in range(self.steps):
            row = next(self._rows)
            wanted, found = (epoch, step, self._worker.rank), tuple(row["place"].tolist())
            if wanted != found:
                raise D3KEError(
                    f"Ray Data dealt out step {found} instead of {wanted} (epoch, step, worker). "
                    "Use --frame.loading memory."
                )
            yield DecodedShare(row["samples"], row["images"])

    def _open(self, epoch: int) -> list[object]:
        """The pipeline of all epochs from `epoch` on, made by one worker for all."""
        from d3ke_platform.pipelines.ordered_stream import ordered_streams

        world_size = self._worker.world_size
        encoded = self._plan.steps_per_round * self.slots * self._bytes_per_crop
        decoded = _ROWS_UNDER_WAY * self.slots * 3 * self._stored**2
        return ordered_streams(
            CropStream(
                plan=self._plan, table=self._table, world_size=world_size, first_epoch=epoch
            ),
            decode_share,
            units=(self._epochs - epoch) * self._plan.rounds,
            consumers=world_size,
            memory_bytes=int(_STREAM_MEMORY + 2 * encoded + decoded),
        )


def share_places(crops: FrameCrops, worker: Worker) -> list[int]:
    """Places of a worker's samples in the batch of all workers."""
    return list(places(crops.slots, worker.rank, worker.world_size))


def crop_reader(data: DataSet, samples: Samples, settings: FrameTraining) -> ReadCrops:
    """Reads encoded crops of rows of `samples`: out of memory, or of the files where training
    streams."""
    table = samples.crop_table(data)
    if streams(data, samples, settings):
        return table.read
    jpegs = table.read(np.arange(len(samples)))
    return lambda rows: [jpegs[row] for row in rows]
