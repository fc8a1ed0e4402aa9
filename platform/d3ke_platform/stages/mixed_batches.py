"""Crops of many videos in common batches: a network that many callers share."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

import numpy as np

from d3ke.arrays import ImageArray
from d3ke_platform.stages.estimate import EstimateArrays, check_images


class Estimator(Protocol):
    """What `FrameEstimator` offers."""

    batch_size: int

    def start(self, images: ImageArray) -> Any:
        """Start on a batch."""
        ...

    def finish(self, estimate: Any) -> EstimateArrays:
        """Wait for its estimates."""
        ...


class _Request(NamedTuple):
    images: ImageArray
    answer: Future[EstimateArrays]


class MixedBatches:
    """Collects crops from threads that wait, and gives the network full batches of them.

    One thread puts batches together and starts them, another waits for their results, so that a
    GPU has its next batch before it is done with one.
    """

    def __init__(
        self,
        estimator: Estimator,
        *,
        patience_s: float = 0.005,
        on_busy: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """Args:
        patience_s: how long a batch that is not full waits for more crops, s.
        on_busy: told the seconds that the network was at work on each batch.
        """
        self._on_busy = on_busy
        self._estimator, self._patience_s = estimator, patience_s
        self._requests: queue.Queue[_Request] = queue.Queue()
        self._started: queue.Queue[tuple[list[_Request], Any, float]] = queue.Queue(1)
        self._left_over: _Request | None = None
        self._busy_until = 0.0
        self.busy_s = 0.0
        self.images = 0
        self.batches = 0
        for work in (self._start, self._finish):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def estimate(self, images: ImageArray) -> EstimateArrays:
        """Estimates of crops [n,S,S,3], n at most the batch size; waits for them."""
        check_images(images)
        request = _Request(images, Future())
        self._requests.put(request)
        return request.answer.result()

    def _start(self) -> None:
        while True:
            requests = self._collect()
            began = time.monotonic()
            try:
                images = np.concatenate([request.images for request in requests])
                started = self._estimator.start(images)
            except Exception as error:  # noqa: BLE001  the callers get it
                _fail(requests, error)
                continue
            self._started.put((requests, started, began))

    def _collect(self) -> list[_Request]:
        """Requests that fill a batch, or what came in time."""
        first = self._left_over or self._requests.get()
        self._left_over = None
        requests, count = [first], len(first.images)
        until = time.monotonic() + self._patience_s
        while count < self._estimator.batch_size:
            try:
                request = self._requests.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if count + len(request.images) > self._estimator.batch_size:
                self._left_over = request
                break
            requests.append(request)
            count += len(request.images)
        return requests

    def _finish(self) -> None:
        while True:
            requests, started, began = self._started.get()
            try:
                estimate = self._estimator.finish(started)
            except Exception as error:  # noqa: BLE001  the callers get it
                _fail(requests, error)
                continue
            now = time.monotonic()
            busy = now - max(began, self._busy_until)
            self.busy_s += busy
            self._busy_until = now
            self._on_busy(busy)
            self.batches += 1
            place = 0
            for request in requests:
                part = slice(place, place + len(request.images))
                request.answer.set_result(EstimateArrays(*(values[part] for values in estimate)))
                place = part.stop
            self.images += place


def _fail(requests: list[_Request], error: Exception) -> None:
    for request in requests:
        request.answer.set_exception(error)
