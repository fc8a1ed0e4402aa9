"""Prometheus' own checks of the configuration and the alert rules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from board_parts import DASHBOARDS, rules
from prometheus_tools import tool


@pytest.fixture(scope="module")
def promtool() -> Path:
    return tool("promtool")


def run(promtool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [promtool, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_every_alert_has_a_case_where_it_fires_and_one_where_it_does_not() -> None:
    cases = yaml.safe_load((DASHBOARDS / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    fires = {check["alertname"] for check in checks if check["exp_alerts"]}
    assert fires == {rule["alert"] for rule in rules() if "alert" in rule}


def test_alerts_say_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
            assert set(rule["annotations"]) == {"summary", "action"}, rule["alert"]


def test_the_configuration_is_valid(promtool: Path) -> None:
    done = run(promtool, "check", "config", str(DASHBOARDS / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_for_kubernetes_is_valid(promtool: Path, tmp_path: Path) -> None:
    """Debian's Prometheus knows no Kubernetes: its part is replaced, the rest is checked."""
    content = yaml.safe_load((DASHBOARDS / "prometheus-kubernetes.yml").read_text())
    (job,) = content["scrape_configs"]
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    job["static_configs"] = [{"targets": ["localhost:8080"]}]
    shutil.copy(DASHBOARDS / "alerts.yml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(content))
    done = run(promtool, "check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_and_keep_still_as_written(promtool: Path) -> None:
    done = run(promtool, "test", "rules", str(DASHBOARDS / "alerts_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_never_fires_is_noticed(promtool: Path, tmp_path: Path) -> None:
    """The cases can fail: with rules that keep still, each alert is missed."""
    content = yaml.safe_load((DASHBOARDS / "alerts.yml").read_text(encoding="utf-8"))
    for group in content["groups"]:
        for rule in group["rules"]:
            rule["expr"] = "vector(0) > 1"
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(content))
    shutil.copy(DASHBOARDS / "alerts_test.yml", tmp_path)
    done = run(promtool, "test", "rules", str(tmp_path / "alerts_test.yml"))
    assert done.returncode == 1
    for rule in rules():
        if "alert" in rule:
            assert f"alertname: {rule['alert']}" in done.stdout + done.stderr, rule["alert"]
