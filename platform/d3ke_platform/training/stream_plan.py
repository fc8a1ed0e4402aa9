"""The order of a training set that is read anew every epoch because it does not fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from d3ke.arrays import IntArray
from d3ke_platform.training.batch_plan import require_shares

_SHARDS, _ROWS, _ROUNDS = range(3)
"""What is shuffled; each gets random numbers of its own."""


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """Epochs of shuffled batches that read every shard about once.

    Samples are numbered shard by shard. An epoch lays the shards out in a new order, the samples of
    each in a new order too, and cuts this line into rounds of `buffer` samples; the samples of a
    round are shuffled once more and dealt to its steps. A round can be made from the plan alone, so
    that any process may make it, and it is the same whatever the number of workers is.
    """

    sizes: IntArray
    """[shards] samples of each."""
    batch_size: int
    """Samples of a step, over all workers."""
    buffer: int
    """Samples that are shuffled together; rounded up to whole steps."""
    seed: int

    @property
    def count(self) -> int:
        """Samples of the training set."""
        return int(self.sizes.sum())

    @property
    def slots(self) -> int:
        """Samples of a step; fewer than `batch_size` when the data set is smaller than that."""
        return min(self.batch_size, self.count)

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch."""
        return -(-self.count // self.slots)

    @property
    def steps_per_round(self) -> int:
        """Steps of every round but the last, which may have fewer."""
        return max(1, -(-self.buffer // self.slots))

    @property
    def rounds(self) -> int:
        """Rounds of an epoch."""
        return -(-self.steps // self.steps_per_round)

    def require_workers(self, world_size: int) -> None:
        """Raises InvalidInputError when there are fewer samples of a step than workers."""
        require_shares(self.count, self.batch_size, world_size)

    def round(self, epoch: int, number: int) -> IntArray:
        """Samples of the steps of a round, [steps, slots]; an epoch's last step is filled up with
        samples of its round."""
        order = self._random(_SHARDS, epoch).permutation(len(self.sizes))
        ends = np.cumsum(self.sizes[order])
        size = self.steps_per_round * self.slots
        first, last = number * size, min((number + 1) * size, self.count)
        parts = []
        for place in range(int(np.searchsorted(ends, first, side="right")), len(order)):
            shard = int(order[place])
            start = int(ends[place] - self.sizes[shard])
            if start >= last:
                break
            rows = self._random(_ROWS, epoch, shard).permutation(self.sizes[shard])
            parts.append(self._firsts[shard] + rows[max(0, first - start) : last - start])
        samples = self._random(_ROUNDS, epoch, number).permutation(np.concatenate(parts))
        steps = -(-len(samples) // self.slots)
        return np.resize(samples, (steps, self.slots))

    @cached_property
    def _firsts(self) -> IntArray:
        """[shards] number of each shard's first sample."""
        return np.cumsum(self.sizes) - self.sizes

    def _random(self, *place: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, *place))
