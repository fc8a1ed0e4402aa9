"""MLflow runs in a temporary database."""

from __future__ import annotations

import re
import subprocess

import mlflow
import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke_platform.evaluation.plotting import jpeg_of
from d3ke_platform.tracking import RunTracker, git_commit, tracking_uri


def make(folder, **changes):
    defaults = {
        "experiment": "tests",
        "name": "run",
        "parameters": {"frame.epochs": [3], **{f"p{i}": i for i in range(150)}},
        "tags": {"data_hash": "0123"},
    }
    return RunTracker(folder, **{**defaults, **changes})


@pytest.mark.usefixtures("local_tracking")
def test_pictures_belong_to_steps(tmp_path, caplog):
    tracker = make(tmp_path)
    path = tmp_path / "picture.jpg"
    path.write_bytes(jpeg_of(np.full((8, 12, 3), 200, np.uint8)))
    for step in (5, 10):
        tracker.log_picture("frame/skeletons", path, step=step)
    client = mlflow.MlflowClient(tracking_uri(tmp_path))
    kept = [file.path for file in client.list_artifacts(tracker.run_id, "images")]
    for step in (5, 10):
        assert any(re.search(rf"skeletons.step.{step}.", name) for name in kept), kept
    # What cannot be shown must not end a training.
    tracker.log_picture("frame/skeletons", tmp_path / "nowhere.jpg", step=11)
    assert "did not take the picture" in caplog.text


@pytest.mark.usefixtures("local_tracking")
def test_a_run_keeps_parameters_metrics_and_the_bundle(tmp_path):
    tracker = make(tmp_path)
    for epoch in (1, 2):
        row = {"stage": "frame", "epoch": epoch, "epochs": 2, "val_mae_all_deg": 4.0 - epoch}
        tracker.log_epoch({**row, "val_mpblpe_mm": float("nan")})
    bundle = tmp_path / "model"
    bundle.mkdir()
    (bundle / "config.json").write_text("{}")
    tracker.log_folder(bundle, "bundle")
    tracker.finish(succeeded=True)

    client = mlflow.MlflowClient(tracking_uri(tmp_path))
    run = client.get_run(tracker.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["frame.epochs"] == "[3]"
    assert len(run.data.params) == 151
    assert run.data.tags["data_hash"] == "0123"
    history = client.get_metric_history(tracker.run_id, "frame/val_mae_all_deg")
    assert [(m.step, m.value) for m in history] == [(1, 3.0), (2, 2.0)]
    assert "frame/val_mpblpe_mm" not in run.data.metrics
    assert (tmp_path / "mlflow.db").exists()
    copies = list((tmp_path / "mlflow").rglob("config.json"))
    assert len(copies) == 1


@pytest.mark.usefixtures("local_tracking")
def test_a_run_is_continued(tmp_path):
    first = make(tmp_path)
    first.finish(succeeded=False)
    second = make(tmp_path, run_id=first.run_id)
    assert second.run_id == first.run_id
    second.finish(succeeded=True)
    client = mlflow.MlflowClient(tracking_uri(tmp_path))
    assert client.get_run(first.run_id).info.status == "FINISHED"


@pytest.mark.usefixtures("local_tracking")
def test_an_unknown_run_is_an_error_that_names_the_database(tmp_path):
    with pytest.raises(InvalidInputError, match=r"MLflow at sqlite:.*MLFLOW_TRACKING_URI"):
        make(tmp_path, run_id="0" * 32)


@pytest.mark.usefixtures("local_tracking")
def test_lost_metrics_are_a_warning(tmp_path, caplog, monkeypatch):
    tracker = make(tmp_path)

    def away(*args, **kwargs):
        raise mlflow.MlflowException("server is away")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", away)
    tracker.log_metrics({"frame/val_mae_all_deg": 1.0}, step=4)
    assert "step 4: server is away" in caplog.text


def test_the_environment_names_the_server(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri(tmp_path) == "http://tracking:5000"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


def test_git_commit(tmp_path):
    assert git_commit(tmp_path) == ""
    assert git_commit(tmp_path / "absent") == ""

    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )

    git("init")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "file").write_text("b")
    assert git_commit(tmp_path) == f"{commit}-dirty"


@pytest.fixture
def local_tracking(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
