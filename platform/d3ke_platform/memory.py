"""Peak memory of this process and everything it started, Ray's processes included."""

from __future__ import annotations

from d3ke_platform.polling import Polling


class MemoryPeak(Polling):
    """Context that samples the memory of the process tree in a thread.

    Memory that processes share (Ray's object store, libraries) is counted once where the system
    tells it apart (proportional set size, Linux), else once per process.
    """

    def __init__(self, *, every_s: float = 2.0) -> None:
        super().__init__(self._sample, every_s=every_s, name="memory")
        self.peak_bytes = tree_bytes()

    @property
    def peak_gb(self) -> float:
        """Largest sum seen so far [GB, 10^9 bytes]."""
        return self.peak_bytes / 1e9

    def _sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, tree_bytes())


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
