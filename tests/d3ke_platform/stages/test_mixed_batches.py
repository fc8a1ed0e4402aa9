"""Many callers, common batches: everybody gets their own estimates back."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke_platform.stages.estimate import EstimateArrays
from d3ke_platform.stages.mixed_batches import MixedBatches


class Brightness:
    """Takes the first pixel for the estimate; refuses black."""

    batch_size = 16

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def start(self, images: np.ndarray) -> Any:
        self.gate.wait()
        self.sizes.append(len(images))
        if (images == 0).all():
            raise ValueError("black")
        time.sleep(0.002)
        return images[:, 0, 0, :1].astype(float)

    def finish(self, estimate: Any) -> EstimateArrays:
        rotation = np.repeat(np.eye(3)[None], len(estimate), axis=0)
        return EstimateArrays(estimate, rotation, estimate)


def crops(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)


def test_callers_share_batches_and_get_their_own() -> None:
    network = Brightness()
    batches = MixedBatches(network, patience_s=0.05)
    random = np.random.default_rng(0)
    asked = [crops(*random.integers(1, 255, random.integers(1, 12))) for _ in range(60)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(batches.estimate, asked))
    for images, answer in zip(asked, answers, strict=True):
        np.testing.assert_array_equal(answer.coordinates[:, 0], images[:, 0, 0, 0])
    assert max(network.sizes) <= 16
    assert sum(network.sizes) == sum(map(len, asked)) == batches.images
    assert batches.batches == len(network.sizes) < len(asked)
    assert batches.busy_s > 0


def test_what_does_not_fit_leads_the_next_batch() -> None:
    network = Brightness()
    network.gate.clear()
    batches = MixedBatches(network, patience_s=0.2)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(batches.estimate, crops(*range(1, 11)))
        time.sleep(0.05)
        second = pool.submit(batches.estimate, crops(*range(21, 31)))
        network.gate.set()
        np.testing.assert_array_equal(first.result().coordinates[:, 0], range(1, 11))
        np.testing.assert_array_equal(second.result().coordinates[:, 0], range(21, 31))
    assert network.sizes == [10, 10]


def test_an_error_reaches_its_callers_and_the_next_are_served() -> None:
    batches = MixedBatches(Brightness())
    with pytest.raises(ValueError, match="black"):
        batches.estimate(crops(0, 0))
    with pytest.raises(InvalidInputError, match="uint8"):
        batches.estimate(np.zeros((1, 4, 4, 3)))
    assert batches.estimate(crops(7)).coordinates.tolist() == [[7.0]]
