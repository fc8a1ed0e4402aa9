"""Peak memory of this process and everything it started, Ray's processes included."""

from __future__ import annotations

import threading
from types import TracebackType


class MemoryPeak:
    """Context that samples the memory of the process tree in a thread.

    Memory that processes share (Ray's object store, libraries) is counted once where the system
    tells it apart (proportional set size, Linux), else once per process.
    """

    def __init__(self, *, every_s: float = 2.0) -> None:
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self.peak_bytes = 0

    @property
    def peak_gb(self) -> float:
        """Largest sum seen so far [GB, 10^9 bytes]."""
        return self.peak_bytes / 1e9

    def __enter__(self) -> MemoryPeak:
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

    def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, tree_bytes())
            if self._stop.wait(self._every_s):
                return


def tree_bytes() -> int:
    """Memory of this process and its descendants now [bytes]."""
    import psutil

    try:
        own = psutil.Process()
        processes = [own, *own.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(map(_process_bytes, processes))


def _process_bytes(process: object) -> int:
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        return getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss
    except psutil.Error:  # it ended, or belongs to somebody else
        return 0
