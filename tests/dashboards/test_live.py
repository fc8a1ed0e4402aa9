"""Demo jobs under a real Prometheus: panels and alerts ask for something that is there."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from board_parts import OWN, metric_name, panel_queries, rules
from prometheus_tools import tool
from watched_cluster import Watched, end, watched_cluster

from d3ke_platform.telemetry import METRICS

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

# Series that well-behaved jobs on a machine without a GPU do not have, and why that is no fault.
QUIET = {
    'device="cuda"': "no GPU",
    'Location="SPILLED"': "nothing was spilled",
    "ray_d3ke_tracking_failures_total": "MLflow took every write",
    "ray_memory_manager_worker_eviction_total": "no worker was ended for memory",
    "SCHEDULING|RESCHEDULING": "workers were there within a scrape",
}


SCORED = 40
"""Videos."""


@dataclass(frozen=True)
class Jobs:
    """Jobs that ran under watch."""

    cluster: Watched
    began: float
    trials: int
    """Of the prepared data set."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    prometheus = tool("prometheus")
    folder = tmp_path_factory.mktemp("jobs")
    data, run, search = (str(folder / name) for name in ("data", "run", "search"))
    quick = ("--recipe", "demo_quick")
    with watched_cluster(prometheus) as cluster:
        began = time.time()
        # Prometheus sees a rate between two looks, and Ray exports every ten seconds: each job has
        # to last for some of them.
        prepared = cluster.job("prepare", *quick, "--synthetic.subjects", "12", "--output", data)
        longer = ("--frame.epochs", "16")
        cluster.job("train", *quick, *longer, "--data", data, "--output", run)
        fast = (*longer, "--trials", "3", "--base", run)
        cluster.job("tune", *quick, "--data", data, "--output", search, *fast)
        archive = folder / "archive"
        archive.mkdir()
        videos = sorted(Path(data).rglob("*.mp4"))[:3]
        for number in range(SCORED):
            shutil.copy(videos[number % 3], archive / f"video{number}.mp4")
        (archive / "broken.mp4").write_bytes(b"not a video")
        scored = ("--archive", str(archive), "--output", str(folder / "scores"))
        cluster.job("score", *quick, "--model", f"{run}/bundle", *scored, "--max-rejects", "1")
        # Ray exports every ten seconds.
        time.sleep(25.0)
        yield Jobs(cluster, began, prepared["trials"])


def test_every_node_is_found(jobs: Jobs) -> None:
    targets = jobs.cluster.ask("targets")["activeTargets"]
    assert len(targets) >= 3
    assert {target["health"] for target in targets} == {"up"}


@pytest.mark.parametrize(
    ("where", "expression", "panel"),
    [
        pytest.param(*query, id=f"{number} {query[0]}")
        for number, query in enumerate(panel_queries())
    ],
)
def test_every_panel_has_data(jobs: Jobs, where: str, expression: str, panel: dict) -> None:
    asked = expression.replace("$__rate_interval", "30s")
    asked = re.sub(r"\$(session|run|search)", ".*", asked)
    if jobs.cluster.has_data(asked, jobs.began):
        return
    assert "Empty without" in panel["description"], f"{where} is empty: {asked}"
    excused = ["a GPU", "a training under Ray Train"]
    if where.startswith("prepare"):
        excused.append("a rejected item")  # only scoring was given something broken
    assert any(reason in panel["description"] for reason in excused), where


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert", rule.get("record")))
def test_what_an_alert_looks_at_is_there(jobs: Jobs, rule: dict) -> None:
    asked = re.sub(r"\b(by|on|ignoring|group_left) \([^)]*\)", "", rule["expr"])
    selectors = re.findall(r"(?:ray_|up\b|d3ke:)[\w:]*(?:\{[^}]*\})?", asked)
    assert selectors
    for selector in selectors:
        if "ray_node_failure_total" in selector:
            continue  # has a test of its own
        if not jobs.cluster.has_data(selector, jobs.began):
            assert any(part in selector for part in QUIET), selector


def test_no_alert_fires_for_jobs_that_went_well(jobs: Jobs) -> None:
    fired = jobs.cluster.ask("query", query='ALERTS{alertstate="firing"}')["result"]
    assert [alert["metric"]["alertname"] for alert in fired] == []
    unhealthy = [
        rule
        for group in jobs.cluster.ask("rules")["groups"]
        for rule in group["rules"]
        if rule["health"] == "err"
    ]
    assert unhealthy == []


def test_figures_are_those_of_the_jobs(jobs: Jobs) -> None:
    def value(expression: str) -> float:
        (series,) = jobs.cluster.ask("query", query=expression)["result"]
        return float(series["value"][1])

    items = "ray_d3ke_stage_items_total"
    assert value(f'sum({items}{{stage="label", status="done"}})') == jobs.trials
    assert value(f'sum({items}{{stage="estimate", status="rejected"}})') == 1
    assert value(f'sum({items}{{stage="finish", status="done"}})') == SCORED
    assert value("sum(ray_d3ke_stage_items_waiting) or vector(0)") == 0
    assert value('sum(ray_d3ke_tune_trials{state="running"}) or vector(0)') == 0
    assert value("sum(ray_d3ke_tune_epochs_total)") >= 3


def test_every_metric_was_seen(jobs: Jobs) -> None:
    names = jobs.cluster.ask("label/__name__/values")
    seen = {metric_name(name) for text in names for name in OWN.findall(text)}
    assert set(METRICS) - seen <= {"d3ke_tracking_failures_total"}


def test_a_node_that_dies_is_an_alert(jobs: Jobs) -> None:
    node = jobs.cluster.start_node()
    until(
        lambda: (
            jobs.cluster.ask("query", query="count(ray_node_cpu_count)")["result"][0]["value"][1]
            == "2"
        )
    )
    end(node, kindly=False)
    firing = 'ALERTS{alertname="NodeDead", alertstate="firing"}'
    until(lambda: jobs.cluster.ask("query", query=firing)["result"], timeout_s=400.0)


def until(condition, timeout_s: float = 240.0) -> None:
    """Wait for it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(2.0)
    pytest.fail("did not come to pass")
