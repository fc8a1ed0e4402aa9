"""What every benchmark says of the machine, and how it takes the time."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch


def machine() -> str:
    """Processor, GPU if there is one, version of PyTorch, and what else runs: with as many threads
    as cores, other work makes each parallel loop wait for the thread that lost its core."""
    cores, threads = os.cpu_count(), torch.get_num_threads()
    parts = [f"{_processor()}, {threads} threads on {cores} cores (load {os.getloadavg()[0]:.1f})"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join([*parts, f"torch {torch.__version__}"])


def _processor() -> str:
    information = Path("/proc/cpuinfo")  # where platform.processor() knows nothing: Linux
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def seconds_of(run: Callable[[], object]) -> float:
    """Of one call, with the work it left to a GPU."""
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def median_seconds(run: Callable[[], object], seconds: float) -> float:
    """Median time of a call, of as many as fit in the time, after three that are not counted."""
    for _ in range(3):
        run()
    times: list[float] = []
    spent = 0.0
    while spent < seconds or len(times) < 3:
        times.append(seconds_of(run))
        spent += times[-1]
    return statistics.median(times)
