"""The batch at which training met NaN or infinity, kept for a look at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from d3ke_platform.training.checkpoint import write_weights


def save_failed_batch(batch: Any, folder: Path, name: str) -> Path:
    """Writes the batch's tensors as `folder`/`name`.safetensors, each named by its place in it.

    Read it with `safetensors.torch.load_file`: "images", "target.coordinates", ...
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    write_weights(named_tensors(batch), path)
    return path


def named_tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors in (named) tuples, lists, mappings and dataclasses by their dotted names."""
    if isinstance(value, Tensor):
        return {name or "batch": value}
    parts: Mapping[Any, Any] = {}
    if isinstance(value, Mapping):
        parts = value
    elif hasattr(value, "_asdict"):
        parts = value._asdict()
    elif isinstance(value, (tuple, list)):
        parts = dict(enumerate(value))
    elif is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    found: dict[str, Tensor] = {}
    for key, part in parts.items():
        found |= named_tensors(part, f"{name}.{key}" if name else str(key))
    return found
