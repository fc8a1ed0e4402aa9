"""Metrics: what is recorded, under which labels, and that nothing happens outside Ray."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from typing import Any

import pytest
import ray

from d3ke_platform import telemetry
from d3ke_platform.pipelines import ray_data
from d3ke_platform.pipelines.ray_data import reject_row, run_stage
from d3ke_platform.telemetry import METRICS, DeviceBusy, TrainingMetrics


class Recorder:
    """Takes the place of Ray's metric objects; refuses what Ray would refuse."""

    def __init__(self, name: str) -> None:
        self.metric = METRICS[name]
        self.values: dict[frozenset[tuple[str, str]], list[float]] = defaultdict(list)

    def _take(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == set(self.metric.labels), self.metric.name
        assert all(isinstance(tag, str) for tag in tags.values()), self.metric.name
        self.values[frozenset(tags.items())].append(value)

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert self.metric.kind == "counter"
        assert value > 0
        self._take(value, tags)

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert self.metric.kind == "gauge"
        self._take(value, tags)

    def observe(self, value: float, tags: dict[str, str]) -> None:
        assert self.metric.kind == "histogram"
        self._take(value, tags)

    def of(self, **tags: str) -> list[float]:
        return self.values.get(frozenset(tags.items()), [])


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorder]:
    recorders = {name: Recorder(name) for name in METRICS}
    monkeypatch.setattr(telemetry, "_instrument", recorders.__getitem__)
    return recorders


def test_the_table_follows_prometheus_rules() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name
        assert name.startswith("d3ke_")
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert bool(metric.boundaries) == (metric.kind == "histogram"), name
        assert list(metric.boundaries) == sorted(set(metric.boundaries)), name
        assert metric.help, name
        assert not metric.help.endswith("."), name


