"""A thread that does something again and again while a context is open."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Polling:
    """Context that calls `action` every `every_s` seconds in a daemon thread, and once at the end.

    The last call comes after the context's body, so nothing that the body did is missed. An
    exception of `action` ends the thread; the body goes on.
    """

    def __init__(self, action: Callable[[], None], *, every_s: float, name: str) -> None:
        self._action, self._every_s = action, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._action()
        self._action()
