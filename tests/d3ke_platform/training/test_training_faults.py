"""Killed drivers, lost nodes and changing numbers of workers leave the loss curve as it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_data import make_data_set
from fault_run import train
from steps_job import groups_of, steps_of

from d3ke_platform import runtime
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.trainer import Resources, use_deterministic_algorithms

HERE = Path(__file__).parent


def environment():
    """Of a program that finds the packages and these tests' modules."""
    parents = [str(Path(folder).parent) for folder in runtime.package_folders()]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*parents, str(HERE)])}


def start(mode, data, folder):
    command = [sys.executable, str(HERE / "fault_run.py"), mode, data, str(folder)]
    return subprocess.Popen(command, env=environment())


def kill_after(process, folder, epochs):
    """SIGKILL, in the middle of the epoch after so many."""
    progress = folder / "progress.jsonl"
    while len(read_rows(progress)) < epochs:
        assert process.poll() is None, "the training ended by itself"
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    subjects = {"train": 4, "validation": 1}
    return make_data_set(tmp_path_factory.mktemp("data"), subjects=subjects, noise_rad=0.2).root


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """Losses by step of one worker that nothing happens to."""
    folder = tmp_path_factory.mktemp("alone")
    train(data, folder, Resources(workers=0))
    use_deterministic_algorithms(False)
    return steps_of(folder)


@pytest.mark.long
def test_a_killed_driver_continues_bit_by_bit(data, tmp_path):
    """Run again with the same arguments, in deterministic mode: the very same losses."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start("driver", data, whole).wait() == 0
    kill_after(start("driver", data, killed), killed, epochs=2)
    before = len(read_rows(killed / "progress.jsonl"))
    assert 2 <= before < 6
    assert start("driver", data, killed).wait() == 0
    assert steps_of(killed) == steps_of(whole)
    assert groups_of(killed) == [2, 2]

    def curve(folder):
        rows = read_rows(folder / "progress.jsonl")
        return [(row["epoch"], row["loss_total"], row["val_mae_all_deg"]) for row in rows]

    assert curve(killed) == curve(whole)
    # Not from the start, and not from nothing.
    lines = (killed / "rank0").read_text().splitlines()
    assert sum(line.startswith("0 ") for line in lines) == 11


@pytest.mark.long
@pytest.mark.parametrize("mode", ["lost_node", "elastic"])
def test_a_lost_node_leaves_the_losses_as_they_are(data, alone, tmp_path, mode):
    folder = tmp_path / mode
    assert start(mode, data, folder).wait(timeout=550) == 0
    happened = (folder / "happened").read_text()
    groups = groups_of(folder)
    if mode == "elastic":
        assert happened == "lost added"
        # However many restarts it took: two, fewer, two again.
        assert groups[0] == groups[-1] == 2
        assert 1 in groups
    else:
        assert happened == "lost"
        assert set(groups) == {2}
        assert len(groups) > 1
    assert steps_of(folder) == pytest.approx(alone, abs=1e-4)


def test_a_training_in_one_process_that_dies_continues(tmp_path):
    """The process ends without a word, as under SIGKILL, in the middle of an epoch."""
    script = """
import sys, torch
from pathlib import Path
from toy_task import ToyJob, toy_settings
from d3ke_platform.training.trainer import Resources, fit
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
job = ToyJob(settings=toy_settings(epochs=(4,)), die_once=sys.argv[2])
fit(job, folder, run_name="toy", resources=Resources(workers=0),
    progress=folder / "progress.jsonl", deterministic=True)
"""

    def run(folder, marker):
        command = [sys.executable, "-c", script, str(folder), str(marker)]
        return subprocess.run(command, env=environment(), check=False).returncode

    existing = tmp_path / "exists"
    existing.touch()
    assert run(tmp_path / "whole", existing) == 0
    assert run(tmp_path / "killed", tmp_path / "marker") == 1
    assert [row["epoch"] for row in read_rows(tmp_path / "killed" / "progress.jsonl")] == [1]
    assert run(tmp_path / "killed", tmp_path / "marker") == 0
    whole, killed = (read_rows(tmp_path / name / "progress.jsonl") for name in ("whole", "killed"))
    assert [row["loss_total"] for row in killed] == [row["loss_total"] for row in whole]
