"""What the skeletal-model layer takes: shapes always, values where they can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from d3ke.errors import InvalidInputError


def check_shapes(parts: Sequence[tuple[str, Any, tuple[int, ...]]]) -> torch.Size:
    """The batch shape that (name, tensor, its last axes) broadcast to; InvalidInputError."""
    batches = []
    for name, part, features in parts:
        if part is None:
            continue
        if not isinstance(part, Tensor):
            reason = f"are a {type(part).__name__}, not a torch.Tensor"
            raise InvalidInputError(name, reason, "Use torch.as_tensor.")
        if tuple(part.shape[max(part.ndim - len(features), 0) :]) != features:
            axes = "".join(f", {size}" for size in features)
            raise InvalidInputError(name, f"have shape {tuple(part.shape)}, not (...{axes})")
        batches.append(part.shape[: part.ndim - len(features)])
    try:
        return torch.broadcast_shapes(*batches)
    except RuntimeError as error:
        shapes = " and ".join(str(tuple(batch)) for batch in batches)
        raise InvalidInputError("batch shapes", f"{shapes} do not broadcast") from error


def can_look() -> bool:
    """Whether values are there to be looked at: not while torch.compile or a CUDA graph records
    what is done, nor inside torch.func's transforms."""
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return False
    return not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())


def check_values(
    coordinates: Tensor,
    scales: Tensor | None,
    root_rotation: Tensor | None,
    coordinate_names: Sequence[str],
    body_names: Sequence[str],
) -> None:
    """InvalidInputError for coordinates that are not finite and factors no body can have."""
    bad = ~coordinates.isfinite()
    if bad.any():
        row = bad.nonzero()[0].tolist()
        value = float(coordinates[tuple(row)])
        raise InvalidInputError(f"coordinate {coordinate_names[row[-1]]!r}", _at(value, row[:-1]))
    if scales is not None and (bad := ~(scales.isfinite() & (scales > 0.0))).any():
        row = bad.nonzero()[0].tolist()
        value = float(scales[tuple(row)])
        remedy = "Factors are positive numbers; 1 leaves a body as it is."
        name = f"scale of body {body_names[row[-2]]!r} along {'xyz'[row[-1]]}"
        raise InvalidInputError(name, _at(value, row[:-2]), remedy)
    if root_rotation is not None and not root_rotation.isfinite().all():
        raise InvalidInputError("root_rotation", "is not finite")


def _at(value: float, row: Sequence[int]) -> str:
    return f"is {value:g}" + (f" in row {tuple(row)}" if row else "")
