"""The boards as files: up to date, complete, and true to the metrics that the code has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import ray
from board_parts import OWN, boards, metric_name, panel_queries, rules

from d3ke_platform.telemetry import METRICS
from dashboards import build

RAYS_OWN = Path(ray.__file__).parent / "dashboard/modules/metrics/dashboards"


@pytest.mark.parametrize("board", build.BOARDS, ids=lambda board: board.name)
def test_the_files_are_what_the_generator_writes(board) -> None:
    text = build.path(board).read_text(encoding="utf-8")
    assert text == board.text(), "run: python -m dashboards.build"


def test_every_metric_of_a_board_or_alert_is_recorded_and_the_other_way_round() -> None:
    texts = [expression for _, expression, _ in panel_queries()]
    texts += [rule["expr"] for rule in rules()]
    used = {metric_name(name) for text in texts for name in OWN.findall(text)}
    assert used == set(METRICS)


def test_alerts_do_not_speak_of_panels_only() -> None:
    shown = {metric_name(n) for _, text, _ in panel_queries() for n in OWN.findall(text)}
    assert shown == set(METRICS), "each metric has a panel"


def test_histograms_are_asked_for_quantiles_only() -> None:
    """Ray fills their sums with the middles of buckets."""
    for where, text, _ in panel_queries():
        for name in OWN.findall(text):
            if METRICS[metric_name(name)].kind == "histogram":
                assert name.endswith("_bucket"), where
                assert "histogram_quantile" in text, where


def test_filters_and_groups_use_labels_that_the_metrics_have() -> None:
    rays = {"SessionName", "instance", "WorkerId", "le"}
    for where, text in [(w, t) for w, t, _ in panel_queries()] + [
        (rule.get("alert", "record"), rule["expr"]) for rule in rules()
    ]:
        found = {metric_name(name) for name in OWN.findall(text)}
        if not found:
            continue
        known = rays.union(*(METRICS[name].labels for name in found))
        for name, filters in re.findall(r"\bray_(d3ke_\w+)\{([^}]*)\}", text):
            labels = set(re.findall(r"(\w+)\s*=~?\"", filters))
            assert labels <= {*METRICS[metric_name(name)].labels, *rays}, where
        for group in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", text):
            assert set(re.findall(r"\w+", group)) <= known, (where, group)


def test_a_reader_is_told_what_a_panel_shows() -> None:
    for name, board in boards().items():
        assert board["title"], name
        assert board["description"], name
        titles = [panel["title"] for panel in board["panels"]]
        assert len(set(titles)) == len(titles), name
        for panel in board["panels"]:
            where = f"{name} / {panel['title']}"
            assert panel["description"].endswith("."), where
            assert panel["fieldConfig"]["defaults"]["unit"], where
            for target in panel["targets"]:
                assert target["legendFormat"], where
                labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                groups = re.findall(r"by \(([^)]*)\)", target["expr"])
                grouped = set(re.findall(r"\w+", " ".join(groups)))
                assert labels <= grouped, f"{where}: a legend without its label"


def test_variables_of_queries_are_declared_and_the_other_way_round() -> None:
    for name, board in boards().items():
        declared = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
        assert used - {"__rate_interval"} == declared, name


def test_panels_lie_side_by_side() -> None:
    for name, board in boards().items():
        taken: set[tuple[int, int]] = set()
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]), name
        for panel in board["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24, (name, panel["title"])
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, (name, panel["title"])
            taken |= cells


def test_the_shape_is_that_of_boards_which_grafana_reads() -> None:
    """Grafana is not to be had here; Ray's own boards are known to work."""
    known = json.loads((RAYS_OWN / "train_grafana_dashboard_base.json").read_text())
    variables = {v["type"]: v for v in known["templating"]["list"]}
    for name, board in boards().items():
        assert known.keys() - {"style"} <= board.keys(), name
        assert type(board["schemaVersion"]) is int
        for variable in board["templating"]["list"]:
            model = variables[variable["type"]]
            needed = {"name", "type", "query", "refresh", "includeAll", "multi", "current"}
            assert needed <= variable.keys() & model.keys(), (name, variable["name"])
            assert type(variable["query"]) is type(model["query"]), (name, variable["name"])
    assert len({board["uid"] for board in boards().values()}) == len(build.BOARDS)
    assert all(len(board["uid"]) <= 40 for board in boards().values())
