"""State of an unfinished training: everything needed to continue as if never interrupted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS, AVERAGE, BEST = "weights.safetensors", "average.safetensors", "best.safetensors"
OPTIMIZER, PROGRESS = "optimizer.pt", "progress.json"


@dataclass
class Progress:
    """How far a training is."""

    finished_epochs: int = 0
    best_epoch: int = 0
    """Epoch of the best validation, from 1; 0 is the untrained network."""
    best_value: float = float("inf")
    """Selection metric of that epoch."""
    average_updates: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row of metrics per epoch."""


def save_checkpoint(
    folder: Path,
    *,
    weights: dict[str, Tensor],
    average: dict[str, Tensor] | None,
    best: dict[str, Tensor],
    optimizer: dict[str, Any],
    progress: Progress,
) -> None:
    """Write the state into the existing `folder`: safetensors for weights, PyTorch's own format
    for the optimiser (read back with `weights_only`)."""
    write_weights(weights, folder / WEIGHTS)
    write_weights(best, folder / BEST)
    if average is not None:
        write_weights(average, folder / AVERAGE)
    torch.save(optimizer, folder / OPTIMIZER)
    (folder / PROGRESS).write_text(json.dumps(asdict(progress)))


def write_weights(state: dict[str, Tensor], path: Path) -> None:
    """Write named tensors as safetensors."""
    # Plain copies: safetensors refuses channels-last tensors and tensors that share memory.
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}, path
    )


def load_weights(folder: Path, name: str = BEST) -> dict[str, Tensor]:
    """Weights of a checkpoint, on the CPU."""
    return load_file(folder / name)


def load_optimizer(folder: Path) -> dict[str, Any]:
    """Optimiser state of a checkpoint, on the CPU."""
    return torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True)


def load_progress(folder: Path) -> Progress:
    """Progress of a checkpoint."""
    return Progress(**json.loads((folder / PROGRESS).read_text()))
