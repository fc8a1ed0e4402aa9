"""Crops of a training set that is not held in memory, read and decoded ahead of the network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from d3ke.arrays import ImageArray, IntArray
from d3ke_platform.training.batch_plan import places
from d3ke_platform.training.crop_files import CropTable, decode_crops
from d3ke_platform.training.stream_plan import StreamPlan


class EncodedShare(NamedTuple):
    """A worker's samples of one step, as they lie in the files."""

    epoch: int
    step: int
    rank: int
    samples: IntArray
    """[b]"""
    jpegs: list[bytes]


class DecodedShare(NamedTuple):
    """The same, decoded."""

    samples: IntArray
    """[b]"""
    images: ImageArray
    """[b,3,H,W] RGB."""


@dataclass(frozen=True, kw_only=True)
class CropStream:
    """Reads rounds of a plan; picklable, and every round is the same wherever it is read."""

    plan: StreamPlan
    table: CropTable
    world_size: int = 1
    """Workers that share every step."""
    first_epoch: int = 0
    """Epoch of round 0 of `__call__`."""

    def round(self, epoch: int, number: int) -> Iterator[EncodedShare]:
        """Shares of a round's steps: all workers' of the first one, then of the next."""
        samples = self.plan.round(epoch, number)
        crops = self.table.read(samples.ravel())
        width, first = samples.shape[1], number * self.plan.steps_per_round
        for step, row in enumerate(samples):
            for rank in range(self.world_size):
                own = list(places(width, rank, self.world_size))
                jpegs = [crops[step * width + place] for place in own]
                yield EncodedShare(epoch, first + step, rank, row[own], jpegs)

    def __call__(self, unit: int) -> Iterator[EncodedShare]:
        """Shares of the rounds of all epochs in a row, counted from `first_epoch`."""
        epoch, number = divmod(unit, self.plan.rounds)
        return self.round(self.first_epoch + epoch, number)


def decode_share(share: EncodedShare) -> dict[str, np.ndarray]:
    """The share as named arrays, decoded."""
    return {
        "place": np.array([share.epoch, share.step, share.rank]),
        "samples": share.samples,
        "images": decode_crops(share.jpegs),
    }
