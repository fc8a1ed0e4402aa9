"""What is known of every trial, on disk: the search goes on from here after it was killed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from d3ke_platform import storage
from d3ke_platform.training.progress import Row, append_row, read_rows

State = Literal["running", "finished", "stopped", "failed"]
Origin = Literal["recipe", "paper", "search"]


@dataclass
class TrialRecord:
    """One trial. Errors are those of its best epoch."""

    number: int
    """From 1."""
    origin: Origin
    """Who proposed it: the recipe's own setting, the paper's loss weights in it, or the search."""
    parameters: dict[str, Any]
    state: State = "running"
    value: float | None = None
    """Lowest validation error so far [deg]; None without any."""
    best_epoch: int = 0
    epochs: int = 0
    """Epochs that were trained."""
    errors: dict[str, float | None] = field(default_factory=dict)
    """Validation errors of the best epoch, by name."""
    seconds: float = 0.0
    """Time in training and validation, over all starts."""
    reason: str = ""
    """Why it failed."""
    run_id: str = ""
    """MLflow run."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state != "running"


class Ledger:
    """Records and epochs of one search, below a folder; written by the driver alone.

    `trial_0007.json` is a record, `trials/0007/` the trial's folder with its progress.jsonl.
    """

    def __init__(self, root: Path, metric: str) -> None:
        """`metric`: name of the validation error that the search lowers."""
        self.root, self.metric = root, metric
        root.mkdir(parents=True, exist_ok=True)
        self.records = [_read(path) for path in sorted(root.glob("trial_*.json"))]

    def record(self, number: int) -> TrialRecord:
        """The trial with this number."""
        return self.records[number - 1]

    def folder(self, number: int) -> Path:
        """The trial's folder, created."""
        folder = self.root / "trials" / f"{number:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def rows(self, number: int) -> list[Row]:
        """Metrics of the trial's epochs."""
        return read_rows(self.folder(number) / "progress.jsonl")

    def add(self, origin: Origin, parameters: dict[str, Any]) -> TrialRecord:
        """A new trial, running."""
        record = TrialRecord(number=len(self.records) + 1, origin=origin, parameters=parameters)
        self.records.append(record)
        self.save(record)
        return record

    def add_row(self, record: TrialRecord, row: Row) -> None:
        """An epoch of the trial is over."""
        append_row(self.folder(record.number) / "progress.jsonl", row)

    def save(self, record: TrialRecord) -> None:
        """Write the record, brought up to date."""
        self.refresh(record)
        storage.write_json(self.root / f"trial_{record.number:04d}.json", record)

    def refresh(self, record: TrialRecord) -> None:
        """Bring the record's numbers up to date from the trial's epochs."""
        rows = self.rows(record.number)
        best = best_row(rows, self.metric)
        if best is not None:
            record.value, record.best_epoch = best[f"val_{self.metric}"], best["epoch"]
            record.errors = {
                name.removeprefix("val_"): value if math.isfinite(value) else None
                for name, value in best.items()
                if name.startswith("val_")
            }
        record.epochs = max((row["epoch"] for row in rows), default=0)
        seconds = sum(row["train_s"] + row["validate_s"] for row in rows)
        record.seconds = round(seconds, 2)

    def ended(self) -> Iterator[TrialRecord]:
        """Trials that are over."""
        return (record for record in self.records if record.ended)

    def best(self) -> TrialRecord | None:
        """The trial with the lowest error of all that did not fail.

        A trial that was stopped counts: a training with its setting passes through the same
        epochs and keeps the best one.
        """
        valued = [r for r in self.records if r.value is not None and r.state != "failed"]
        return min(valued, key=lambda record: (record.value, record.number), default=None)


def curve(rows: list[Row], metric: str) -> dict[int, float]:
    """Finite validation errors by epoch."""
    name = f"val_{metric}"
    return {row["epoch"]: row[name] for row in rows if math.isfinite(row.get(name, math.nan))}


def best_row(rows: list[Row], metric: str) -> Row | None:
    """The epoch with the lowest finite validation error."""
    errors = curve(rows, metric)
    usable = [row for row in rows if row["epoch"] in errors]
    return min(usable, key=lambda row: errors[row["epoch"]], default=None)


def _read(path: Path) -> TrialRecord:
    record = TrialRecord(**storage.read_json(path))
    # JSON knows no tuples; settings know no lists.
    record.parameters = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record.parameters.items()
    }
    return record
