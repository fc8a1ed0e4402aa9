"""Killed in the middle and run again, prepare gives the data set of one undisturbed run."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import layer_source
import psutil
import pytest
import ray
from prepare_layer_source import SOURCE, settings

from d3ke_platform import storage
from d3ke_platform.pipelines.prepare import prepare
from d3ke_platform.schema import CROPS, LABELS, RECORDINGS, SUBJECT_LABELS, SUBJECTS, TRIALS
from d3ke_platform.storage import DataSet

SCRIPT = Path(__file__).with_name("prepare_layer_source.py")
KILLED_AT = ("labels/*.parquet",)
"""A run is killed when the first new file of a kind is there. Others work too ("units/*.json",
"subjects/*.parquet", "crops/*.parquet"), half a minute each."""


@contextmanager
def running(output: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, str(SCRIPT), str(output)], cwd=SCRIPT.parent)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def kill_when(output: Path, pattern: str) -> None:
    """Start a run and kill its driver at the first new file; its workers have to end by
    themselves."""
    before = set(output.glob(pattern))
    with running(output) as process:
        deadline = time.monotonic() + 120.0
        while not set(output.glob(pattern)) - before:
            assert process.poll() is None, f"ended without a new {pattern}"
            assert time.monotonic() < deadline, f"no new {pattern}"
            time.sleep(0.02)
        ours = []
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if not child.name().endswith("Agent"):  # Ray's own take a minute or two to notice
                    ours.append(child)
        process.kill()
    assert ours
    _, alive = psutil.wait_procs(ours, timeout=60.0)
    assert not alive, alive


def tables(data: DataSet) -> dict[str, list[dict]]:
    """All rows of all tables, by file; rejects without their time and traceback."""
    files = {f"{table.name}.parquet": table for table in (SUBJECTS, TRIALS, RECORDINGS)}
    for folder, table in (("subjects", SUBJECT_LABELS), ("labels", LABELS), ("crops", CROPS)):
        for uri in storage.list_files(data.uri(folder), ".parquet"):
            files[f"{folder}/{uri.rsplit('/', 1)[-1]}"] = table
    rows = {
        name: table.to_rows(storage.read_table(data.uri(name))) for name, table in files.items()
    }
    rejects = [{key: row[key] for key in ("item", "stage", "reason")} for row in data.rejects()]
    # A reason names the folder.
    for row in rejects:
        row["reason"] = row["reason"].replace(data.root, "")
    return {**rows, "rejects": sorted(rejects, key=lambda row: (row["stage"], row["item"]))}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_data_set_killed_while_labelling_equals_an_undisturbed_one(tmp_path: Path) -> None:
    ray.cloudpickle.register_pickle_by_value(layer_source)
    prepare(settings(tmp_path / "whole"), source=SOURCE)
    killed = tmp_path / "killed"
    for pattern in KILLED_AT:
        kill_when(killed, pattern)
    with running(killed) as process:
        assert process.wait(180.0) == 0
    whole, resumed = DataSet.open(tmp_path / "whole"), DataSet.open(killed)
    expected, found = tables(whole), tables(resumed)
    assert len(expected["rejects"]) == 2
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert repr(found[name]) == repr(rows), name
    assert resumed.content_hash() == whole.content_hash()
    assert not list(killed.rglob(".*"))
