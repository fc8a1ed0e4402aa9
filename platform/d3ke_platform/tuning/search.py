"""The search of one network, without Ray: what to try next, what came of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from d3ke.errors import D3KEError
from d3ke_platform import telemetry
from d3ke_platform.training.progress import Row
from d3ke_platform.training.trainer import FAILED_BATCHES
from d3ke_platform.tuning.ledger import Ledger, Origin, State, TrialRecord
from d3ke_platform.tuning.settings import StageOutcome
from d3ke_platform.tuning.space import SearchSpace
from d3ke_platform.tuning.study import Proposals


class AllTrialsFailedError(D3KEError):
    """No trial of a search came to a validation error."""

    def __init__(self, stage: str, count: int, reason: str) -> None:
        super().__init__(
            f"All {count} trials of the {stage} network failed; the first: {reason}",
            stage,
            count,
            reason,
        )


class Observer:
    """What is told of a search while it runs; does nothing by itself."""

    def started(self, record: TrialRecord) -> None:
        """A trial begins, or goes on after the search was killed."""

    def epoch(self, record: TrialRecord, row: Row) -> None:
        """An epoch of a trial is over."""

    def ended(self, record: TrialRecord, best: TrialRecord | None) -> None:
        """A trial is over."""


class Search:
    """Trials of one network: those cut off first, then the recipe's own setting, then proposals.

    The recipe's own setting, and with it the paper's loss weights where they differ, are trials
    like others, but ASHA never stops them: what a search gains is measured against them.
    """

    def __init__(
        self,
        *,
        space: SearchSpace,
        ledger: Ledger,
        trials: int,
        seed: int,
        observer: Observer | None = None,
    ) -> None:
        self.space, self.ledger, self.trials = space, ledger, trials
        self._observer = observer or Observer()
        self._labels = {"search": ledger.root.parent.name, "stage": space.stage}
        self._proposals = Proposals(space, seed=seed, trials=trials)
        for record in ledger.records:
            self._proposals.add(record, ledger.rows(record.number), ledger.metric)
        self._cut_off = [record for record in ledger.records if not record.ended]
        self.used_up = False
        """Whether every setting of the space was tried."""

    @property
    def total_epochs(self) -> int:
        """Epochs of a trial that is not stopped."""
        return getattr(self.space.base, self.space.stage).total_epochs

    @property
    def left(self) -> int:
        """Trials that are still to be run."""
        new = max(0, self.trials - len(self.ledger.records))
        return new + sum(not record.ended for record in self.ledger.records)

    def next(self) -> TrialRecord | None:
        """The trial to run next; None when there is none left."""
        record = self._cut_off.pop(0) if self._cut_off else self._new()
        if record is not None:
            self.ledger.refresh(record)
            self._observer.started(record)
            self.ledger.save(record)
        self._tell()
        return record

    def row(self, number: int, row: Row) -> None:
        """An epoch of trial `number` is over."""
        record = self.ledger.record(number)
        self.ledger.add_row(record, row)
        telemetry.count("d3ke_tune_epochs_total", 1.0, **self._labels)
        self._observer.epoch(record, row)

    def end(self, number: int, reason: str = "") -> None:
        """Trial `number` is over; `reason`: why it failed."""
        record = self.ledger.record(number)
        if record.ended:
            return
        self.ledger.refresh(record)
        if record.value is None and not reason:
            reason = f"no epoch had a finite {self.ledger.metric}"
        finished = record.epochs >= self.total_epochs
        record.state = "failed" if reason else "finished" if finished else "stopped"
        record.reason = reason
        self.ledger.save(record)
        rows = self.ledger.rows(number)
        self._proposals.end(record, rows, self.ledger.metric)
        _remove_checkpoints(self.ledger.folder(number))
        self._observer.ended(record, self.ledger.best())
        self._tell()

    def outcome(self) -> StageOutcome:
        """What the search came to; raises AllTrialsFailedError."""
        records = self.ledger.records
        best = self.ledger.best()
        if best is None or best.value is None:
            raise AllTrialsFailedError(self.space.stage, len(records), records[0].reason)
        states = [record.state for record in records]
        values = {record.origin: record.value for record in reversed(records)}
        recipe = values.get("recipe")
        return StageOutcome(
            stage=self.space.stage,
            metric=self.ledger.metric,
            value=best.value,
            recipe_value=recipe,
            paper_value=values.get("paper") if self._paper_differs() else recipe,
            best_trial=best.number,
            parameters=best.parameters,
            mpblpe_mm=best.errors.get("mpblpe_mm"),
            mv_deg_s=best.errors.get("mv_main_deg_s"),
            trials=len(records),
            finished=states.count("finished"),
            stopped=states.count("stopped"),
            failed=states.count("failed"),
        )

    def _tell(self) -> None:
        """Trials by state and the lowest error, for dashboards."""
        states = [record.state for record in self.ledger.records]
        numbers = {state: states.count(state) for state in get_args(State)}
        numbers["planned"] = max(0, self.trials - len(states))
        for state, number in numbers.items():
            telemetry.gauge("d3ke_tune_trials", float(number), **self._labels, state=state)
        best = self.ledger.best()
        if best is not None and best.value is not None:
            measure = self.ledger.metric
            telemetry.gauge("d3ke_tune_best_error", best.value, **self._labels, measure=measure)

    def _new(self) -> TrialRecord | None:
        if len(self.ledger.records) >= self.trials:
            return None
        known = {record.origin for record in self.ledger.records}
        fixed: tuple[tuple[Origin, Callable[[], dict]], ...] = (
            ("recipe", self.space.own_values),
            ("paper", self.space.paper_values),
        )
        for origin, values in fixed:
            if origin not in known and (origin == "recipe" or self._paper_differs()):
                record = self.ledger.add(origin, values())
                self._proposals.add(record, [], self.ledger.metric)
                return record
        proposed = self._proposals.propose(len(self.ledger.records) + 1)
        if proposed is None:
            self.used_up = True
            return None
        return self.ledger.add("search", proposed)

    def _paper_differs(self) -> bool:
        return self.space.paper_values() != self.space.own_values()


def _remove_checkpoints(folder: Path) -> None:
    """Everything but the record of epochs, and what a failure left: a search would fill disks."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != FAILED_BATCHES:
            shutil.rmtree(path, ignore_errors=True)
