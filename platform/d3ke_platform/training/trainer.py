"""A training on several workers: Ray Train around the loop."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from d3ke.errors import D3KEError, InvalidInputError
from d3ke_platform import runtime
from d3ke_platform.training import checkpoint as saved
from d3ke_platform.training.checkpoint import Progress
from d3ke_platform.training.loop import NonFiniteLossError, TrainingLoop
from d3ke_platform.training.progress import append_row
from d3ke_platform.training.task import Task
from d3ke_platform.training.worker import LocalWorker, RayWorker, Worker, threads_per_worker

FAILED_BATCHES = "failed_batches"
"""Folder beside the progress file for batches whose loss was not finite."""
WAIT_FOR_NODE_S, WAITS_FOR_NODE = 150, 4
"""Seconds and times that a training waits for CPUs or GPUs after it lost some: ten minutes, which a
cloud needs for another machine. Ray's own way is to wait for ever."""


class TrainingFailedError(D3KEError):
    """The workers died or raised more often than `max_failures` allows."""

    def __init__(self, stage: str, folder: str, reason: str) -> None:
        super().__init__(
            f"Training the {stage} network failed: {reason}. Its checkpoints are in {folder}; "
            "the same command continues from the last one.",
            stage,
            folder,
            reason,
        )


class Job(Protocol):
    """Picklable description of a training, from which every worker makes its own `Task`."""

    @property
    def name(self) -> str:
        """Name of the training, in messages and metrics."""

    @property
    def seed(self) -> int:
        """Seed of initial weights, order and augmentation."""

    def task(self, worker: Worker) -> Task:
        """Load this worker's data and build the network on its device."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Workers of a training and what each reserves."""

    workers: int
    """0 = train in this process, without Ray."""
    gpu: bool = False
    cpus: float = 0.5
    """CPUs reserved per worker. CPU workers reserve half of what they use, so that Ray Data
    beside a training always finds a free slot."""
    workers_on_node: int = 1
    """Workers that share a machine's cores."""

    def scaling(self) -> Any:
        """The `ray.train.ScalingConfig`."""
        from ray.train import ScalingConfig

        per_worker = {"CPU": self.cpus} | ({"GPU": 1} if self.gpu else {})
        return ScalingConfig(
            num_workers=self.workers,
            use_gpu=self.gpu,
            resources_per_worker=per_worker,
            # GPUs of one machine are joined by faster links than machines. CPU workers reserve
            # less than they use: packed, they would all share one machine's cores.
            placement_strategy="PACK" if self.gpu else "SPREAD",
        )


@dataclass(frozen=True)
class Trained:
    """A finished training: weights of the best epoch and the record of all epochs."""

    weights: dict[str, Tensor]
    progress: Progress


