"""Stages for tests of the Ray Data adapter; sent to workers by value."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from d3ke.errors import InvalidInputError


class Fake:
    """Multiplies "x"; item 3 is bad input, 4 a defect, 5 ends its process.

    The first actor ends its process while it is made and leaves the file `died` behind.
    """

    name = "fake"

    def __init__(self, factor: int, died: str = "") -> None:
        if factor < 0:
            raise InvalidInputError("factor", f"{factor} is negative")
        if died and not Path(died).exists():
            Path(died).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self._factor = factor

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        if item["x"] == 3:
            raise InvalidInputError("x", "is three")
        if item["x"] == 4:
            raise ZeroDivisionError("four")
        if item["x"] == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        threads = os.environ.get("OMP_NUM_THREADS")
        return [{"item": item["item"], "y": item["x"] * self._factor, "threads": threads}]


class Twice:
    """Two ledger rows for even items, none for odd ones."""

    name = "twice"

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"x": item["x"]}] * 2 if item["x"] % 2 == 0 else []
