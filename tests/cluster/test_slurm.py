"""cluster/slurm on a real Slurm of two nodes: jobs that succeed, fail and run out of time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_lab import SlurmLab, missing, slurm_lab

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "slurm"
SCRIPT = "cluster/slurm/d3ke.sbatch"
# Labels of one movement of three people; pictures as small as they may be.
TINY = """
source = "synthetic"
[synthetic]
subjects = 3
validation_subjects = 1
test_subjects = 1
movements = ["squat"]
cameras = ["frontal"]
seconds = 0.8
rate_hz = 10.0
image_size = 96
[crop]
stored_size = 64
"""
PATIENCE_S = 900.0  # two Ray nodes on a loaded machine of few cores


def test_shellcheck_finds_nothing() -> None:
    tool = Path(sys.executable).parent / "shellcheck"
    if not tool.exists():
        pytest.skip("shellcheck is not installed (the `dev` extra)")
    scripts = [*FOLDER.glob("*.sbatch"), *FOLDER.glob("*.sh"), *FOLDER.parent.glob("*.sh")]
    assert len(scripts) >= 3
    done = subprocess.run(
        [tool, "--external-sources", *scripts],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmLab]:
    reason = missing()
    if reason:
        pytest.skip(f"no Slurm of its own: {reason}")
    with slurm_lab(tmp_path_factory.mktemp("slurm") / "lab") as running:
        yield running


def submit(lab: SlurmLab, *command: str | Path) -> str:
    """Number of a job on both nodes, submitted as cluster/README.md tells it."""
    options = ("--nodes=2", "--cpus-per-task=3", "--time=60", "--signal=B:USR1@60")
    log = f"--output={lab.folder}/job-%j.log"
    # Ray's files on each node's own disk, as it were.
    given = {"D3KE_PYTHON": sys.executable, "D3KE_SCRATCH": "/mnt"}
    found = lab.run("sbatch", "--parsable", *options, log, SCRIPT, *command, **given)
    return found.strip()


def log(lab: SlurmLab, number: str) -> str:
    file = lab.folder / f"job-{number}.log"
    return file.read_text() if file.exists() else ""


def summary(text: str) -> dict[str, object]:
    lines = [line for line in text.splitlines() if line.startswith('{"job"')]
    content: dict[str, object] = json.loads(lines[-1])
    return content


def nothing_is_left(lab: SlurmLab) -> None:
    """Of Ray and the job, on any node, half a minute after the end."""
    for _ in range(30):
        left = lab.processes()
        if not left:
            return
        time.sleep(1.0)
    pytest.fail("\n".join(left))


def prepare(folder: Path) -> tuple[str, ...]:
    settings = folder / "tiny.toml"
    settings.write_text(TINY)
    return ("jobs/prepare.py", "--config", str(settings), "--output", str(folder / "data"))


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_a_job_out_of_time_is_queued_again_and_goes_on_where_it_was(
    lab: SlurmLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    number = submit(lab, *prepare(tmp_path))
    first = wait_for_videos(lab, number, tmp_path / "data")
    # Its limit is now: Slurm gives notice a minute before it, as the options say.
    elapsed = lab.job(number)["RunTime"].split(":")
    minutes = int(elapsed[-3].split("-")[-1]) * 60 + int(elapsed[-2]) + 1
    lab.run("scontrol", "update", f"JobId={number}", f"TimeLimit={minutes}")
    lab.wait_for(number, "PENDING", "REQUEUED", "COMPLETED", "FAILED", timeout_s=PATIENCE_S)
    assert "out of time; queued again" in log(lab, number)
    lab.run("scontrol", "update", f"JobId={number}", "TimeLimit=60")

    job = lab.wait_for(number, "COMPLETED", "FAILED", "TIMEOUT", timeout_s=PATIENCE_S)
    text = log(lab, number)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "1"), text
    assert summary(text)["status"] == "done"
    assert summary(text)["rejects"] == 0
    videos = {file: file.stat().st_mtime_ns for file in (tmp_path / "data").rglob("*.mp4")}
    assert len(videos) == 3
    assert first.items() <= videos.items()  # what was done is not done again
    nothing_is_left(lab)


def wait_for_videos(lab: SlurmLab, number: str, data: Path) -> dict[Path, int]:
    """The first videos with the time when they were written."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = {file: file.stat().st_mtime_ns for file in data.rglob("[!.]*.mp4")}
        if found:
            return found
        assert lab.job(number)["JobState"] in ("PENDING", "RUNNING"), log(lab, number)
        time.sleep(1.0)
    raise AssertionError(log(lab, number))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_job_that_fails_fails_in_slurm_and_leaves_nothing(
    lab: SlurmLab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    number = submit(
        lab, "jobs/evaluate.py", "--data", tmp_path, "--model", tmp_path, "--output", "x"
    )
    job = lab.wait_for(number, "FAILED", "COMPLETED", "TIMEOUT", timeout_s=PATIENCE_S)
    assert job["JobState"] == "FAILED"
    assert job["ExitCode"] in ("1:0", "2:0")
    assert summary(log(lab, number))["status"] in ("failed", "bad usage")
    nothing_is_left(lab)
    assert lab.run("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle", "idle"]


@pytest.mark.long
def test_a_job_that_is_not_there_is_refused_at_once(
    lab: SlurmLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    number = submit(lab, "jobs/no_such_job.py")
    job = lab.wait_for(number, "FAILED", "COMPLETED", timeout_s=60.0)
    assert job["ExitCode"] == "2:0"
    assert "name a job" in log(lab, number)
