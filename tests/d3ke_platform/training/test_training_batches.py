"""Batches: every sample once an epoch, the same for any number of workers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3ke.errors import InvalidInputError
from d3ke_platform.training.batch_plan import BatchPlan


def plans(count, batch_size, workers, seed=5):
    return [
        BatchPlan(count=count, batch_size=batch_size, seed=seed, world_size=workers, rank=rank)
        for rank in range(workers)
    ]


@pytest.mark.parametrize("epoch", [0, 3])
def test_global_batches_do_not_depend_on_the_workers(epoch):
    (alone,) = plans(103, 12, 1)
    for workers in (2, 3, 4):
        shares = [plan.epoch(epoch) for plan in plans(103, 12, workers)]
        for step, batch in enumerate(alone.epoch(epoch)):
            together = np.concatenate([share[step] for share in shares])
            assert sorted(together) == sorted(batch)


def test_workers_read_only_samples_they_own():
    first, second = plans(103, 12, 2)
    for plan in (first, second):
        seen = np.unique(np.concatenate([plan.epoch(e).ravel() for e in range(3)]))
        np.testing.assert_array_equal(seen, plan.owned())
    assert not set(first.owned()) & set(second.owned())


@given(count=st.integers(2, 200), batch=st.integers(1, 40), workers=st.integers(1, 2))
def test_every_sample_is_used_each_epoch(count, batch, workers):
    made = plans(count, batch * workers, workers)
    used = np.concatenate([plan.epoch(1).ravel() for plan in made])
    assert set(used) == set(range(count))
    # Only short slots repeat a sample, and each only one.
    assert len(used) - count < max(made[0].slots, 1)
    assert len(used) == made[0].steps * made[0].slots


def test_epochs_are_shuffled_differently_and_reproducibly():
    (plan,) = plans(60, 6, 1)
    assert not np.array_equal(plan.epoch(0), plan.epoch(1))
    np.testing.assert_array_equal(plan.epoch(1), plan.epoch(1))
    (other,) = plans(60, 6, 1, seed=6)
    assert not np.array_equal(plan.epoch(0), other.epoch(0))


def test_every_worker_gets_a_sample_of_a_step():
    with pytest.raises(
        InvalidInputError, match=r"batch_size: 3 samples for 4 workers.*--workers 3"
    ):
        plans(50, 3, 4)


def test_fewer_samples_than_workers():
    with pytest.raises(InvalidInputError, match="1 samples for 2 workers"):
        plans(1, 2, 2)
