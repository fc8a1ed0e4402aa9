"""A search on the terminal and in MLflow, without Ray."""

from __future__ import annotations

import io
from pathlib import Path

import mlflow
import pytest
from rich.console import Console
from tuning_cases import make_search, run_alone

from d3ke.errors import InvalidInputError
from d3ke_platform.tracking import RunTracker
from d3ke_platform.tuning.ledger import Ledger
from d3ke_platform.tuning.watch import Watch


@pytest.fixture
def parent(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return RunTracker(tmp_path, experiment="e", name="search", parameters={}, tags={})


def watch(parent, sink):
    console = Console(file=sink, width=300)
    return Watch(parent, stage="sequence", trials=4, fixed={"data_hash": "abc"}, console=console)


def test_trials_are_runs_below_the_search_also_after_a_restart(parent, tmp_path):
    sink = io.StringIO()
    run_alone(make_search(tmp_path / "s", trials=4, observer=watch(parent, sink)), last=3)
    first = [record.run_id for record in Ledger(tmp_path / "s", "mae_all_deg").records]
    search = make_search(tmp_path / "s", trials=4, observer=watch(parent, sink))
    run_alone(search)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert client.get_run(parent.run_id).info.run_name == "search"
    records = search.ledger.records
    assert [record.run_id for record in records[:3]] == first
    for record in records:
        run = client.get_run(record.run_id)
        assert run.info.run_name == f"sequence {record.number:04d}"
        assert run.data.tags["mlflow.parentRunId"] == parent.run_id
        assert (run.data.tags["trial_state"], run.info.status) == ("finished", "FINISHED")
        assert run.data.metrics["best/mae_all_deg"] == pytest.approx(record.value)
        width = record.parameters["sequence.width"]
        assert run.data.params["sequence.width"] == str(width)
    best = client.get_run(parent.run_id).data.metrics["sequence/best"]
    assert best == pytest.approx(search.outcome().value)
    lines = sink.getvalue().splitlines()
    assert "sequence trial   1/4  starts: loss.joint 1, loss.marker 2" in lines[0]
    assert any("starts, on from epoch 2" in line for line in lines)
    assert "finished after 6 epochs" in lines[-1]


def test_a_lost_tracking_server_does_not_end_a_search(parent, tmp_path, monkeypatch, caplog):
    def refuse(*arguments, **options):
        raise InvalidInputError("MLflow at x", "no answer")

    monkeypatch.setattr(parent, "child", refuse)
    search = make_search(tmp_path / "s", trials=3, observer=watch(parent, io.StringIO()))
    run_alone(search)
    assert search.outcome().finished == 3
    assert "no answer" in caplog.text
    assert Path(tmp_path / "s" / "trial_0003.json").exists()
