"""An object whose methods misbehave in every way that native code can."""

from __future__ import annotations

import os
import signal
import time

from d3ke.errors import InvalidInputError


class Fragile:
    def __init__(self, start: int = 0) -> None:
        if start < 0:
            raise InvalidInputError("start", "is negative")
        self._value = start

    def add(self, amount: int, *, times: int = 1) -> int:
        self._value += amount * times
        return self._value

    def pid(self) -> int:
        return os.getpid()

    def refuse(self) -> None:
        raise InvalidInputError("marker RASI", "is missing")

    def unpicklable(self) -> None:
        raise RuntimeError("odd", lambda: None)

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def leave(self) -> None:
        os._exit(3)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
