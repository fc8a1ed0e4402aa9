"""The process a training loop runs in: alone, or one of several under Ray Train."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from d3ke_platform.training import collectives
from d3ke_platform.training.checkpoint import (
    CheckpointStore,
    Snapshot,
    finished_checkpoints,
    remove_unfinished,
)
from d3ke_platform.training.shared_batch_norm import share_batch_norm


class Worker(Protocol):
    """Place in the group of workers and the ways to talk to it."""

    rank: int
    world_size: int
    workers_on_node: int
    """Workers that share this machine."""
    device: torch.device
    has_cluster: bool
    """Whether Ray's nodes can read and decode for the workers."""
    run: str
    """Name of the training run or trial, in metrics."""

    def distribute(self, module: nn.Module, *, sync_batch_norm: bool = True) -> nn.Module:
        """The module with its gradients averaged over all workers, and with `sync_batch_norm` its
        batch statistics taken over all of them (which changes `module`)."""

    def reduce(self, table: Tensor) -> Tensor:
        """Sum of `table` over all workers; all must call it."""

    def mean_count(self, count: Tensor) -> Tensor:
        """Mean over all workers of a number of frames, of which there is at least one in all."""

    def share(self, make: Callable[[], Any]) -> Any:
        """What `make` gives on rank 0, on all workers; all must call it."""

    def restore(self) -> AbstractContextManager[Path | None]:
        """Context: the folder of the last checkpoint, None at a fresh start."""

    def report(self, metrics: dict[str, Any], snapshot: Snapshot | None) -> None:
        """Begin to keep `snapshot` (rank 0; None elsewhere). All workers must call it."""

    def finish(self) -> None:
        """Wait until everything reported is kept."""


class LocalWorker:
    """The only worker, in this process; checkpoints live in `folder`."""

    rank, world_size, workers_on_node, has_cluster = 0, 1, 1, False

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        self._folder, self._store = folder, CheckpointStore(folder)
        self.run = folder.name
        self.device = device or default_device()

    def distribute(self, module: nn.Module, *, sync_batch_norm: bool = True) -> nn.Module:
        return module

    def reduce(self, table: Tensor) -> Tensor:
        return table

    def mean_count(self, count: Tensor) -> Tensor:
        return count.clamp(min=1)

    def share(self, make: Callable[[], Any]) -> Any:
        return make()

    @contextmanager
    def restore(self) -> Iterator[Path | None]:
        remove_unfinished(self._folder)
        finished = finished_checkpoints(self._folder)
        yield finished[-1] if finished else None

    def report(self, metrics: dict[str, Any], snapshot: Snapshot | None) -> None:
        if snapshot is not None:
            self._store.save(snapshot)

    def finish(self) -> None:
        self._store.wait()


class RayWorker:
    """One worker of a `TorchTrainer`; needs to be made inside its train function."""

    has_cluster = True

    def __init__(self) -> None:
        import ray.train
        import ray.train.torch

        self._train, self._torch = ray.train, ray.train.torch
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.workers_on_node = context.get_local_world_size()
        self.run = context.get_experiment_name()
        self.device = ray.train.torch.get_device()
        self._written = threading.Event()
        self._written.set()

    def distribute(self, module: nn.Module, *, sync_batch_norm: bool = True) -> nn.Module:
        if sync_batch_norm and self.world_size > 1:
            share_batch_norm(module)
        # Buffers are constants of the skeleton, and batch-norm statistics, which the loop averages
        # once an epoch: sending them at every step would cost more than the gradients.
        return self._torch.prepare_model(
            module, parallel_strategy_kwargs={"broadcast_buffers": False}
        )

    def reduce(self, table: Tensor) -> Tensor:
        if self.world_size > 1:
            table = table.clone()
            collectives.all_reduce(table)
        return table

    def mean_count(self, count: Tensor) -> Tensor:
        return self.reduce(count.float()).clamp(min=1) / self.world_size

    def share(self, make: Callable[[], Any]) -> Any:
        from ray import cloudpickle

        # Ray's handles want Ray's pickle.
        packed = [cloudpickle.dumps(make()) if self.rank == 0 else None]
        if self.world_size > 1:
            torch.distributed.broadcast_object_list(packed, device=self.device)
        return cloudpickle.loads(packed[0])

    @contextmanager
    def restore(self) -> Iterator[Path | None]:
        if self.rank == 0:
            storage = self._train.get_context().get_storage()
            remove_unfinished(Path(storage.experiment_fs_path))
        checkpoint = self._train.get_checkpoint()
        if checkpoint is None:
            yield None
        else:
            with checkpoint.as_directory() as folder:
                yield Path(folder)

    def report(self, metrics: dict[str, Any], snapshot: Snapshot | None) -> None:
        checkpoint, upload = None, None
        if snapshot is not None:
            # One checkpoint is written at a time: each is a copy of all weights.
            self._written.wait()
            self._written.clear()
            # Ray wants a folder to send away; the checkpoint is written to its place instead.
            empty = tempfile.mkdtemp(prefix="d3ke-checkpoint-")
            checkpoint = self._train.Checkpoint.from_directory(empty)
            upload = self._writer(snapshot)
        self._train.report(
            metrics,
            checkpoint=checkpoint,
            checkpoint_upload_mode=self._train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=upload,
        )

    def _writer(self, snapshot: Snapshot) -> Callable[[Any, str], Any]:
        """What Ray Train's thread does with a report."""
        storage = self._train.get_context().get_storage()

        def write(empty: Any, name: str) -> Any:
            try:
                folder = Path(storage.experiment_fs_path) / name
                snapshot.write(folder)
            finally:
                self._written.set()
            return self._train.Checkpoint(str(folder), filesystem=storage.storage_filesystem)

        return write

    def finish(self) -> None:
        self._written.wait()


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
