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
from d3ke_platform.storage import read_json, write_json
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
_CPUS_FOR_DATA = 1.5
"""One that decodes and half a one that reads."""
PICTURES = "pictures"
"""Folder beside the progress file for pictures of validation frames."""


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
    workers_min: int = 0
    """Fewest workers to go on with where nodes come and go; 0 = always `workers` of them."""
    resize_every_s: float = 60.0
    """How often more workers are started, up to `workers`, when there is room for them."""

    def scaling(self) -> Any:
        """The `ray.train.ScalingConfig`."""
        from ray.train import ScalingConfig

        per_worker = {"CPU": self.cpus} | ({"GPU": 1} if self.gpu else {})
        elastic = 0 < self.workers_min < self.workers
        return ScalingConfig(
            num_workers=(self.workers_min, self.workers) if elastic else self.workers,
            use_gpu=self.gpu,
            resources_per_worker=per_worker,
            # GPUs of one machine are joined by faster links than machines. CPU workers reserve
            # less than they use: packed, they would all share one machine's cores.
            placement_strategy="PACK" if self.gpu else "SPREAD",
            elastic_resize_monitor_interval_s=self.resize_every_s,
        )


@dataclass(frozen=True)
class Trained:
    """A finished training: weights of the best epoch and the record of all epochs."""

    weights: dict[str, Tensor]
    progress: Progress


def choose_resources(workers: int, workers_min: int = 0) -> Resources:
    """Resources for `workers` (0: one per GPU of the cluster, or two CPU workers without one), of
    which `workers_min` may be enough (0: all are needed).

    Raises:
        InvalidInputError: more workers needed than GPUs; each needs its own.
    """
    import ray

    nodes = sum(node["Alive"] for node in ray.nodes())
    gpus = int(runtime.total_gpus())
    count = workers or gpus or 2
    on_node = -(-count // max(1, nodes))
    if count > ray.cluster_resources().get("GPU", 0) and gpus:
        on_node = 1  # an autoscaling cluster has yet to start its nodes
    if not gpus:
        return Resources(workers=count, workers_min=workers_min, workers_on_node=on_node)
    needed = workers_min or count
    if needed > gpus:
        raise InvalidInputError(
            "workers", f"{needed} workers for {gpus} GPUs", f"Use --workers {gpus} or fewer."
        )
    share = runtime.total_cpus() / gpus
    return Resources(
        workers=count,
        workers_min=workers_min,
        gpu=True,
        cpus=max(1.0, min(4.0, share - 1)),
        workers_on_node=on_node,
    )


def require_cpus_for_data(resources: Resources) -> None:
    """Check that Ray Data finds CPUs beside the workers, to read and decode.

    Raises:
        InvalidInputError: it would wait for ever.
    """
    if not resources.workers:
        return
    total = runtime.total_cpus()
    taken = (resources.workers_min or resources.workers) * resources.cpus
    if total - taken < _CPUS_FOR_DATA:
        raise InvalidInputError(
            "streaming crops",
            f"needs {_CPUS_FOR_DATA:g} CPUs beside the workers; the cluster has {total:g} "
            f"and the workers hold {taken:g}",
            "Use fewer workers (or trials at a time), more CPUs, or --frame.loading memory.",
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
        "failure": str(folder / f"{run_name}.failure.json"),
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
            pictures=progress.parent / PICTURES,
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
    failure = Path(config["failure"])
    failure.unlink(missing_ok=True)  # of an earlier call: what it was may have been remedied
    try:
        result = trainer.fit()
    except RayTrainingFailedError as error:
        if failure.exists():
            raise read_failure(failure) from error
        reason = str(error).strip().splitlines()[-1].rstrip(".")
        raise TrainingFailedError(config["job"].name, str(folder), reason) from error
    if isinstance(result.return_value, D3KEError):
        raise result.return_value
    return result


def train_on_worker(config: dict[str, Any]) -> D3KEError | None:
    """What every Ray worker runs.

    Errors that would only happen again are returned, not raised, because Ray would restart the
    workers for them. They are met by all workers at once, so that none waits for another. One that
    a single worker meets is written down and raised, which ends the others; all find it when Ray
    starts them again.
    """
    known = Path(config["failure"])
    if known.exists():
        return read_failure(known)
    # Of this machine's cores: the driver's machine may have others.
    torch.set_num_threads(threads_per_worker(config["workers_on_node"]))
    use_deterministic_algorithms(config["deterministic"])
    worker = RayWorker()
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
        pictures=path.parent / PICTURES,
    )
    try:
        loop.run()
    except NonFiniteLossError as failure:
        return failure
    except D3KEError as failure:
        write_json(known, {"error": str(failure)})
        raise
    return None


def read_failure(path: Path) -> D3KEError:
    """The error that a worker wrote down."""
    return D3KEError(read_json(path)["error"])


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
