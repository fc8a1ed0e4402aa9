"""How many samples of a step fit into a GPU, measured when a batch did not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from d3ke.errors import D3KEError

_SPARE = 0.92
"""Part of the memory that a batch may fill: the allocator leaves gaps."""


class OutOfMemoryError(D3KEError):
    """A step needs more memory than the GPU has."""

    def __init__(self, stage: str, device: str, samples: int, workers: int, fitting: int) -> None:
        of_worker = f" of a batch of {samples * workers}" if workers > 1 else ""
        start = (
            f"The {stage} network does not fit into the memory of {device} with {samples} samples"
            f"{of_worker}: "
        )
        option = stage if stage in ("sequence", "joint") else "frame"
        remedy = (
            f"about {fitting} fit. Use --{option}.batch-size {fitting * workers}, more workers, "
            if fitting
            else "not even one does. Use "
        )
        super().__init__(
            f"{start}{remedy}a smaller network or --{option}.precision bfloat16.",
            stage,
            device,
            samples,
            workers,
            fitting,
        )


class Memory(Protocol):
    """Memory of a device."""

    def peak_of(self, run: Callable[[], object]) -> int:
        """Most memory in use [bytes] while `run` runs; raises torch.OutOfMemoryError."""

    def available(self) -> int:
        """Memory that this process can have in all [bytes]."""


class GPUMemory:
    """Memory of a CUDA device, by PyTorch's account of it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def peak_of(self, run: Callable[[], object]) -> int:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)
        run()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device)

    def available(self) -> int:
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self._device)
        return free + torch.cuda.memory_reserved(self._device)


def fitting_samples(
    run: Callable[[int], object], samples: int, memory: Memory, *, extra_bytes: int = 0
) -> int:
    """Largest number of samples, below `samples`, whose step fits; 0 if none does.

    Memory is a fixed part and a part per sample, which two small steps tell.

    Args:
        run: computes the gradients of a step with so many samples.
        samples: a number that did not fit.
        memory: of the device.
        extra_bytes: what a step needs besides, such as the optimiser's state.
    """
    peaks = list(_small_steps(run, samples, memory))
    if not peaks:
        return 0
    (few, least), (more, most) = peaks[0], peaks[-1]
    per_sample = (most - least) / (more - few) if more > few else least / few
    fixed = least - per_sample * few + extra_bytes
    room = (_SPARE * memory.available() - fixed) / max(per_sample, 1.0)
    return int(max(few, min(samples - 1, room)))


def _small_steps(
    run: Callable[[int], object], samples: int, memory: Memory
) -> Iterator[tuple[int, int]]:
    """Number of samples and peak memory of up to two steps that fit, ascending."""
    count = max(1, samples // 8)
    while count:
        peak = _peak(run, count, memory)
        if peak:
            yield count, peak
            double = _peak(run, 2 * count, memory) if 2 * count < samples else 0
            if double:
                yield 2 * count, double
            return
        count //= 2


def _peak(run: Callable[[int], object], count: int, memory: Memory) -> int:
    """Peak memory of a step; 0 if it does not fit."""
    try:
        return memory.peak_of(lambda: run(count))
    except torch.OutOfMemoryError:
        return 0


def first_samples(batch: Any, count: int) -> Any:
    """The first `count` samples of a batch: of all tensors in its (named) tuples.

    A part that has a method `first` says itself what these are.
    """
    if hasattr(batch, "first"):
        return batch.first(count)
    if isinstance(batch, Tensor):
        return batch[:count]
    if hasattr(batch, "_asdict"):
        return type(batch)(*(first_samples(part, count) for part in batch))
    return batch


def sample_count(batch: Any) -> int:
    """Samples of a batch: the length of the first tensor in its (named) tuples."""
    while not isinstance(batch, Tensor):
        batch = batch[0]
    return len(batch)
