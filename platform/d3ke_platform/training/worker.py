"""The process a training loop runs in: alone, or one of several under Ray Train."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Worker(Protocol):
    """Place in the group of workers and the ways to talk to it."""

    rank: int
    world_size: int
    device: torch.device

    def distribute(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over all workers."""

    def reduce(self, table: Tensor) -> Tensor:
        """Sum of `table` over all workers; all must call it."""

    def restore(self) -> AbstractContextManager[Path | None]:
        """Context: the folder of the last checkpoint, None at a fresh start."""

    def report(self, metrics: dict[str, Any], folder: Path | None) -> None:
        """Keep the checkpoint in `folder` (rank 0; None elsewhere). All workers must call it."""


class LocalWorker:
    """The only worker, in this process; checkpoints live in `folder`/last."""

    rank, world_size = 0, 1

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        self._last = folder / "last"
        self.device = device or default_device()

    def distribute(self, module: nn.Module) -> nn.Module:
        return module

    def reduce(self, table: Tensor) -> Tensor:
        return table

    @contextmanager
    def restore(self) -> Iterator[Path | None]:
        yield self._last if self._last.exists() else None

    def report(self, metrics: dict[str, Any], folder: Path | None) -> None:
        if folder is None:
            return
        fresh = self._last.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(folder, fresh)
        shutil.rmtree(self._last, ignore_errors=True)
        fresh.rename(self._last)


class RayWorker:
    """One worker of a `TorchTrainer`; needs to be made inside its train function."""

    def __init__(self) -> None:
        import ray.train
        import ray.train.torch

        self._train, self._torch = ray.train, ray.train.torch
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()

    def distribute(self, module: nn.Module) -> nn.Module:
        # Buffers are constants of the skeleton, and batch-norm statistics, which the loop averages
        # once an epoch: sending them at every step would cost more than the gradients.
        return self._torch.prepare_model(
            module, parallel_strategy_kwargs={"broadcast_buffers": False}
        )

    def reduce(self, table: Tensor) -> Tensor:
        if self.world_size > 1:
            table = table.clone()
            torch.distributed.all_reduce(table)
        return table

    @contextmanager
    def restore(self) -> Iterator[Path | None]:
        checkpoint = self._train.get_checkpoint()
        if checkpoint is None:
            yield None
        else:
            with checkpoint.as_directory() as folder:
                yield Path(folder)

    def report(self, metrics: dict[str, Any], folder: Path | None) -> None:
        checkpoint = None if folder is None else self._train.Checkpoint.from_directory(str(folder))
        self._train.report(metrics, checkpoint=checkpoint)


@contextmanager
def checkpoint_folder(worker: Worker) -> Iterator[Path | None]:
    """A temporary folder for rank 0 to write a checkpoint into; None elsewhere."""
    if worker.rank:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="d3ke-checkpoint-") as folder:
        yield Path(folder)


def default_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def threads_per_worker(workers_on_node: int) -> int:
    """Arithmetic threads of a worker that shares a machine's cores with others."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // max(1, workers_on_node))


@torch.no_grad()
def share_statistics(module: nn.Module, worker: Worker) -> None:
    """Average the batch-norm statistics of all workers."""
    if worker.world_size == 1:
        return
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for statistic in (layer.running_mean, layer.running_var):
                if statistic is not None:
                    statistic.copy_(worker.reduce(statistic) / worker.world_size)
