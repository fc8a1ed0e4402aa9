"""Reading boards and alert rules: expressions, metric names, labels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = ROOT / "dashboards"
OWN = re.compile(r"\bray_(d3ke_\w+)")


def boards() -> dict[str, dict[str, Any]]:
    """Board files by name."""
    files = sorted((DASHBOARDS / "boards").glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def panel_queries() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(board / panel, expression, panel) of every query."""
    for name, board in boards().items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{name} / {panel['title']}", target["expr"], panel


def rules() -> list[dict[str, Any]]:
    """Alert and recording rules."""
    groups = yaml.safe_load((DASHBOARDS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metric_name(found: str) -> str:
    """The metric of a series: histograms have three series each."""
    return re.sub(r"_(bucket|sum|count)$", "", found)
