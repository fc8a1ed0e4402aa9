"""An object whose methods misbehave in every way that native code can."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

from d3ke.errors import InvalidInputError
from d3ke_platform.isolation import sign_of_life


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

    def count(self, last: int, *, pause_s: float = 0.0) -> Iterator[int | None]:
        """Numbers, the first without a pause, each after a sign of life."""
        for number in range(last):
            if number:
                time.sleep(pause_s)
                yield None
            self._value = number
            yield number

    def work(self, steps: int, *, pause_s: float, signs: bool) -> int:
        """Many short steps and one answer."""
        for _ in range(steps):
            time.sleep(pause_s)
            if signs:
                sign_of_life()
        return steps

    def break_off(self, fault: str) -> Iterator[int]:
        yield 1
        time.sleep(0.5)  # what has been made but not sent is lost in a crash
        getattr(self, fault)()

    def break_an_answer(self, fault: str) -> Iterator[bytes]:
        yield b"1"
        yield bytes(50_000_000)  # more than a pipe holds: it is being sent when the fault comes
        time.sleep(0.5)
        getattr(self, fault)()

    def value(self) -> int:
        return self._value

    def fill(self, size_bytes: int) -> int:
        return len(bytearray(size_bytes))

    def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def hang(self) -> None:
        """Native code that never comes back: signals of Python are not handled."""
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        time.sleep(600)
