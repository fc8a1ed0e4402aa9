"""Progress on the terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LOG_INTERVAL_S = 15.0

logger = logging.getLogger("d3ke_platform")


class ProgressReport:
    """One line of progress: a bar on a terminal, a log line now and then elsewhere."""

    def __init__(self, name: str, total: int, bar: Progress | None) -> None:
        self._name = name
        self._total = total
        self._bar = bar
        self._task = bar.add_task(name, total=total, note="") if bar is not None else None
        self._done = 0
        self._logged_at = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more items are done; `note` is shown beside the bar."""
        self._done += count
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=count, note=note)
        elif time.monotonic() - self._logged_at > _LOG_INTERVAL_S:
            self._logged_at = time.monotonic()
            logger.info("%s: %d of %d %s", self._name, self._done, self._total, note)


@contextmanager
def progress(name: str, total: int, *, visible: bool = True) -> Iterator[ProgressReport]:
    """Progress of `total` items on stderr."""
    if not visible or not sys.stderr.isatty():
        yield ProgressReport(name, total, None)
        return
    columns: tuple[Any, ...] = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield ProgressReport(name, total, bar)
