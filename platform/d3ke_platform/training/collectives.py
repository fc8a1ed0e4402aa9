"""Sums over all workers, and a way for one of them to compute without the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_apart = False


def all_reduce(tensor: Tensor) -> None:
    """Replace `tensor` by its sum over all workers, each of which must call this."""
    if not _apart:
        torch.distributed.all_reduce(tensor)


@contextmanager
def apart() -> Iterator[None]:
    """Sums are those of this worker alone meanwhile: for measurements that one makes by itself."""
    global _apart
    before, _apart = _apart, True
    try:
        yield
    finally:
        _apart = before
