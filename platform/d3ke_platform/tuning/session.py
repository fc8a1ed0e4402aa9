"""A search under Ray Tune: trials side by side, ASHA, retries of trials whose process died."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from ray import tune
from ray.tune import Callback
from ray.tune.search import Searcher

from d3ke_platform.training.trainer import Job
from d3ke_platform.tuning.asha import RememberingASHA
from d3ke_platform.tuning.ledger import TrialRecord
from d3ke_platform.tuning.search import Search
from d3ke_platform.tuning.shares import Share
from d3ke_platform.tuning.trial import TrialPlan, run_trial

_ENVIRONMENT = {
    # Its own files per trial: the ledger has all of it.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Ctrl-C ends the job like any other; Tune would finish the running trials first.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Its snapshots of the experiment are not used.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    # The result of a failed trial has no error to lower.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_search(
    search: Search,
    make_job: Callable[[TrialRecord], Job],
    *,
    share: Share,
    grace: int,
    reduction_factor: float,
    max_failures: int,
) -> None:
    """Run what is left of the search; needs a connection to Ray.

    Args:
        search: what to try, and where results go.
        make_job: the training of a trial.
        share: what each trial gets of the cluster.
        grace: epochs before a trial may be stopped.
        reduction_factor: see `TuneSettings`.
        max_failures: times a trial is started again, from its checkpoint, after its process died.
    """
    if not search.left:
        return
    # Ray Tune wants a folder of its own that all nodes see; nothing in it is needed afterwards.
    scratch = search.ledger.root / f".tune-{uuid4().hex[:8]}"
    for old in search.ledger.root.glob(".tune-*"):
        shutil.rmtree(old, ignore_errors=True)
    with _environment():
        tuner = tune.Tuner(
            tune.with_resources(run_trial, {"cpu": share.cpus, "gpu": share.gpus}),
            tune_config=tune.TuneConfig(
                num_samples=search.left,
                max_concurrent_trials=share.concurrent,
                search_alg=_Suggestions(search, _planner(search, make_job, share)),
                scheduler=_scheduler(search, grace, reduction_factor),
                # A process that has imported PyTorch serves trial after trial. A Ray Train run is
                # ended with its trial's process only.
                reuse_actors=share.resources.workers <= 1,
                trial_name_creator=_trial_name,
                trial_dirname_creator=_trial_name,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=str(scratch.absolute()),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=max_failures),
                callbacks=[_Results(search)],
            ),
        )
        try:
            tuner.fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _planner(
    search: Search, make_job: Callable[[TrialRecord], Job], share: Share
) -> Callable[[TrialRecord], TrialPlan]:
    def plan(record: TrialRecord) -> TrialPlan:
        return TrialPlan(
            number=record.number,
            job=make_job(record),
            folder=search.ledger.folder(record.number).absolute(),
            metric=search.ledger.metric,
            exempt=record.origin != "search",
            threads=share.threads,
            deterministic=search.space.base.deterministic,
            resources=share.resources,
        )

    return plan


def _scheduler(search: Search, grace: int, reduction_factor: float) -> RememberingASHA:
    scheduler = RememberingASHA(
        epochs=search.total_epochs, grace=grace, reduction_factor=reduction_factor
    )
    for record in search.ledger.ended():
        rows = search.ledger.rows(record.number)
        scheduler.remember(record.number, rows, search.ledger.metric)
    return scheduler


class _Suggestions(Searcher):
    """Asks the search for trials when Tune has room for one."""

    def __init__(
        self, search: Search | None, plan: Callable[[TrialRecord], TrialPlan] | None
    ) -> None:
        super().__init__(metric="value", mode="min")
        self._search, self._plan = search, plan

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        assert self._search is not None
        assert self._plan is not None
        record = self._search.next()
        if record is None:
            return Searcher.FINISHED
        return {"number": record.number, "plan": self._plan(record)}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """`_Results` tells the search."""

    def save(self, checkpoint_path: str) -> None:
        Path(checkpoint_path).write_text("")  # the ledger is what is kept

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search goes on from its ledger")

    def __reduce__(self) -> Any:
        # Tune saves a copy for its own restoring, which is not used; a search has open files.
        return _Suggestions, (None, None)


class _Results(Callback):
    """Brings results and ends of trials to the search, in the driver."""

    def __init__(self, search: Search | None) -> None:
        self._search = search
        self._failed: dict[int, str] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        assert self._search is not None
        number = trial.config["number"]
        if "failed" in result:
            self._failed[number] = result["failed"]
        elif "row" in result:
            self._search.row(number, result["row"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        assert self._search is not None
        number = trial.config["number"]
        self._search.end(number, self._failed.pop(number, ""))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        assert self._search is not None
        self._search.end(trial.config["number"], _reason(trial.get_error(), trial.num_failures))

    def __reduce__(self) -> Any:
        return _Results, (None,)


def _reason(error: object, times: int) -> str:
    """Why Tune gave a trial up; what the training itself raised does not come this way."""
    lines = str(error or "").strip().splitlines()
    if not lines or "ActorDied" in str(error):
        return f"its process died {times} times: a crash in native code or lack of memory"
    return lines[-1].strip()


def _trial_name(trial: Any) -> str:
    return f"trial_{trial.config['number']:04d}"


@contextmanager
def _environment() -> Iterator[None]:
    # Tune warns of trials without files of its own and prints traces of every failure: the line
    # about a trial tells why it failed.
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
