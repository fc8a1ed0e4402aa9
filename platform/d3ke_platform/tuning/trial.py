"""One trial: a training whose epochs are told to Ray Tune; runs in an actor of the cluster."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3ke.errors import D3KEError
from d3ke_platform.training import checkpoint as saved
from d3ke_platform.training.progress import Row, read_rows
from d3ke_platform.training.trainer import (
    FAILED_BATCHES,
    Job,
    Resources,
    fit,
    use_deterministic_algorithms,
)
from d3ke_platform.training.worker import LocalWorker

_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """Everything a trial needs; picklable."""

    number: int
    job: Job
    folder: Path
    """The trial's own folder: checkpoints, and the progress of a training with more workers."""
    metric: str
    """Validation error that the search lowers."""
    exempt: bool
    """Whether ASHA must let it run to its end."""
    threads: int
    """Arithmetic threads of a trial that trains inside."""
    deterministic: bool = False
    """Whether PyTorch may use deterministic algorithms only."""
    resources: Resources
    """Workers of a trial that is a Ray Train run; one worker trains inside the trial."""


Report = Callable[[dict[str, Any]], None]


def run_trial(config: dict[str, Any]) -> None:
    """Trainable for Ray Tune; `config["plan"]` is a `TrialPlan`.

    Every epoch becomes a result {"epoch", "value", "row", "exempt", "replayed"}, where "value" is
    the lowest error so far. An error of the training becomes a result {"failed": reason}: it would
    come again, so that a retry is of no use. A trial that is started again (its actor died, or the
    search was killed) goes on from its checkpoint; epochs that came before it are replayed.
    """
    from ray import tune

    plan: TrialPlan = config["plan"]
    try:
        if plan.resources.workers > 1:
            _train_with_workers(plan, EpochReports(plan, tune.report))
        else:
            train_inside(plan, EpochReports(plan, tune.report))
    except D3KEError as error:
        tune.report({"failed": " ".join(str(error).split())})
    except Exception as error:  # noqa: BLE001  one trial of many: recorded, the search goes on
        reason = " ".join(str(error).split())
        tune.report({"failed": f"{type(error).__name__}: {reason}"})


class EpochReports:
    """Turns epochs into results."""

    def __init__(self, plan: TrialPlan, report: Report) -> None:
        self._plan, self._report = plan, report
        self._lowest = math.inf

    def __call__(self, row: Row, *, replayed: bool = False) -> None:
        value = row.get(f"val_{self._plan.metric}", math.nan)
        # min() with NaN depends on the order of its arguments.
        self._lowest = value if value < self._lowest else self._lowest
        self._report(
            {
                "epoch": row["epoch"],
                "value": self._lowest,
                "row": row,
                "exempt": self._plan.exempt,
                "replayed": replayed,
            }
        )


def train_inside(plan: TrialPlan, report: EpochReports) -> None:
    """Train in this process, on from the last checkpoint if there is one."""
    import torch

    from d3ke_platform.training.loop import TrainingLoop

    torch.set_num_threads(plan.threads)
    use_deterministic_algorithms(plan.deterministic)
    worker = LocalWorker(plan.folder)
    with worker.restore() as last:
        before = [] if last is None else saved.load_progress(last).history
    for row in before:
        report(row, replayed=True)
    TrainingLoop(
        plan.job.task(worker),
        worker,
        seed=plan.job.seed,
        on_epoch=report,
        failed_batches=plan.folder / FAILED_BATCHES,
    ).run()


def _train_with_workers(plan: TrialPlan, report: EpochReports) -> None:
    """Launch a Ray Train run in a process of its own and report its epochs as they come.

    That process ends with this trial. What frees the run's CPUs then asks the cluster's API, whose
    address Ray guesses wrongly where two clusters share a machine; the environment tells it.
    """
    import ray

    progress = plan.folder / "train_progress.jsonl"
    address = ray.get_runtime_context().gcs_address
    launch = ray.remote(fit_apart).options(
        num_cpus=0, max_retries=0, runtime_env={"env_vars": {"RAY_ADDRESS": address}}
    )
    before = len(read_rows(progress))
    running = [launch.remote(plan, str(progress))]
    told = 0
    while running:
        done, running = ray.wait(running, timeout=_LOOK_EVERY_S)
        rows = read_rows(progress)
        for index in range(told, len(rows)):
            report(rows[index], replayed=index < before)
        told = len(rows)
        if done:
            ray.get(done)


def fit_apart(plan: TrialPlan, progress: str) -> None:
    """What the process of a Ray Train run does."""
    fit(
        plan.job,
        plan.folder,
        run_name=f"trial-{plan.number:04d}",
        resources=plan.resources,
        progress=Path(progress),
        max_failures=1,
        deterministic=plan.deterministic,
    )
