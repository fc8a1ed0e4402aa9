"""The constant arrays of a module, packed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn


class PackedConstants(nn.Module):
    """Named constant arrays in one buffer per dtype.

    Floating-point arrays are kept in float64 and float32 whatever the module is cast to, so that
    neither a cast of the module nor of the input loses digits; integer arrays are kept in int64.
    One buffer each instead of one per name: a compiled module checks every buffer at every call,
    which at batch 1 takes longer than the arithmetic.
    """

    float64: Tensor
    float32: Tensor
    int64: Tensor

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        numbers = {n: a for n, a in arrays.items() if np.issubdtype(a.dtype, np.floating)}
        indices = {n: a for n, a in arrays.items() if n not in numbers}
        self._numbers = {name: array.shape for name, array in numbers.items()}
        self._indices = {name: array.shape for name, array in indices.items()}
        packed = _packed(numbers, np.float64)
        self.register_buffer("float64", packed, persistent=False)
        self.register_buffer("float32", packed.float(), persistent=False)
        self.register_buffer("int64", _packed(indices, np.int64), persistent=False)

    def forward(self, dtype: torch.dtype) -> Callable[[str], Tensor]:
        """The arrays by name, floating-point ones in `dtype` (float32 or float64)."""
        numbers = self.float64 if dtype == torch.float64 else self.float32
        named = _named(numbers, self._numbers) | _named(self.int64, self._indices)
        return named.__getitem__

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedConstants:
        """Follow the module to another device, but never to another precision."""
        exact = self.float64, self.float32
        super()._apply(fn, recurse)
        self.float64, self.float32 = (e.to(self.int64.device) for e in exact)
        return self


def _packed(arrays: Mapping[str, np.ndarray], dtype: type) -> Tensor:
    flat = [np.zeros(0, dtype=dtype), *(np.ravel(array) for array in arrays.values())]
    return torch.from_numpy(np.concatenate(flat).astype(dtype))


def _named(packed: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    parts = packed.split([math.prod(shape) for shape in shapes.values()]) if shapes else ()
    return {name: p.view(shape) for (name, shape), p in zip(shapes.items(), parts, strict=True)}
