"""`ray job submit -- python jobs/x.py` on a cluster that does not have the project installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_head import RAY, RayHead, ray_head

from d3ke_platform.stages.scores_folder import latest_run

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
QUICK = ("--recipe", "demo_quick")


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
def head(bare_python: Path) -> Iterator[RayHead]:
    with ray_head(python=bare_python) as running:
        yield running


def submit(
    head: RayHead, *command: str, working_dir: str = "."
) -> subprocess.CompletedProcess[str]:
    """`ray job submit` from the project's folder, as cluster/README.md tells it."""
    options = ("--working-dir", working_dir, "--runtime-env", "cluster/runtime-env.yaml")
    return subprocess.run(
        [head.python, *RAY, "job", "submit", *options, "--", "python", *command],
        env=head.environment | {"RAY_API_SERVER_ADDRESS": head.dashboard},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


@pytest.fixture(scope="module")
def data(head: RayHead, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("submitted") / "data")
    done(submit(head, "jobs/prepare.py", *QUICK, "--output", folder))
    return folder


@pytest.fixture(scope="module")
def run(head: RayHead, data: str) -> Path:
    folder = Path(data).parent / "run"
    done(submit(head, "jobs/train.py", *QUICK, "--data", data, "--output", str(folder)))
    return folder


@pytest.mark.timeout(1200)
def test_prepare_train_and_score(head: RayHead, data: str, run: Path, tmp_path: Path) -> None:
    assert (run / "bundle" / "weights.safetensors").is_file()
    videos, scores = tmp_path / "videos", str(tmp_path / "scores")
    videos.mkdir()
    shutil.copy(min((Path(data) / "videos").rglob("*.mp4")), videos)
    model = ("--model", str(run / "bundle"), "--archive", str(videos))
    done(submit(head, "jobs/score.py", *QUICK, *model, "--output", scores))
    assert list(Path(latest_run(scores), "results").glob("*.parquet"))
    assert list(Path(latest_run(scores), "exports").glob("*/motion.mot"))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_evaluate(head: RayHead, data: str, run: Path, tmp_path: Path) -> None:
    model = ("--model", str(run / "bundle"))
    output = ("--output", str(tmp_path))
    done(submit(head, "jobs/evaluate.py", *QUICK, "--data", data, *model, *output))
    assert (tmp_path / "report.html").is_file()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_tune(head: RayHead, data: str, run: Path, tmp_path: Path) -> None:
    search = ("--trials", "2", "--base", str(run), "--output", str(tmp_path / "search"))
    done(submit(head, "jobs/tune.py", *QUICK, "--data", data, *search))
    assert (tmp_path / "search" / "best.toml").is_file()


@pytest.mark.timeout(300)
def test_the_code_may_be_a_zip_that_the_nodes_can_read(head: RayHead, tmp_path: Path) -> None:
    """As the RayJobs of cluster/kuberay have it, made as their first lines say."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is nothing to archive")
    file = tmp_path / "code.zip"
    archive = ("git", "archive", "--format", "zip", "--prefix", "d3ke/", "--output", file, "HEAD")
    subprocess.run(archive, check=True, cwd=ROOT)
    outcome = submit(head, "jobs/train.py", "--help", working_dir=f"file://{file}")
    assert outcome.returncode == 0, outcome.stdout
    assert "--frame.backbone" in outcome.stdout


@pytest.mark.timeout(300)
def test_a_wrong_setting_fails_the_job_with_one_clear_line(head: RayHead) -> None:
    outcome = submit(head, "jobs/train.py", "--recipe", "no_such_recipe")
    assert outcome.returncode != 0
    assert "no_such_recipe" in outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stdout


def done(outcome: subprocess.CompletedProcess[str]) -> None:
    """The job succeeded and its last line of JSON says so."""
    assert outcome.returncode == 0, f"{outcome.stdout[-3000:]}\n{outcome.stderr[-2000:]}"
    lines = [line for line in outcome.stdout.splitlines() if line.startswith('{"')]
    assert json.loads(lines[-1])["status"] == "done"