def test_outside_ray_nothing_happens_and_ray_is_not_imported() -> None:
    program = (
        "import sys\n"
        "from d3ke_platform import telemetry as t\n"
        "t.count_item('crop', 'done', 1.0); t.count_frames('crop', 3)\n"
        "t.set_queue('crop', waiting=1, actors=1)\n"
        "with t.DeviceBusy('estimate', 'cpu'): pass\n"
        "assert 'ray' not in sys.modules\n"
        "import ray\n"
        "t.count_item('crop', 'done', 1.0)\n"
        "assert not t._instruments and not ray.is_initialized()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_values_that_say_nothing_are_left_out(recorded: dict[str, Recorder]) -> None:
    telemetry.count("d3ke_stage_frames_total", 0.0, stage="crop")
    telemetry.count("d3ke_stage_frames_total", float("nan"), stage="crop")
    telemetry.gauge("d3ke_tune_best_error", float("inf"), search="a", stage="b", measure="c")
    telemetry.observe("d3ke_stage_item_seconds", float("nan"), stage="crop")
    assert not any(recorder.values for recorder in recorded.values())
    with pytest.raises(KeyError):
        telemetry.count("d3ke_no_such_metric_total")


class Stage:
    """Ledger rows as real stages write them."""

    name = "estimate"

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        if item["item"] == "bad":
            raise ZeroDivisionError("none")
        if item["item"] == "poor":
            return [reject_row("poor", "estimate", "poor.mp4: no person found in its 3 frames.")]
        if item["item"] == "old":
            return [{"item": "old", "frames": 50, "skipped": True, "seconds": {"decode": 9.0}}]
        return [{"frames": 30, "skipped": False, "seconds": {"decode": 0.5, "network": 0.25}}]


def test_a_stages_ledger_rows_become_counts(recorded: dict[str, Recorder]) -> None:
    actor = ray_data.StageActor(Stage, {}, "estimate")
    for name in ("bad", "poor", "old", "a", "b"):
        actor._process({"item": name})
    items = recorded["d3ke_stage_items_total"]
    assert len(items.of(stage="estimate", status="done")) == 2
    assert len(items.of(stage="estimate", status="skipped")) == 1
    assert len(items.of(stage="estimate", status="rejected")) == 2
    assert sum(recorded["d3ke_stage_frames_total"].of(stage="estimate")) == 60
    steps = recorded["d3ke_stage_step_seconds_total"]
    assert steps.of(stage="estimate", step="decode") == [0.5, 0.5]
    assert steps.of(stage="estimate", step="network") == [0.25, 0.25]
    rejects = recorded["d3ke_stage_rejects_total"]
    assert rejects.of(stage="estimate", reason="ZeroDivisionError") == [1.0]
    assert rejects.of(stage="estimate", reason="no person") == [1.0]
    assert len(recorded["d3ke_stage_item_seconds"].of(stage="estimate")) == 5


def test_a_network_at_work_is_timed(recorded: dict[str, Recorder]) -> None:
    busy = DeviceBusy("estimate", "cpu")
    for _ in range(2):
        with busy:
            time.sleep(0.02)
    seconds = recorded["d3ke_device_busy_seconds_total"].of(stage="estimate", device="cpu")
    assert len(seconds) == 2
    assert all(0.02 <= value < 1.0 for value in seconds)
    assert set(recorded["d3ke_device_processes"].of(stage="estimate", device="cpu")) == {1.0}


def test_only_the_first_worker_tells_of_epochs(recorded: dict[str, Recorder]) -> None:
    row = {"epoch": 2, "loss_total": 0.5, "val_mae_main_deg": 7.0, "val_mpblpe_mm": float("nan")}
    row |= {"learning_rate": 1e-3, "train_s": 4.0, "validate_s": 1.0, "stage": "frame"}
    for first in (True, False):
        metrics = TrainingMetrics(run="r", stage="frame", device="cpu", epochs=5, first=first)
        metrics.working(True, epoch=0)
        metrics.step(wait_s=0.1, compute_s=0.3, samples=16.0)
        metrics.epoch(row)
        metrics.spent("checkpoint", 0.5)
    both = {"run": "r", "stage": "frame"}
    assert recorded["d3ke_train_workers"].of(**both) == [1.0, 1.0]
    assert recorded["d3ke_train_steps_total"].of(**both) == [1.0, 1.0]
    assert recorded["d3ke_train_samples_total"].of(**both) == [16.0, 16.0]
    wait = recorded["d3ke_train_step_seconds_total"].of(**both, device="cpu", part="wait")
    assert wait == [0.1, 0.1]
    assert recorded["d3ke_train_epoch"].of(**both) == [0.0, 2.0]
    assert recorded["d3ke_train_epochs"].of(**both) == [5.0, 5.0]
    assert recorded["d3ke_train_loss"].of(**both, term="total") == [0.5]
    errors = recorded["d3ke_train_validation_error"]
    assert errors.of(**both, measure="mae_main_deg") == [7.0]
    assert errors.of(**both, measure="mpblpe_mm") == []
    assert recorded["d3ke_train_epoch_seconds_total"].of(**both, part="checkpoint") == [0.5]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_ray_exports_what_is_recorded_and_forgets_the_queue() -> None:
    """Through the node's real metrics port; Ray exports every ten seconds."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    items = [{"item": name} for name in ("bad", "poor", "old", "a", "b")]
    rows = list(run_stage(items, Stage, arguments={}, name="telemetry_test"))
    assert len(rows) == 5
    wanted = {
        'ray_d3ke_stage_items_total{status="done"}': 2.0,
        'ray_d3ke_stage_items_total{status="rejected"}': 2.0,
        "ray_d3ke_stage_frames_total{}": 60.0,
        'ray_d3ke_stage_rejects_total{reason="no person"}': 1.0,
        "ray_d3ke_stage_items_waiting{}": 0.0,
        "ray_d3ke_stage_actors{}": 0.0,
    }
    found: dict[str, float] = {}
    deadline = time.monotonic() + 40.0
    while time.monotonic() < deadline:
        found = exported("telemetry_test")
        if {name: found.get(name) for name in wanted} == wanted:
            return
        time.sleep(1.0)
    pytest.fail(f"{wanted} is not in {found}")


def exported(stage: str) -> dict[str, float]:
    """Sums over workers of a stage's metrics, by name and what else tells them apart."""
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    text = urllib.request.urlopen(address, timeout=10).read().decode()
    sums: dict[str, float] = defaultdict(float)
    for line in text.splitlines():
        if f'stage="{stage}"' not in line or not line.startswith("ray_d3ke_"):
            continue
        name, _, rest = line.partition("{")
        labels, _, value = rest.rpartition("} ")
        kept = [part for part in labels.split(",") if part.startswith(("status=", "reason="))]
        sums[f"{name}{{{','.join(kept)}}}"] += float(value.split()[0])
    return dict(sums)
