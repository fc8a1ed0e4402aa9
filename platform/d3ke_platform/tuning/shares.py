"""How trials share the cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace

from d3ke.errors import InvalidInputError
from d3ke_platform import runtime
from d3ke_platform.training.trainer import Resources
from d3ke_platform.tuning.settings import TuneSettings

# As everywhere: that many CPUs of the cluster are nobody's, so that what runs beside fits in.
_SPARE_CPUS = 2
# What Tune reserves for a trial whose workers reserve their own; it accepts no zero.
_NEXT_TO_NOTHING = 0.01
# A CPU worker reserves half of what it uses, as everywhere.
_CPUS_OF_WORKER = 0.5


@dataclass(frozen=True, kw_only=True)
class Share:
    """Trials side by side and what each of them gets."""

    concurrent: int
    cpus: float
    """CPUs that Tune reserves per trial."""
    gpus: float
    """GPUs that Tune reserves per trial."""
    threads: int
    """Arithmetic threads of a trial that trains inside."""
    resources: Resources
    """Workers of a trial."""

    @property
    def together(self) -> Resources:
        """What computes in all trials at the same time."""
        in_trials = Resources(workers=self.concurrent, cpus=self.cpus)
        workers = self.concurrent * self.resources.workers
        return replace(self.resources, workers=workers) if workers else in_trials


def share_cluster(settings: TuneSettings) -> Share:
    """Shares of the connected cluster, as large as it may grow.

    Raises:
        InvalidInputError: a trial has more workers than find room.
    """
    return shares(
        cpus=runtime.total_cpus(),
        gpus=runtime.total_gpus(),
        workers=settings.trial_workers,
        trials_per_gpu=settings.trials_per_gpu,
        concurrent=settings.concurrent,
    )


def shares(
    *, cpus: float, gpus: float, workers: int, trials_per_gpu: int = 1, concurrent: int = 0
) -> Share:
    """Shares of a cluster with so many CPUs and GPUs; `concurrent` 0 = as many as fit.

    Raises:
        InvalidInputError: a trial has more workers than find room; each trial would wait for it,
            minutes long, and fail.
    """
    usable = max(1, int(cpus) - _SPARE_CPUS)
    if workers > 1:
        _require_room(workers, cpus=cpus, gpus=gpus)
        fitting = max(1, int(gpus if gpus else usable) // workers)
        count = min(concurrent or fitting, fitting)
        reserved = min(4.0, usable / (count * workers)) if gpus else _CPUS_OF_WORKER
        return Share(
            concurrent=count,
            cpus=_NEXT_TO_NOTHING,
            gpus=0.0,
            threads=1,
            resources=Resources(
                workers=workers, gpu=gpus > 0, cpus=reserved, workers_on_node=count * workers
            ),
        )
    fitting = int(gpus) * trials_per_gpu if gpus else usable
    count = concurrent or max(1, fitting)
    return Share(
        concurrent=count,
        # Fewer CPUs than trials: each reserves a part, so that all asked for run at once.
        cpus=min(1.0, usable / count),
        gpus=1 / trials_per_gpu if gpus else 0.0,
        threads=max(1, usable // count) if not gpus else 1,
        resources=Resources(workers=0),
    )


def _require_room(workers: int, *, cpus: float, gpus: float) -> None:
    """Raise InvalidInputError if the workers of one trial do not fit into the whole cluster."""
    if gpus:
        most, there = int(gpus), f"{gpus:g} GPUs, and each needs its own"
    else:
        most = int((cpus - _NEXT_TO_NOTHING) / _CPUS_OF_WORKER)
        there = f"{cpus:g} CPUs, of which each reserves {_CPUS_OF_WORKER:g}"
    if workers > most:
        raise InvalidInputError(
            "trial_workers",
            f"{workers} workers for {there}",
            f"Use --trial-workers {max(1, most)} or fewer.",
        )