def choose_resources(workers: int) -> Resources:
    """Resources for `workers` (0: one per GPU of the cluster, or two CPU workers without one).

    Raises:
        InvalidInputError: more workers than GPUs; each needs its own.
    """
    import ray

    nodes = sum(node["Alive"] for node in ray.nodes())
    gpus = int(runtime.total_gpus())
    count = workers or gpus or 2
    on_node = -(-count // max(1, nodes))
    if count > ray.cluster_resources().get("GPU", 0) and gpus:
        on_node = 1  # an autoscaling cluster has yet to start its nodes
    if not gpus:
        return Resources(workers=count, workers_on_node=on_node)
    if count > gpus:
        raise InvalidInputError(
            "workers", f"{count} workers for {gpus} GPUs", f"Use --workers {gpus} or fewer."
        )
    share = runtime.total_cpus() / gpus
    return Resources(
        workers=count, gpu=True, cpus=max(1.0, min(4.0, share - 1)), workers_on_node=on_node
    )


def fit(
    job: Job,
    folder: Path,
    *,
    run_name: str,
    resources: Resources,
    progress: Path,
    max_failures: int = 0,
    deterministic: bool = False,
) -> Trained:
    """Train `job`, or continue it where an earlier call with the same arguments was cut off.

    Checkpoints are kept in `folder`/`run_name`. `progress` gets a JSON line per epoch.

    Raises:
        D3KEError: the loop's own errors as they are; they are not retried.
        TrainingFailedError: workers failed more than `max_failures` times.
    """
    config = {
        "job": job,
        "progress": str(progress),
        "workers_on_node": resources.workers_on_node,
        "cpus": resources.cpus,
        "deterministic": deterministic,
    }
    use_deterministic_algorithms(deterministic)
    if resources.workers == 0:
        worker = LocalWorker(folder / run_name)
        TrainingLoop(
            job.task(worker),
            worker,
            seed=job.seed,
            on_epoch=lambda row: append_row(progress, row),
            failed_batches=progress.parent / FAILED_BATCHES,
        ).run()
        with worker.restore() as last:
            return _read(last)
    result = _fit_with_ray(config, folder, run_name, resources, max_failures)
    with result.checkpoint.as_directory() as last:
        return _read(Path(last))


def _fit_with_ray(
    config: dict[str, Any], folder: Path, run_name: str, resources: Resources, max_failures: int
) -> Any:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig
    from ray.train import TrainingFailedError as RayTrainingFailedError
    from ray.train.torch import TorchTrainer

    from d3ke_platform.training.process_group import ProcessGroupConfig

    # A report waits for the controller's next look at the workers: 2 s by default, every epoch.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(WAIT_FOR_NODE_S))
    trainer = TorchTrainer(
        train_on_worker,
        train_loop_config=config,
        torch_config=ProcessGroupConfig(),
        scaling_config=resources.scaling(),
        run_config=RunConfig(
            name=run_name,
            storage_path=str(folder.absolute()),
            failure_config=FailureConfig(
                max_failures=max_failures, controller_failure_limit=WAITS_FOR_NODE - 1
            ),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        result = trainer.fit()
    except RayTrainingFailedError as error:
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise TrainingFailedError(config["job"].name, str(folder), reason) from error
    if isinstance(result.return_value, D3KEError):
        raise result.return_value
    return result


def train_on_worker(config: dict[str, Any]) -> D3KEError | None:
    """What every Ray worker runs.

    Errors that would only happen again are returned, not raised, because Ray would restart the
    workers for them. They are met by all workers at once, so that none waits for another.
    """
    # Of this machine's cores: the driver's machine may have others.
    torch.set_num_threads(threads_per_worker(config["workers_on_node"]))
    use_deterministic_algorithms(config["deterministic"])
    worker = RayWorker(cpus=config["cpus"])
    job: Job = config["job"]
    task, error = _make_task(job, worker)
    if task is None:
        return error
    path = Path(config["progress"])
    loop = TrainingLoop(
        task,
        worker,
        seed=job.seed,
        on_epoch=lambda row: append_row(path, row),
        failed_batches=path.parent / FAILED_BATCHES,
    )
    try:
        loop.run()
    except NonFiniteLossError as failure:
        return failure
    return None


def use_deterministic_algorithms(wanted: bool) -> None:
    """Switches PyTorch's deterministic algorithms on or off in this process."""
    if wanted:
        # cuBLAS asks for it; it has to be set before its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(wanted)


def _make_task(job: Job, worker: Worker) -> tuple[Task | None, D3KEError | None]:
    """The worker's task, or the reason why one of the workers could not make its own."""
    task, error = None, None
    try:
        task = job.task(worker)
    except D3KEError as failure:
        error = failure
    failed = worker.reduce(torch.tensor([float(error is not None)], device=worker.device))
    if not failed.item():
        return task, None
    return None, error or D3KEError(
        f"Another worker could not load its share of the {job.name} training data; see its log."
    )


def _read(folder: Path | None) -> Trained:
    if folder is None:
        raise FileNotFoundError("a finished training left no checkpoint")
    return Trained(saved.load_weights(folder), saved.load_progress(folder))
