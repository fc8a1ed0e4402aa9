"""Seconds of work by step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class StepClock:
    """Adds up how long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        """The time of the block counts for `step`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(step, time.perf_counter() - began)

    def add(self, step: str, seconds: float) -> None:
        """`seconds` more of a step."""
        self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    def timed(self, step: str, items: Iterator[T]) -> Iterator[T]:
        """The same items; the time each takes to be made counts for `step`."""
        while True:
            with self.measure(step):
                item = next(items, None)
            if item is None:
                return
            yield item
