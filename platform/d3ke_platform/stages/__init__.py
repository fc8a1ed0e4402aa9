"""Stages: what is done to one item. They know nothing of Ray; `pipelines` runs them on it."""

from __future__ import annotations

from typing import Any, Protocol


class Stage(Protocol):
    """One step of a pipeline, built once per worker and called per item.

    `name` appears in progress bars and in the rejects. A call returns ledger rows: small dicts
    of JSON-like values that say what was written. An exception makes the item a reject.
    """

    name: str

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Process one item."""
        ...
