"""A scoring job that is killed again and again comes to what an undisturbed one comes to."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import pytest
import ray

from d3ke_platform import storage
from d3ke_platform.schema import RESULTS
from d3ke_platform.stages.decode import frames
from d3ke_platform.stages.scores_folder import latest_run

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent / "stages"), str(ROOT / "tests" / "jobs")]
from object_store import s3_server  # noqa: E402
from watched_job import run_job  # noqa: E402

__all__ = ["s3_server"]

VIDEOS = int(os.environ.get("D3KE_KILL_VIDEOS", "500"))
KILLS = int(os.environ.get("D3KE_KILLS", "20"))
LIMIT_S = 6 * 3600
_PAUSE_S = (4.0, 14.0)
"""Between two kills [s]: a job needs some seconds until it does anything."""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[list[np.ndarray]]:
    """Pictures of the recordings of the demo."""
    folder = tmp_path_factory.mktemp("demo") / "data"
    job = run_job("prepare", "--recipe", "demo_quick", "--output", str(folder))
    assert job.status == 0, job.text
    videos = sorted(folder.rglob("*.mp4"))
    return [[frame.image for frame in frames(video)] for video in videos]


def write_clip(path: Path, number: int, recordings: list[list[np.ndarray]]) -> None:
    """A part of a recording, unlike all others: its length, its size, its rate and its side."""
    drawn = np.random.default_rng(number)
    pictures = recordings[number % len(recordings)]
    first = int(drawn.integers(0, max(1, len(pictures) - 8)))
    count = int(drawn.integers(8, 40))
    side = int(drawn.integers(4, 12)) * 16
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=int(drawn.integers(8, 31)))
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        mirrored = bool(drawn.integers(0, 2))
        for picture in pictures[first : first + count]:
            seen = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
            image = np.ascontiguousarray(seen[:, ::-1] if mirrored else seen)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


class TwoNodes:
    """A Ray cluster of two simulated nodes on this machine; the second may be killed."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False}
        )
        self._second = self._cluster.add_node(num_cpus=2)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def workers(self) -> list[psutil.Process]:
        """Processes of Ray's workers that run a stage, and their children."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                command = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if "StageActor" in command or "spawn_main" in command:
                found.append(process)
        return found

    def kill_second_node(self) -> None:
        self._cluster.remove_node(self._second, allow_graceful=False)
        self._second = self._cluster.add_node(num_cpus=2)

    def close(self) -> None:
        self._cluster.shutdown()


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    cluster = TwoNodes()
    try:
        yield cluster
    finally:
        cluster.close()


class Driver:
    """The job as a user starts it, again and again."""

    def __init__(self, address: str, flags: list[str], log: Path) -> None:
        paths = [str(ROOT), str(ROOT / "platform")]
        self._environment = {
            **os.environ,
            "RAY_ADDRESS": address,
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "PYTHONPATH": os.pathsep.join(paths),
        }
        self._command = [sys.executable, str(ROOT / "jobs" / "score.py"), *flags]
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=subprocess.PIPE, stderr=log, text=True
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def summary(self) -> dict[str, Any]:
        """What the job says in the end."""
        assert self._process is not None
        output, _ = self._process.communicate()
        assert self._process.returncode == 0, self._log.read_text()[-3000:]
        return json.loads(output.splitlines()[-1])


def table(output: str) -> dict[str, dict[str, np.ndarray]]:
    files = storage.list_files(f"{latest_run(output)}/results", ".parquet")
    return {Path(file).stem: RESULTS.to_numpy(storage.read_table(file)) for file in files}


def reasons(output: str) -> dict[str, str]:
    return {row["item"]: row["reason"] for row in storage.read_rejects(latest_run(output))}


def disturb(cluster: TwoNodes, driver: Driver, chance: random.Random) -> str:
    """Kill something at random; returns what."""
    victim = chance.choice(["driver", "worker", "worker", "node"])
    if victim == "node":
        cluster.kill_second_node()
    elif victim == "driver" and driver.running:
        driver.kill()
    else:
        workers = cluster.workers()
        if not workers:
            return ""
        try:
            chance.choice(workers).kill()
        except psutil.Error:
            return ""
    return victim


@pytest.mark.long
@pytest.mark.timeout(LIMIT_S)
@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_twenty_kills_change_nothing(
    tmp_path: Path,
    recordings: list[list[np.ndarray]],
    place: str,
    request: pytest.FixtureRequest,
) -> None:
    if ray.is_initialized():
        pytest.skip("another Ray session is running in this process; run this test alone")
    from random_bundle import write_random_bundle

    clips = tmp_path / "archive"
    clips.mkdir()
    # Before the cluster starts, whose processes must find the server.
    root = str(tmp_path) if place == "folder" else request.getfixturevalue("s3_server").bucket()
    for number in range(VIDEOS):
        clip = clips / f"clip{number:04d}.mp4"
        write_clip(clip, number, recordings)
        if place == "bucket":
            storage.write_bytes(f"{root}/archive/{clip.name}", clip.read_bytes())
    bundle = write_random_bundle(tmp_path / "bundle")
    flags = ["--archive", f"{root}/archive", "--model", str(bundle), "--detector", "fallback"]
    flags += ["--export", "none", "--no-tracking", "--segment-frames", "16", "--device", "cpu"]
    flags += ["--max-rejects", str(VIDEOS)]  # in some clips there may be nobody
    chance = random.Random(20)
    with two_nodes() as cluster:
        calm = Driver(cluster.address, [*flags, "--output", f"{root}/calm"], tmp_path / "a")
        calm.start()
        expected = calm.summary()
        assert expected["videos"] == expected["scored"] + expected["rejects"] == VIDEOS
        assert expected["scored"] > 0.9 * VIDEOS
        stormy = Driver(cluster.address, [*flags, "--output", f"{root}/stormy"], tmp_path / "b")
        kills: list[str] = []
        while len(kills) < KILLS:
            if not stormy.running:
                stormy.start()
            time.sleep(chance.uniform(*_PAUSE_S))
            if stormy.running:
                kills += filter(None, [disturb(cluster, stormy, chance)])
        if stormy.running:
            stormy.kill()
        stormy.start()
        summary = stormy.summary()
        leftovers = [process for process in cluster.workers() if process.is_running()]
    assert {"driver", "worker", "node"} <= set(kills)
    for figure in ("videos", "scored", "rejects", "rows"):
        assert summary[figure] == expected[figure]
    assert reasons(f"{root}/calm") == reasons(f"{root}/stormy")
    first, second = table(f"{root}/calm"), table(f"{root}/stormy")
    assert first.keys() == second.keys()
    for name, columns in first.items():
        for column, values in columns.items():
            np.testing.assert_array_equal(values, second[name][column], err_msg=name)
    _gone(leftovers)


def _gone(processes: list[psutil.Process]) -> None:
    """No process outlives the job and its cluster."""
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []
