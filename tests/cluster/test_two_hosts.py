"""Jobs on a cluster of two hosts whose link is cut and whose hosts are powered off in the middle.

Every result is compared with that of the same job on one undisturbed host.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_jobs import PARTS, Work, prepare_work, score_work, tables, train_work
from two_hosts import HEAD, ROOT, WORKER, TwoHosts, unavailable, wait_until

SHORT_CUT_S = 5.0
"""Ray does not notice."""
LONG_CUT_S = 30.0
"""Ray gives the worker's node up a minute after the cut, although the link is back by then, and
the node ends itself."""
JOB_TIMEOUT_S = 400.0
WORKS = {"prepare": prepare_work, "train": train_work, "score": score_work}

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def _hosts_can_be_made() -> None:
    if reason := unavailable():
        pytest.skip(reason)


@pytest.fixture(scope="module", params=WORKS.values(), ids=WORKS)
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """A job, and what it comes to on one host where nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    work = request.param(folder)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "platform")])}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        work.command(folder / "output"), env=environment, timeout=JOB_TIMEOUT_S, check=False
    )
    assert done.returncode == 0
    return work


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[TwoHosts]:
    with TwoHosts(tmp_path / "hosts") as hosts:
        yield hosts


def test_a_cut_link_loses_nothing(work: Work, hosts: TwoHosts, tmp_path: Path) -> None:
    output = tmp_path / "output"
    job = hosts.submit("job", *work.command(output))
    work.wait_for_progress(output, job, part=0.0)
    hosts.cut_for(SHORT_CUT_S)
    work.wait_for_progress(output, job, part=0.4)
    hosts.cut_for(LONG_CUT_S)
    assert job.wait(JOB_TIMEOUT_S) == 0, job.tail()
    work.compare(output)
    # What the node was doing when it was given up ended with it.
    hosts.wait_for_nodes(2)
    wait_until(lambda: not hosts.busy(WORKER), "end of the worker's processes", 60.0, every_s=1.0)


def test_a_job_outlives_a_host(work: Work, hosts: TwoHosts, tmp_path: Path) -> None:
    output = tmp_path / "output"
    job = hosts.submit("job", *work.command(output))
    work.wait_for_progress(output, job, part=0.2)
    hosts.kill(WORKER)
    assert job.wait(JOB_TIMEOUT_S) == 0, job.tail()
    work.compare(output)


def written(output: Path) -> dict[str, int]:
    """When each table of a part of the work was written, ns."""
    return {name: path.stat().st_mtime_ns for name, path in tables(output, PARTS).items()}


def test_a_job_whose_head_died_goes_on_elsewhere(
    work: Work, hosts: TwoHosts, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    job = hosts.submit("job", *work.command(output))
    work.wait_for_progress(output, job, part=0.2)
    hosts.kill(HEAD)
    hosts.close()
    made = written(output)
    with TwoHosts(tmp_path / "others") as others:
        again = others.submit("job", *work.command(output))
        assert again.wait(JOB_TIMEOUT_S) == 0, again.tail()
    work.compare(output)
    assert made.items() <= written(output).items()  # nothing was made again
