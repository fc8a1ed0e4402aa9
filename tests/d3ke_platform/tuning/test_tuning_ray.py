"""Searches under Ray Tune: two trials side by side, failures, a kill, and the whole job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import killed_search
import mlflow
import pytest
from fake_data import make_data_set
from tuning_cases import EPOCHS, make_search, toy_job, tune_settings
from watched_job import run_job

from d3ke_platform import cli
from d3ke_platform.training.checkpoint import finished_checkpoints
from d3ke_platform.training.run_folder import RunMismatchError
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.tuning.search import Observer
from d3ke_platform.tuning.shares import shares
from d3ke_platform.tuning.tune import tune

pytestmark = [pytest.mark.slow, pytest.mark.ray]


class Listener(Observer):
    """Remembers what happened in which order."""

    def __init__(self):
        self.heard = []

    def started(self, record):
        self.heard.append(("started", record.number))

    def ended(self, record, best):
        self.heard.append(("ended", record.number))


@pytest.mark.usefixtures("ray_session")
def test_a_trial_of_two_workers_is_a_ray_train_run(tmp_path):
    search = make_search(tmp_path / "search", trials=1, trial_workers=2)
    share = shares(cpus=4, gpus=0, workers=2)
    killed_search.run(search, toy_job, share=share)
    (record,) = search.ledger.records
    assert (record.state, record.epochs, record.reason) == ("finished", EPOCHS, "")
    rows = search.ledger.rows(1)
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    assert rows[-1]["val_mae_all_deg"] < rows[0]["val_mae_all_deg"]


def wait_for(condition, timeout_s=120):
    limit = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


def records_on_disk(folder):
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("trial_*.json"))}


def kill_in_the_middle(folder, trials):
    """Run a search in a process of its own; SIGKILL once two trials are over and one has begun."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = str(Path(killed_search.__file__))
    process = subprocess.Popen([sys.executable, script, str(folder), str(trials)], env=environment)

    def in_the_middle():
        assert process.poll() is None
        records = records_on_disk(folder).values()
        begun = [r["number"] for r in records if r["state"] == "running"]
        return len(records) - len(begun) >= 2 and any(
            finished_checkpoints(folder / "trials" / f"{number:04d}") for number in begun
        )

    try:
        wait_for(in_the_middle)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_killed_search_goes_on_and_failures_do_not_stop_it(tmp_path, request):
    folder, trials = tmp_path / "search", 8
    kill_in_the_middle(folder, trials)
    before = records_on_disk(folder)
    over = {name for name, record in before.items() if record["state"] != "running"}
    contents = {name: (folder / name).read_text() for name in over}
    cut_off = [record["number"] for record in before.values() if record["state"] == "running"]
    assert cut_off
    assert max(cut_off) < trials - 1
    request.getfixturevalue("ray_session")
    listener = Listener()
    search = make_search(folder, trials=trials, observer=listener)
    died = tmp_path / "died"

    def make_job(record):
        options = {trials - 1: {"fails": "a label is\nmissing"}, trials: {"dies_once": str(died)}}
        return killed_search.slow_job(record, **options.get(record.number, {}))

    killed_search.run(search, make_job)
    # What was finished is as it was; what was cut off comes first, two trials side by side.
    assert {name: (folder / name).read_text() for name in over} == contents
    assert [kind for kind, _ in listener.heard[:2]] == ["started", "started"]
    started = [number for kind, number in listener.heard if kind == "started"]
    assert started == [*cut_off, *range(len(before) + 1, trials + 1)]
    after = records_on_disk(folder)
    assert len(after) == trials
    for name, record in after.items():
        if name in before:
            assert record["parameters"] == before[name]["parameters"]
        epochs = [row["epoch"] for row in search.ledger.rows(record["number"])]
        assert epochs == list(range(1, record["epochs"] + 1))
    failed = after.pop(f"trial_{trials - 1:04d}.json")
    assert (failed["state"], failed["reason"]) == ("failed", "ValueError: a label is missing")
    assert {record["state"] for record in after.values()} <= {"finished", "stopped"}
    # The last trial's process died in its second epoch; it went on from its checkpoint.
    assert died.exists()
    assert after[f"trial_{trials:04d}.json"]["epochs"] >= 2
    assert after["trial_0001.json"]["epochs"] == EPOCHS
    assert search.outcome().recipe_value == after["trial_0001.json"]["value"]
    assert not list(folder.glob(".tune-*"))


def test_the_job_as_users_start_it(tmp_path):
    """It connects by itself: nothing here has a session for it."""
    data = make_data_set(tmp_path / "data", subjects={"train": 2, "validation": 1}, frames=10)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        '[train.frame]\nbackbone = "resnet18_half"\nimage_size = 32\nepochs = [1]\n'
        "learning_rate_start = [1e-3]\nlearning_rate_end = [1e-4]\n"
        "[train.sequence]\nwindow = 9\nwidth = 32\nlayers = 1\nheads = 2\nstrides = [3]\n"
        "epochs = [1]\nestimate_passes = 0\n"
    )
    flags = ["--recipe", str(recipe), "--data", data.root, "--output", str(tmp_path / "out")]
    job = run_job("tune", *flags, "--trials", "1", "--in-process")
    assert job.status == 0, job.text
    assert (job.summary["status"], job.summary["trials"]) == ("done", 1)
    assert Path(job.summary["recipe"]).exists()
    assert not job.left


@pytest.mark.usefixtures("ray_session")
def test_the_whole_job_on_drawn_data(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    data = make_data_set(tmp_path / "data", subjects={"train": 3, "validation": 1}, frames=10)
    settings = tune_settings(
        data=data.root, output=str(tmp_path / "out"), trials=3, in_process=True
    )
    summary = tune(settings)
    (stage,) = summary.stages
    assert (stage.trials, stage.failed, summary.trials) == (3, 0, 3)
    assert stage.value <= stage.recipe_value
    assert stage.mpblpe_mm > 0
    assert Path(summary.report).stat().st_size > 50_000
    flags = ["--recipe", summary.recipe, "--data", data.root, "--output", "r"]
    found = cli.parse(TrainSettings, flags, job="train")
    assert found.sequence.width == stage.parameters["sequence.width"]
    assert found.frame == settings.frame
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/out/mlflow.db")
    experiment = client.get_experiment_by_name("d3ke").experiment_id
    runs = {run.info.run_id: run for run in client.search_runs([experiment])}
    children = [r for r in runs.values() if "mlflow.parentRunId" in r.data.tags]
    assert len(children) == 3
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {summary.mlflow_run_id}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    lowest = min(run.data.metrics["best/mae_all_deg"] for run in children)
    assert lowest == pytest.approx(stage.value)
    best = runs[summary.mlflow_run_id].data.metrics["best/sequence_mae_all_deg"]
    assert best == pytest.approx(stage.value)
    # The same command again does nothing; other settings need another folder.
    again = tune(settings)
    assert (again.best, again.mlflow_run_id) == (summary.best, summary.mlflow_run_id)
    with pytest.raises(RunMismatchError, match="reduction_factor"):
        tune(tune_settings(data=data.root, output=str(tmp_path / "out"), reduction_factor=2.0))
