"""A running search on the terminal and in MLflow."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from d3ke.errors import D3KEError
from d3ke_platform.tracking import RunTracker
from d3ke_platform.training.progress import Row
from d3ke_platform.tuning.ledger import TrialRecord
from d3ke_platform.tuning.pareto import POSITION, SPEED
from d3ke_platform.tuning.search import Observer
from d3ke_platform.tuning.space import describe

_LOG = logging.getLogger(__name__)
_COLORS = {"finished": "green", "stopped": "default", "failed": "red", "running": "default"}


class Watch(Observer):
    """One line per trial, and one MLflow run per trial below the run of the search."""

    def __init__(
        self,
        parent: RunTracker,
        *,
        stage: str,
        trials: int,
        fixed: Mapping[str, str],
        console: Console | None = None,
    ) -> None:
        """`fixed`: tags that all runs of the search have."""
        self._parent, self._stage, self._trials = parent, stage, trials
        self._fixed = dict(fixed)
        self._console = console or Console(stderr=True, highlight=False)
        self._runs: dict[int, RunTracker] = {}

    def started(self, record: TrialRecord) -> None:
        again = f", on from epoch {record.epochs}" if record.epochs else ""
        self._show(record, f"starts{again}: {describe(record.parameters)}", style="dim")
        with _tracking_is_optional():
            tracker = self._parent.child(
                f"{self._stage} {record.number:04d}",
                parameters=record.parameters,
                tags={**self._fixed, "stage": self._stage, "origin": record.origin},
                run_id=record.run_id,
            )
            record.run_id = tracker.run_id
            self._runs[record.number] = tracker

    def epoch(self, record: TrialRecord, row: Row) -> None:
        if record.number in self._runs:
            self._runs[record.number].log_epoch(row)

    def ended(self, record: TrialRecord, best: TrialRecord | None) -> None:
        tracker = self._runs.pop(record.number, None)
        if tracker is not None:
            with _tracking_is_optional():
                _close(tracker, record)
        if record.state == "failed":
            self._show(record, f"failed: {record.reason}", style="red")
            return
        if best is not None and best.value is not None:
            self._parent.log_metrics({f"{self._stage}/best": best.value}, step=record.number)
        self._show(record, outcome_line(record, best), style=_COLORS[record.state])

    def _show(self, record: TrialRecord, text: str, *, style: str) -> None:
        place = f"{self._stage:<8} trial {record.number:>3}/{self._trials}"
        self._console.print(f"{place}  {text}", style=style, soft_wrap=True, markup=False)


@contextmanager
def _tracking_is_optional() -> Iterator[None]:
    """A tracking server that is away for a moment must not end a search: it is a warning."""
    from mlflow import MlflowException

    try:
        yield
    except (D3KEError, MlflowException) as error:
        _LOG.warning("MLflow: %s", " ".join(str(error).split()))


def _close(tracker: RunTracker, record: TrialRecord) -> None:
    """End a trial's run."""
    errors = {f"best/{name}": value for name, value in record.errors.items() if value is not None}
    tracker.log_metrics(errors)
    tracker.tag("trial_state", record.state)
    tracker.finish(succeeded=record.state != "failed")


def outcome_line(record: TrialRecord, best: TrialRecord | None) -> str:
    """What became of a trial, as text."""
    parts = [f"{record.state} after {record.epochs} epochs", f"{_number(record.value)} deg"]
    for name, unit in ((POSITION, "mm"), (SPEED, "deg/s")):
        if record.errors.get(name) is not None:
            parts.append(f"{_number(record.errors[name])} {unit}")
    parts.append(f"{record.seconds:.0f} s")
    if best is not None:
        mine = best.number == record.number
        parts.append("best" if mine else f"best {_number(best.value)} (trial {best.number})")
    return "  ".join(parts)


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"
