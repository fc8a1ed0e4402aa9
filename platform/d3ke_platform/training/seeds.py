"""Seeds of random numbers that belong to a place in a training."""

from __future__ import annotations

import numpy as np


def number_seed(*numbers: int) -> int:
    """A seed of its own for every series of numbers, such as (seed, epoch, worker)."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
