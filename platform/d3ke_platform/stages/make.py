"""Stage: one unit of a source -> its files in the data set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from d3ke_platform import storage
from d3ke_platform.sources import Source


class MakeUnit:
    """Lets the source make a unit; `units/<unit>.json` keeps the table rows of a complete one."""

    name = "make"

    def __init__(self, source: Source, root: str) -> None:
        self._source = source
        self._root = root

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: a unit of the source's plan; returns a row of counts and seconds."""
        began = time.perf_counter()
        made = self._source.make(item, Path(self._root))
        rows = {"trials": list(made.trials), "recordings": list(made.recordings)}
        storage.write_json(unit_uri(self._root, item["unit"]), rows)
        seconds = time.perf_counter() - began
        return [{"unit": item["unit"], "seconds": seconds}]


def unit_uri(root: str, unit: str) -> str:
    """Rows of a finished unit."""
    return storage.join(root, "units", f"{unit}.json")
