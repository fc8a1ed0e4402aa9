"""The demo in its smallest form: every part works together, and a rerun does nothing twice."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import pytest

from d3ke_platform import cli
from d3ke_platform.evaluation.gates import NO_SEQUENCE

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.fixture(scope="module")
def job():
    """The module jobs/demo.py, imported as running it would."""
    sys.path.insert(0, str(JOBS))
    try:
        yield importlib.import_module("demo")
    finally:
        sys.path.remove(str(JOBS))


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


def run(job, output: Path, capsys) -> tuple[int, dict, str]:
    """Exit code, the last line, and what people saw."""
    arguments = ["--output", str(output), "--quick", "--no-real-video"]
    code = cli.run_job(job.main, job.DemoSettings, job="demo", argv=arguments)
    captured = capsys.readouterr()
    return code, json.loads(captured.out.strip().splitlines()[-1]), captured.err


def written(output: Path) -> dict[str, int]:
    """When everything that takes long was written."""
    files = [*output.glob("data/**/*.parquet"), *output.glob("data/videos/*")]
    files += [*output.glob("run/bundle/*"), *output.glob("report/estimates/**/*.parquet")]
    return {str(file): file.stat().st_mtime_ns for file in files}


@pytest.mark.timeout(1200)
def test_demo_twice(job, output, capsys):
    code, summary, seen = run(job, output, capsys)
    assert code == 0, seen
    assert summary["status"] == "done"
    assert summary["rejects"] == 0
    assert "What was measured" in seen

    status = {gate["name"]: gate for gate in metrics(output)["gates"]}
    layer = [gate for name, gate in status.items() if name.startswith("Layer against OpenSim")]
    assert [gate["status"] for gate in layer] == ["pass", "pass"]
    labels = [gate for name, gate in status.items() if name.startswith("Labels")]
    assert len(labels) == 2
    assert all(gate["measured"] is not None for gate in labels)
    unmeasured = [gate for gate in status.values() if gate["status"] == "not measured"]
    assert {gate["note"] for gate in unmeasured} <= {"switched off", NO_SEQUENCE}
    assert sum(gate["note"] == "switched off" for gate in unmeasured) == 2

    page = Path(summary["report"])
    assert page.is_file()
    assert page.stat().st_size > 100_000

    before, first = written(output), metrics(output)
    started = time.perf_counter()
    code, _, seen = run(job, output, capsys)
    assert code == 0, seen
    assert time.perf_counter() - started < summary["seconds"]
    changed = {name for name, when in written(output).items() if before.get(name) != when}
    # Tables of the whole data set are written anew from what is there; nothing else may be.
    whole = {"trials.parquet", "recordings.parquet", "quality_trials.parquet"}
    assert {Path(name).name for name in changed} <= whole
    assert metrics(output)["headline"] == first["headline"]


def metrics(output: Path) -> dict:
    return json.loads((output / "report" / "metrics.json").read_text())
