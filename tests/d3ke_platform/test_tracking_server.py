"""Runs on a real MLflow server: who may write, where artefacts go, what a lost server costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.server import get_app_client
from object_store import S3Server, s3_server
from postgresql_server import postgresql
from tracking_server import ADMIN, TrackingServer, free_port

from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.tracking import RunTracker

__all__ = ["s3_server"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    pytest.importorskip("flask_wtf", reason="MLflow's basic authentication needs Flask-WTF")
    folder = tmp_path_factory.mktemp("mlflow")
    server = TrackingServer(
        folder=folder,
        store=f"sqlite:///{folder}/mlflow.db",
        users=f"sqlite:///{folder}/users.db",
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Users that the server has."""
    return set()


@pytest.fixture
def as_user(known: set[str], server: TrackingServer, monkeypatch: pytest.MonkeyPatch):
    """Become a user of the server; unknown ones are made."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    def login(name: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    def become(name: str) -> None:
        login(ADMIN, server.password)
        if name not in known:
            users = get_app_client("basic-auth", server.uri)
            users.create_user(name, f"password of {name}")
            known.add(name)
        login(name, f"password of {name}")

    become.login = login
    return become


def tracker(folder: Path, **changes: object) -> RunTracker:
    settings = {"experiment": "gait", "name": "run", "parameters": {"a": 1}, "tags": {}}
    return RunTracker(folder, **{**settings, **changes})


def test_a_user_writes_runs_and_artefacts_through_the_server(
    server: TrackingServer, as_user, tmp_path: Path
) -> None:
    as_user("ada")
    run = tracker(tmp_path)
    run.log_epoch({"stage": "frame", "epoch": 1, "val_mae_all_deg": 3.5})
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text("{}")
    run.log_folder(bundle, "bundle")
    child = run.child("trial", parameters={}, tags={})
    child.finish(succeeded=False)
    run.finish(succeeded=True)

    client = mlflow.MlflowClient(tracking_uri=server.uri)
    kept = client.get_run(run.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.info.artifact_uri.startswith("mlflow-artifacts:")
    assert kept.data.metrics == {"frame/val_mae_all_deg": 3.5}
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == run.run_id
    assert len(list(server.artifacts.rglob("config.json"))) == 1
    there = client.download_artifacts(run.run_id, "bundle/config.json", str(tmp_path))
    assert Path(there).read_text() == "{}"
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "mlflow").exists()


def test_strangers_are_told_in_one_line(server: TrackingServer, as_user, tmp_path: Path) -> None:
    as_user.login("", "")
    with pytest.raises(InvalidInputError, match="asks who you are.*MLFLOW_TRACKING_USERNAME"):
        tracker(tmp_path)
    as_user.login("ada", "wrong")
    with pytest.raises(InvalidInputError, match="password of user 'ada'") as failure:
        tracker(tmp_path)
    assert "\n" not in str(failure.value)
    assert "wrong" not in str(failure.value)


def test_experiments_of_others_are_theirs(as_user, tmp_path: Path) -> None:
    as_user("ada")
    tracker(tmp_path, experiment="hers").finish(succeeded=True)
    as_user("bob")
    with pytest.raises(InvalidInputError, match="user 'bob' may not write here.*--experiment"):
        tracker(tmp_path, experiment="hers")
    tracker(tmp_path, experiment="his").finish(succeeded=True)


def test_no_password_is_shown(
    server: TrackingServer, as_user, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user.login("", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri.replace("//", "//eve:secret@"))
    with pytest.raises(InvalidInputError) as failure:
        tracker(tmp_path)
    assert "secret" not in str(failure.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://eve:secret@127.0.0.1:{free_port()}")
    with pytest.raises(InvalidInputError, match="does not answer") as failure:
        tracker(tmp_path)
    assert "secret" not in str(failure.value)


@pytest.mark.long
def test_what_a_lost_server_missed_is_sent_later(
    server: TrackingServer, as_user, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    as_user("ada")
    run = tracker(tmp_path, experiment="outage")
    run.log_metrics({"loss": 3.0}, step=1)
    server.stop()
    run.log_metrics({"loss": 2.0}, step=2)
    run.tag("state", "lost")
    assert "did not take the metrics of step 2" in caplog.text
    assert "did not take the tag state" in caplog.text
    server.start()
    run.log_metrics({"loss": 1.0}, step=3)
    run.finish(succeeded=True)
    history = mlflow.MlflowClient(tracking_uri=server.uri).get_metric_history(run.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 3.0), (2, 2.0), (3, 1.0)]


@pytest.mark.long
def test_artefacts_lie_in_a_bucket_that_only_the_server_knows(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("flask_wtf", reason="MLflow's basic authentication needs Flask-WTF")
    bucket = s3_server.bucket()
    folder = tmp_path / "server"
    server = TrackingServer(
        folder=folder,
        store=f"sqlite:///{folder}/mlflow.db",
        users=f"sqlite:///{folder}/users.db",
        bucket=f"{bucket}/artefacts",
        endpoint=s3_server.endpoint,
    )
    server.start()
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "model.safetensors").write_bytes(bytes(range(256)) * 40_000)  # 10 MB: in parts
    try:
        with monkeypatch.context() as client:
            for name in s3_server.environment:  # a job has no key of the bucket
                client.delenv(name)
            client.setenv("MLFLOW_TRACKING_URI", server.uri)
            client.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
            client.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
            run = tracker(tmp_path)
            run.log_folder(bundle, "bundle")
            run.finish(succeeded=True)
            there = mlflow.MlflowClient(tracking_uri=server.uri).download_artifacts(
                run.run_id, "bundle/model.safetensors", str(tmp_path)
            )
    finally:
        server.stop()
    content = (bundle / "model.safetensors").read_bytes()
    assert Path(there).read_bytes() == content
    (kept,) = storage.list_files(bucket, "model.safetensors")
    assert storage.read_bytes(kept) == content


@pytest.mark.long
def test_the_same_on_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("flask_wtf", reason="MLflow's basic authentication needs Flask-WTF")
    pytest.importorskip("psycopg2", reason="PostgreSQL's driver: the `server` extra")
    with postgresql("mlflow", "users") as address:
        server = TrackingServer(
            folder=tmp_path / "server", store=f"{address}/mlflow", users=f"{address}/users"
        )
        server.start()
        try:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.password)
            runs = [tracker(tmp_path, name=f"run {number}") for number in range(3)]
            for number, run in enumerate(runs):
                for step in range(40):
                    run.log_metrics({"loss": number + step / 100}, step=step)
                run.finish(succeeded=True)
            client = mlflow.MlflowClient(tracking_uri=server.uri)
            for number, run in enumerate(runs):
                history = client.get_metric_history(run.run_id, "loss")
                assert [m.value for m in history] == [number + step / 100 for step in range(40)]
        finally:
            server.stop()
