"""Epoch metrics on their way from the training workers to the terminal and to MLflow.

Rank 0 appends one JSON line per epoch to a file of the run; a thread of the driver follows the
file. This needs no actor, survives restarts of either side, and leaves a readable record.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from d3ke_platform.polling import Polling

Row = dict[str, Any]


def append_row(path: Path, row: Row) -> None:
    """Append `row` as one JSON line; one small write, so that readers see whole lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Rows of the file, in order; none if it does not exist.

    An epoch that was trained again after a worker died counts once, as it was last.
    """
    rows = {(row.get("stage"), row.get("epoch")): row for row in _lines(path)}
    return list(rows.values())


def _lines(path: Path) -> list[Row]:
    """Every complete line."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class ProgressWatcher(Polling):
    """Context that calls `on_row` in a thread for every row appended to `path` meanwhile."""

    def __init__(self, path: Path, on_row: Callable[[Row], None], *, every_s: float = 0.5) -> None:
        super().__init__(self._drain, every_s=every_s, name="progress")
        self._path, self._on_row = path, on_row
        self._seen = len(_lines(path))

    def _drain(self) -> None:
        rows = _lines(self._path)
        for row in rows[self._seen :]:
            self._on_row(row)
        self._seen = len(rows)


class EpochPrinter:
    """One line per epoch on the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    def __call__(self, row: Row) -> None:
        self._console.print(epoch_line(row), soft_wrap=True)


def epoch_line(row: Row) -> str:
    """The row as text: epoch, loss, validation errors, speed and time left."""
    parts = [f"{row['stage']:<8} epoch {row['epoch']:>3}/{row['epochs']}"]
    if "loss_total" in row:
        parts.append(f"loss {row['loss_total']:.4f}")
    parts.append(f"val main {_degrees(row, 'main')} all {_degrees(row, 'all')} deg")
    if "samples_per_s" in row:
        left = (row["epochs"] - row["epoch"]) * (row["train_s"] + row["validate_s"])
        parts.append(f"{row['samples_per_s']:.0f}/s")
        parts.append(f"{_clock(left)} left")
    if row["best_epoch"] == row["epoch"]:
        parts.append("best")
    return "  ".join(parts)


def _degrees(row: Row, group: str) -> str:
    value = row.get(f"val_mae_{group}_deg", math.nan)
    return f"{value:.2f}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
