"""jobs/score.py over whole archives: hostile ones, long videos, and buckets. Minutes each."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from watched_job import run_job

sys.path[:0] = [
    str(Path(__file__).parents[1] / "d3ke_platform" / "stages"),
]
from hostile_files import EITHER, RESULTS, write_corpus  # noqa: E402
from object_store import S3Server, s3_server  # noqa: E402
from random_bundle import write_random_bundle  # noqa: E402
from video_files import write_long_video, write_video  # noqa: E402

from d3ke_platform import storage  # noqa: E402
from d3ke_platform.schema import RESULTS as RESULTS_TABLE  # noqa: E402

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
__all__ = ["s3_server"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_bundle(tmp_path_factory.mktemp("bundle") / "random")


def arguments(archive: object, bundle: Path, output: object, *more: str) -> list[str]:
    fixed = ["--detector", "none", "--device", "cpu", "--export", "none", "--no-tracking"]
    places = ["--archive", str(archive), "--model", str(bundle), "--output", str(output)]
    return [*places, *fixed, *more]


@dataclass(frozen=True)
class Place:
    """Where an archive and its scores lie: in folders, or in a bucket of a real S3 server."""

    root: str

    @property
    def output(self) -> str:
        return f"{self.root}/scores"

    def put(self, path: Path) -> str:
        """Location of a file or of a folder's files; a bucket holds no links, pipes or folders."""
        if not storage.is_uri(self.root):
            return str(path)
        for file in [path] if path.is_file() else regular_files(path):
            uri = f"{self.root}/{file.relative_to(path.parent)}"
            storage.write_bytes(uri, file.read_bytes())
        return f"{self.root}/{path.name}"


def regular_files(folder: Path) -> list[Path]:
    """What can be in a bucket; servers differ in whether they take a line break in a name."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if "\n" not in path.name]


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    in_bucket = request.param == "bucket"
    return Place(request.getfixturevalue("s3_server").bucket() if in_bucket else str(tmp_path))


def test_an_archive_of_broken_and_hostile_files(bundle: Path, tmp_path: Path, place: Place) -> None:
    expected = write_corpus(tmp_path)
    folder = tmp_path / "archive"
    archive, output = place.put(folder), place.output
    if storage.is_uri(archive):
        there = {str(file.relative_to(folder)) for file in regular_files(folder)}
        expected = {name: end for name, end in expected.items() if name in there}
    assert len(expected) > 40
    job = run_job("score", *arguments(archive, bundle, output))
    job.write_figures(tmp_path / "figures.json")
    assert job.status == 3, job.text  # done, with more rejects than allowed
    rejects = {row["item"]: row for row in storage.read_rejects(f"{output}/{job.summary['run']}")}
    found = {item.removeprefix(f"{archive}/"): row for item, row in rejects.items()}
    assert job.summary["scored"] + len(rejects) == job.summary["videos"] == len(expected)
    for name, pattern in expected.items():
        if pattern == RESULTS:
            assert name not in found, found[name]
        elif pattern != EITHER:
            assert re.search(pattern, found[name]["reason"], re.DOTALL), (name, found[name])
    assert all(row["stage"] and row["reason"] for row in rejects.values())
    assert job.peak_bytes < 4e9
    assert not job.left
    again = run_job("score", *arguments(archive, bundle, output))
    assert (again.summary["scored"], again.summary["rejects"]) == (
        job.summary["scored"],
        job.summary["rejects"],
    )
    assert again.summary["estimated_frames"] == 0


def test_an_hour_of_full_hd_in_four_gigabytes(bundle: Path, tmp_path: Path, place: Place) -> None:
    video = place.put(write_long_video(tmp_path / "hour.mp4", seconds=3600))
    job = run_job("score", *arguments(video, bundle, place.output, "--batch-size", "32"))
    job.write_figures(tmp_path / "figures.json")
    assert job.status == 0, job.text
    assert job.summary["frames"] == 3600 * 25
    assert job.peak_bytes < 4e9
    assert not job.left


def test_from_bucket_to_bucket_and_on_after_a_kill(
    bundle: Path, tmp_path: Path, s3_server: S3Server
) -> None:
    root = s3_server.bucket()
    local = tmp_path / "archive"
    local.mkdir()
    for number, name in enumerate(("a 1.mp4", "ü.mkv", "c%20.avi", "d.mp4")):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        path = write_video(local / name, 20 + number, codec=codec)
        storage.write_bytes(f"{root}/archive/{name}", path.read_bytes())
    (local / "broken.mp4").write_bytes(b"no video")
    storage.write_bytes(f"{root}/archive/broken.mp4", b"no video")
    places = f"{root}/archive", bundle, f"{root}/scores"
    first = run_job("score", *arguments(*places))
    assert first.status == 3, first.text
    assert (first.summary["scored"], first.summary["rejects"]) == (4, 1)
    assert not first.left
    # A part of what was written is gone, as after a kill: only that is made again.
    run = f"{root}/scores/{first.summary['run']}"
    tables = storage.list_files(run, ".parquet")
    results = [uri for uri in tables if "/results/" in uri]
    estimates = [uri for uri in tables if "/estimates/" in uri]
    assert len(results) == 4
    before = read_all(results)
    storage.remove(results[0])
    recording = estimates[-1].split("/estimates/")[1].split("/")[0]
    for uri in [*(u for u in results if recording in u), estimates[-1]]:
        storage.remove(uri)
    gets = len(s3_server.requests())
    again = run_job("score", *arguments(*places))
    assert again.status == 3, again.text
    assert 0 < again.summary["estimated_frames"] < 30
    for name, rows in read_all(results).items():
        np.testing.assert_array_equal(rows, before[name])
    asked = [line for line in s3_server.requests()[gets:] if "GET /" in line and "archive/" in line]
    videos = {
        name for name in ("a%201", "%C3%BC", "c%2520", "/d.mp4") for line in asked if name in line
    }
    assert len(videos) <= 1, asked  # videos that are done are not downloaded again
    plain = run_job("score", *arguments(local, bundle, tmp_path / "scores"))
    same = read_all(storage.list_files(f"{tmp_path}/scores/{plain.summary['run']}/results"))
    assert same.keys() == before.keys()
    for name, rows in same.items():
        np.testing.assert_allclose(rows, before[name], atol=1e-6)
    shutil.rmtree(local)


def read_all(uris: list[str]) -> dict[str, np.ndarray]:
    """Angles by name of file."""
    return {
        uri.rsplit("results/", 1)[-1]: RESULTS_TABLE.to_numpy(storage.read_table(uri))[
            "coordinates"
        ]
        for uri in uris
    }
