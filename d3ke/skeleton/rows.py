"""Arithmetic on rows of matrices and vectors, batch last.

Inside the skeletal-model layer an array is [rows, 3, 3, *B] or [rows, 3, *B]: a row is a body, a
joint or a marker, and the batch is the contiguous axis, along which vector units and GPU threads
run. Constants have no batch axes and broadcast over them once `over_batch` has added ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from d3ke.arrays import BoolArray, IntArray

Constant: TypeAlias = Callable[[str], Tensor]
"""The arrays of a PackedConstants, by name."""


def batch_last(tensor: Tensor, features: int, batch_rank: int) -> Tensor:
    """[*B, features...] as a view [features..., *B], with batch_rank batch axes (ones in front)."""
    missing = batch_rank - (tensor.ndim - features)
    padded = tensor[(None,) * missing]
    return padded.permute(*range(batch_rank, padded.ndim), *range(batch_rank))


def batch_first(rows: Tensor, features: int) -> Tensor:
    """[features..., *B] as a contiguous [*B, features...]."""
    return rows.permute(*range(features, rows.ndim), *range(features)).contiguous()


def over_batch(constant: Tensor, batch_rank: int) -> Tensor:
    """A constant [...] as [..., 1, 1], one 1 per batch axis."""
    return constant.reshape(constant.shape + (1,) * batch_rank)


def multiply_rows(left: Tensor, right: Tensor) -> Tensor:
    """Products of matrices [rows, 3, 3, *B]."""
    columns, rows = left.split(1, 2), right.split(1, 1)
    product = columns[0] * rows[0]
    product = torch.addcmul(product, columns[1], rows[1])
    return torch.addcmul(product, columns[2], rows[2])


def apply_rows(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Matrices [rows, 3, 3, *B] times vectors [rows, 3, *B]."""
    columns, parts = matrices.unbind(2), vectors.split(1, 1)
    product = columns[0] * parts[0]
    product = torch.addcmul(product, columns[1], parts[1])
    return torch.addcmul(product, columns[2], parts[2])


class RowSum:
    """Sums of chosen rows: result[r] = sum of rows[i] over the i with owners[i] == r.

    Rows are summed in groups of like size, so that one row with many members does not pad all
    others. `arrays` belong in a PackedConstants.
    """

    def __init__(
        self, name: str, owners: IntArray, count: int, used: BoolArray | None = None
    ) -> None:
        """`owners` [I] in 0 .. count-1; members that are not `used` are left out."""
        members: list[list[int]] = [[] for _ in range(count)]
        for member, owner in enumerate(owners.tolist()):
            if used is None or used[member]:
                members[owner].append(member)
        groups: dict[int, list[int]] = {}
        for owner, found in enumerate(members):
            groups.setdefault(1 << max(len(found) - 1, 0).bit_length(), []).append(owner)
        self.arrays: dict[str, np.ndarray] = {}
        self._names: list[str] = []
        for width, grouped in sorted(groups.items()):
            # One past the last member stands for a row of zeros.
            table = np.full((width, len(grouped)), len(owners), dtype=np.int64)
            for column, owner in enumerate(grouped):
                table[: len(members[owner]), column] = members[owner]
            self._add(f"{name}_members{width}", table)
        order = np.argsort([owner for _, grouped in sorted(groups.items()) for owner in grouped])
        self._add(f"{name}_order", order.astype(np.int64))

    def _add(self, name: str, array: np.ndarray) -> None:
        self.arrays[name] = array
        self._names.append(name)

    def tables(self, constant: Constant) -> tuple[Tensor, ...]:
        """What `sum_by_tables` needs."""
        return tuple(constant(name) for name in self._names)

    def __call__(self, constant: Constant, rows: Tensor) -> Tensor:
        """[count, ...] from rows [I, ...]."""
        return sum_by_tables(rows, *self.tables(constant))


def sum_by_tables(rows: Tensor, *tables: Tensor) -> Tensor:
    """The sums of a `RowSum`: tables of members [width, owners], then the owners' order."""
    *groups, order = tables
    padded = torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])
    sums = [
        padded.index_select(0, members.flatten())
        .reshape(*members.shape, *padded.shape[1:])  # unflatten has no rule under vmap
        .sum(0)
        for members in groups
    ]
    return torch.cat(sums).index_select(0, order)


class RowTake:
    """rows[index] with a fast gradient.

    index_select's own gradient adds rows one number at a time under atomic locks; a table of who
    took a row turns it into plain sums along the batch. `arrays` belong in a PackedConstants.
    """

    def __init__(
        self, name: str, index: IntArray, count: int, used: BoolArray | None = None
    ) -> None:
        """`index` into `count` rows; what is taken but not `used` has no gradient."""
        self._name = f"{name}_index"
        self._sum = RowSum(name, index, count, used)
        self.arrays = {self._name: index} | self._sum.arrays

    def __call__(self, constant: Constant, rows: Tensor) -> Tensor:
        """[len(index), ...] from rows [count, ...]."""
        if not torch.is_grad_enabled():
            return rows.index_select(0, constant(self._name))
        kind = _CompiledTake if torch.compiler.is_compiling() else _Take
        tables = self._sum.tables(constant)
        return kind.apply(rows, constant(self._name), *tables)

    def gradient(self, constant: Constant, rows: Tensor) -> Tensor:
        """[count, ...]: the adjoint, sums of rows [len(index), ...]."""
        return self._sum(constant, rows)


class _Take(torch.autograd.Function):
    """rows -> rows[index]; its adjoint is `_Sum`, whose adjoint is this again: any derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(rows: Tensor, index: Tensor, *tables: Tensor) -> Tensor:
        return rows.index_select(0, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kind = _CompiledSum if torch.compiler.is_compiling() else _Sum
        saved = ctx.saved_tensors
        return kind.apply(gradient, *saved), *(None for _ in saved)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Take.apply(tangents[0], *ctx.saved_tensors)


class _Sum(torch.autograd.Function):
    """gradient of rows[index] -> gradient of rows."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, index: Tensor, *tables: Tensor) -> Tensor:
        return sum_by_tables(gradient, *tables)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        return _Take.apply(gradient, *saved), *(None for _ in saved)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return sum_by_tables(tangents[0], *ctx.saved_tensors[1:])


# torch.compile refuses functions with a forward-mode derivative, and has no use for one.
class _CompiledTake(_Take):
    jvp = torch.autograd.Function.jvp


class _CompiledSum(_Sum):
    jvp = torch.autograd.Function.jvp
