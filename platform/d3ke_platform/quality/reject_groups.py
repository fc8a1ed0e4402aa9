"""Rejects counted by stage and reason: a thousand rejects for one reason are one row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_EXAMPLES = 3
_LONGEST = 300


def group_rejects(rejects: Sequence[Mapping[str, Any]], root: str = "") -> list[dict[str, Any]]:
    """Rows of stage, reason (of the first item), count and some items, most frequent first.

    Reasons are the same when they differ only in numbers, in the item's name or in a path. Paths
    below `root`, the data set, are shown relative to it.
    """
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rejects:
        key = (row["stage"], _general(row["reason"], row["item"]))
        group = groups.setdefault(
            key,
            {
                "stage": row["stage"],
                "reason": _short(relative(row["reason"], root)),
                "count": 0,
                "items": [],
            },
        )
        group["count"] += 1
        if len(group["items"]) < _EXAMPLES:
            group["items"].append(row["item"])
    return sorted(groups.values(), key=lambda group: (-group["count"], group["stage"]))


def relative(text: str, root: str) -> str:
    """The text with paths below a folder shortened, so that the page can be handed on."""
    return text.replace(f"{root.rstrip('/')}/", "") if root else text


def _general(reason: str, item: str) -> str:
    """The reason without what belongs to one item."""
    text = reason.replace(item, "*") if item else reason
    text = re.sub(r"\S*/\S+", "/", text)
    return re.sub(r"\d+([.,]\d+)*", "#", text)


def _short(reason: str) -> str:
    text = " ".join(reason.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
