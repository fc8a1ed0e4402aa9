"""Which samples form each optimiser step, independent of the number of workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d3ke.arrays import IntArray
from d3ke.errors import InvalidInputError


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Shuffled batches that one or several workers share.

    Every sample belongs for good to one of `batch_size` slots, and step k of an epoch takes the
    k-th sample of each slot's own shuffled order. A worker owns every `world_size`-th slot: it
    needs to hold only its own samples, and yet the samples of a step are the same for any number
    of workers, also one that does not divide the batch. Slots that are one sample short repeat one.
    """

    count: int
    """Samples of the data set."""
    batch_size: int
    """Samples of a step, over all workers."""
    seed: int
    world_size: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        require_shares(self.count, self.batch_size, self.world_size)

    @property
    def slots(self) -> int:
        """Samples of a step; fewer than `batch_size` when the data set is smaller than that."""
        return min(self.batch_size, self.count)

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return -(-self.count // self.slots)

    def owned(self) -> IntArray:
        """Samples this worker reads in the course of an epoch, [n], ascending."""
        return np.sort(np.concatenate([self._members(slot) for slot in self.places()]))

    def epoch(self, epoch: int) -> IntArray:
        """Samples of this worker at every step of `epoch`, [steps, its slots]."""
        columns = []
        for slot in self.places():
            members = self._members(slot)
            order = np.random.default_rng((self.seed, epoch, slot)).permutation(members)
            columns.append(np.resize(order, self.steps))
        return np.stack(columns, axis=1)

    def places(self) -> range:
        """Slots of this worker: the places of its samples in the batch of all workers."""
        return places(self.slots, self.rank, self.world_size)

    def _members(self, slot: int) -> IntArray:
        order = np.random.default_rng(self.seed).permutation(self.count)
        return order[slot :: self.slots]


def places(slots: int, rank: int, world_size: int) -> range:
    """Places that a worker has in a batch of `slots` samples."""
    return range(rank, slots, world_size)


def require_shares(count: int, batch_size: int, world_size: int) -> None:
    """Check that every worker gets a sample of each step.

    Raises:
        InvalidInputError: fewer samples, or a smaller batch, than workers.
    """
    if count < world_size:
        raise InvalidInputError(
            "training set",
            f"{count} samples for {world_size} workers",
            f"Use --workers {max(1, count)} or fewer.",
        )
    if batch_size < world_size:
        raise InvalidInputError(
            "batch_size",
            f"{batch_size} samples for {world_size} workers",
            f"Use a batch of at least {world_size}, or --workers {batch_size}.",
        )
