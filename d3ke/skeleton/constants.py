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
        self._numbers, self._indices = _places(numbers), _places(indices)
        packed = _packed(numbers, np.float64)
        self.register_buffer("float64", packed, persistent=False)
        self.register_buffer("float32", packed.float(), persistent=False)
        self.register_buffer("int64", _packed(indices, np.int64), persistent=False)

    def forward(self, dtype: torch.dtype) -> Callable[[str], Tensor]:
        """The arrays by name, floating-point ones in `dtype` (float32 or float64)."""
        numbers = self.float64 if dtype == torch.float64 else self.float32

        def named(name: str) -> Tensor:
            is_index, start, shape = self._place(name)
            # Not split: its pieces would be kept for the backward pass, each for itself.
            packed = self.int64 if is_index else numbers
            return packed.narrow(0, start, math.prod(shape)).view(shape)

        return named

    @torch.compiler.assume_constant_result  # or some 200 numbers would be compared at every call
    def _place(self, name: str) -> tuple[bool, int, tuple[int, ...]]:
        """Whether it is an index, where it starts, and its shape."""
        is_index = name in self._indices
        return is_index, *(self._indices if is_index else self._numbers)[name]

    def every(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """All arrays, for one who calls by name more often than once."""
        named = self(dtype)
        return {name: named(name) for name in [*self._numbers, *self._indices]}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedConstants:
        """Follow the module to another device, but never to another precision."""
        exact = self.float64, self.float32
        super()._apply(fn, recurse)
        self.float64, self.float32 = (e.to(self.int64.device) for e in exact)
        return self


def _packed(arrays: Mapping[str, np.ndarray], dtype: type) -> Tensor:
    flat = [np.zeros(0, dtype=dtype), *(np.ravel(array) for array in arrays.values())]
    return torch.from_numpy(np.concatenate(flat).astype(dtype))


def _places(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Where each array starts in the packed one, and its shape."""
    starts = np.cumsum([0, *(array.size for array in arrays.values())]).tolist()
    return {name: (starts[i], array.shape) for i, (name, array) in enumerate(arrays.items())}
