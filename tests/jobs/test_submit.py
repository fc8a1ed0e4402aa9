"""`ray job submit -- python jobs/x.py` on a cluster that does not have the project installed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RAY = ("-m", "ray.scripts.scripts")


@dataclass(frozen=True)
class Cluster:
    """A running Ray head of its own."""

    python: Path
    environment: dict[str, str]
    dashboard: str

    def submit(self, *command: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit` from the project's folder, as a user types it."""
        options = ("--address", self.dashboard, "--working-dir", str(ROOT))
        return subprocess.run(
            [self.python, *RAY, "job", "submit", *options, "--", "python", *command],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with all dependencies and without the project.

    A path file adds the other environment's folder but does not run the path files in it, and an
    editable installation is such a file.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    packages = Path(
        sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    )
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bin" / "python"
    found = subprocess.run([python, "-I", "-c", "import d3ke_platform"], cwd="/", check=False)
    if not found.returncode:
        pytest.skip("the project is installed as copied files, not editable: it cannot be hidden")
    return python


@pytest.fixture(scope="module")
def cluster(bare_python: Path) -> Iterator[Cluster]:
    # Unix sockets have short paths, so pytest's long folder will not do.
    session = Path(tempfile.mkdtemp(prefix="ray-"))
    dashboard, gcs, agent = (str(free_port()) for _ in range(3))
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "PYTHONPATH", "PYTEST_"))
    }
    environment["PATH"] = f"{bare_python.parent}{os.pathsep}{environment['PATH']}"
    # Ray 2.60 makes a token at the first local session and then wants it from clients too, who do
    # not look for it by themselves.
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ports = ("--port", gcs, "--dashboard-port", dashboard, "--dashboard-agent-listen-port", agent)
    options = ("--num-cpus", "4", "--temp-dir", str(session), "--disable-usage-stats")
    head = subprocess.Popen(
        [bare_python, *RAY, "start", "--head", "--block", *ports, *options],
        env=environment,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(int(dashboard), head)
        yield Cluster(bare_python, environment, f"http://127.0.0.1:{dashboard}")
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
        shutil.rmtree(session, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, head: subprocess.Popen[bytes]) -> None:
    """Until the dashboard, which takes jobs, listens."""
    for _ in range(120):
        assert head.poll() is None, f"the Ray head ended with {head.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    pytest.fail("the Ray head did not come up within a minute")


@pytest.mark.timeout(1200)
def test_prepare_train_and_score(cluster: Cluster, tmp_path: Path) -> None:
    data, run, scores = (str(tmp_path / name) for name in ("data", "run", "scores"))
    quick = ("--recipe", "demo_quick")
    done(cluster.submit("jobs/prepare.py", *quick, "--output", data))
    done(cluster.submit("jobs/train.py", *quick, "--data", data, "--output", run))
    assert (Path(run) / "bundle" / "weights.safetensors").is_file()

    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(min((Path(data) / "videos").rglob("*.mp4")), videos)
    model = ("--model", f"{run}/bundle")
    done(
        cluster.submit(
            "jobs/score.py", *quick, *model, "--archive", str(videos), "--output", scores
        )
    )
    assert list((Path(scores) / "results").glob("*.parquet"))
    assert list((Path(scores) / "exports").glob("*/motion.mot"))


@pytest.mark.timeout(120)
def test_a_wrong_setting_fails_the_job_with_one_clear_line(cluster: Cluster) -> None:
    outcome = cluster.submit("jobs/train.py", "--recipe", "no_such_recipe")
    assert outcome.returncode != 0
    assert "no_such_recipe" in outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stdout


def done(outcome: subprocess.CompletedProcess[str]) -> None:
    """The job succeeded and its last line of JSON says so."""
    assert outcome.returncode == 0, f"{outcome.stdout[-3000:]}\n{outcome.stderr[-2000:]}"
    lines = [line for line in outcome.stdout.splitlines() if line.startswith('{"')]
    assert json.loads(lines[-1])["status"] == "done"
