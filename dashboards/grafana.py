"""Boards as Grafana reads them: panels laid out in rows, as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

GRID_WIDTH = 24
# Grafana 11's dashboard schema; it migrates older ones and reads newer files of this shape.
SCHEMA_VERSION = 39
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Kind = Literal["timeseries", "stat", "bargauge"]


@dataclass(frozen=True)
class Query:
    """A PromQL expression and what its series are called."""

    expression: str
    legend: str
    """Grafana fills in labels: {{stage}}."""


@dataclass(frozen=True)
class Panel:
    """One picture of a board."""

    title: str
    help: str
    """What a reader should look for."""
    unit: str
    """Grafana's unit; "suffix: x" for one it does not know."""
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    maximum: float | None = None
    decimals: int | None = None
    empty_without: str = ""
    """What it takes for the panel to have data, where that is not always so."""

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        """The panel at a place of the grid."""
        note = f" Empty without {self.empty_without}." if self.empty_without else ""
        defaults: dict[str, Any] = {"unit": self.unit, "min": 0}
        if self.maximum is not None:
            defaults["max"] = self.maximum
        if self.decimals is not None:
            defaults["decimals"] = self.decimals
        if self.kind == "timeseries":
            defaults["custom"] = {
                "drawStyle": "line",
                "lineWidth": 2,
                "fillOpacity": 30 if self.stacked else 0,
                "showPoints": "never",
                "spanNulls": 60_000,
                "stacking": {"mode": "normal" if self.stacked else "none", "group": "A"},
            }
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.help + note,
            "datasource": DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": self._options(),
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": DATASOURCE,
                    "expr": query.expression,
                    "legendFormat": query.legend,
                    "range": self.kind == "timeseries",
                    "instant": self.kind != "timeseries",
                }
                for index, query in enumerate(self.queries)
            ],
        }

    def _options(self) -> dict[str, Any]:
        if self.kind == "timeseries":
            legend = {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
        if self.kind == "bargauge":
            return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"}
        return {
            "reduceOptions": reduce,
            "orientation": "auto",
            "textMode": "auto",
            "colorMode": "none",
            "graphMode": "none",
        }


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a board: values of a label."""

    name: str
    label: str
    metric: str
    """Selector whose series have the label."""
    of: str
    """The label."""

    def json(self) -> dict[str, Any]:
        """The variable, all values chosen."""
        query = f"label_values({self.metric}, {self.of})"
        return {
            "name": self.name,
            "label": self.label,
            "type": "query",
            "datasource": DATASOURCE,
            "definition": query,
            "query": {"query": query, "refId": "Variable"},
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "sort": 2,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }


@dataclass(frozen=True)
class Board:
    """A page of panels."""

    name: str
    title: str
    help: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...] = field(default_factory=tuple)

    def text(self) -> str:
        """The file's content."""
        return json.dumps(self.json(), indent=1) + "\n"

    def json(self) -> dict[str, Any]:
        """The board; panels follow each other in rows."""
        datasource = {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "refresh": 1,
            "includeAll": False,
            "multi": False,
            "current": {},
        }
        return {
            "uid": f"d3ke-{self.name}",
            "title": self.title,
            "description": self.help,
            "tags": ["d3ke"],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "links": [
                {
                    "title": "D3KE boards",
                    "type": "dashboards",
                    "tags": ["d3ke"],
                    "asDropdown": True,
                    "includeVars": False,
                    "keepTime": True,
                }
            ],
            "annotations": {"list": []},
            "templating": {"list": [datasource, *(v.json() for v in self.variables)]},
            "panels": _laid_out(self.panels),
        }


def _laid_out(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    x = y = height = 0
    placed = []
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > GRID_WIDTH:
            x, y, height = 0, y + height, 0
        placed.append(panel.json(number, x, y))
        x, height = x + panel.width, max(height, panel.height)
    return placed
