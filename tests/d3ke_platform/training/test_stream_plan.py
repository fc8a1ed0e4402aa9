"""The order of streamed crops: every sample once an epoch, mixed, the same wherever it is made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3ke.errors import InvalidInputError
from d3ke_platform.training.stream_plan import StreamPlan


def plan(sizes, batch_size=8, buffer=40, seed=5):
    return StreamPlan(sizes=np.array(sizes), batch_size=batch_size, buffer=buffer, seed=seed)


def whole_epoch(made, epoch):
    return np.concatenate([made.round(epoch, number) for number in range(made.rounds)])


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    batch=st.integers(1, 30),
    buffer=st.integers(1, 200),
)
def test_every_sample_is_used_each_epoch(sizes, batch, buffer):
    made = plan(sizes, batch, buffer)
    rows = whole_epoch(made, 1)
    assert rows.shape == (made.steps, made.slots)
    numbers, times = np.unique(rows, return_counts=True)
    np.testing.assert_array_equal(numbers, np.arange(sum(sizes)))
    # Only the last step is filled up.
    assert times.sum() - len(numbers) < made.slots


def test_epochs_and_seeds_have_orders_of_their_own():
    sizes = [10] * 12
    made = plan(sizes)
    first = whole_epoch(made, 0)
    np.testing.assert_array_equal(first, whole_epoch(plan(sizes), 0))
    assert not np.array_equal(first, whole_epoch(made, 1))
    assert not np.array_equal(first, whole_epoch(plan(sizes, seed=6), 0))


def test_a_round_needs_few_shards_and_mixes_them():
    made = plan([20] * 100, batch_size=16, buffer=200)
    for number in range(made.rounds):
        rows = made.round(3, number)
        shards = np.unique(rows // 20)
        # 208 samples of shards of 20, two of them cut.
        assert len(shards) <= 12
        if number < made.rounds - 1:
            assert min(len(np.unique(step // 20)) for step in rows) > 4


def test_a_small_set_is_one_batch():
    made = plan([3, 2], batch_size=8)
    assert (made.slots, made.steps, made.rounds) == (5, 1, 1)
    with pytest.raises(InvalidInputError, match="5 samples for 6 workers"):
        made.require_workers(6)
