"""State of an unfinished training: everything needed to continue as if never interrupted."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS, AVERAGE, BEST = "weights.safetensors", "average.safetensors", "best.safetensors"
OPTIMIZER, PROGRESS = "optimizer.pt", "progress.json"
_NAME, _UNFINISHED = "checkpoint_", ".unfinished_"
_KEPT = 2


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


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Copy of a training's state on the CPU, which can be written while training goes on."""

    weights: dict[str, Tensor]
    average: dict[str, Tensor] | None
    best: dict[str, Tensor]
    optimizer: dict[str, Any]
    progress: str
    """JSON of the `Progress`."""
    finished_epochs: int

    @classmethod
    def take(
        cls,
        *,
        weights: dict[str, Tensor],
        average: dict[str, Tensor] | None,
        best: dict[str, Tensor],
        optimizer: dict[str, Any],
        progress: Progress,
    ) -> Snapshot:
        """Copy everything but `best`, which must be a copy already."""
        return cls(
            weights=_copied(weights),
            average=_copied(average),
            best=best,
            optimizer=_copied(optimizer),
            progress=json.dumps(asdict(progress)),
            finished_epochs=progress.finished_epochs,
        )

    def write(self, folder: Path) -> None:
        """Write the checkpoint `folder`, whole or not at all: safetensors for weights, PyTorch's
        own format for the optimiser (read back with `weights_only`)."""
        # In a thread that ends with it: one that has copied tensors keeps a team of OpenMP threads
        # as long as it lives. With more threads than cores OpenMP's no longer spin but sleep while
        # they wait, and each step of the training took 13 % longer from its first checkpoint on.
        with ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as pool:
            pool.submit(self._write, folder).result()

    def _write(self, folder: Path) -> None:
        fresh = folder.with_name(f"{_UNFINISHED}{folder.name}-{uuid4().hex[:8]}")
        fresh.mkdir(parents=True)
        try:
            write_weights(self.weights, fresh / WEIGHTS)
            write_weights(self.best, fresh / BEST)
            if self.average is not None:
                write_weights(self.average, fresh / AVERAGE)
            torch.save(self.optimizer, fresh / OPTIMIZER)
            (fresh / PROGRESS).write_text(self.progress)
            # The name must not reach the disk before the contents do.
            for file in (*fresh.iterdir(), fresh):
                _sync(file)
            fresh.rename(folder)
            _sync(folder.parent)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


class CheckpointStore:
    """Checkpoints of one training in `folder`, written by a thread; the last two are kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, snapshot: Snapshot) -> None:
        """Start to write; waits until the checkpoint before this one is written."""
        self.wait()
        self._writing = self._pool.submit(self._write, snapshot)

    def wait(self) -> None:
        """Until nothing is being written; raises what the writing ran into."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, snapshot: Snapshot) -> None:
        snapshot.write(self._folder / f"{_NAME}{snapshot.finished_epochs:06d}")
        for old in finished_checkpoints(self._folder)[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)


def finished_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a `CheckpointStore`, oldest first; half-written ones do not count."""
    # The progress is written last; a copy of a run may have been broken off. Names do not tell
    # which is later: Ray Train gives them its own.
    found = [path for path in folder.glob(f"{_NAME}*") if (path / PROGRESS).exists()]
    return sorted(
        found,
        key=lambda path: (
            load_progress(path).finished_epochs,
            (path / PROGRESS).stat().st_mtime_ns,
        ),
    )


def remove_unfinished(folder: Path) -> None:
    """Delete what writers that were killed left in a folder of checkpoints."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(part) for part in value)
    return value


def _sync(path: Path) -> None:
    """Make sure that a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
