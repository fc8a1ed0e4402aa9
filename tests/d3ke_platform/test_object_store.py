"""Storage on an S3 server: every operation as on local files, whole objects or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from object_store import S3Server, s3_server

from d3ke.errors import InvalidInputError
from d3ke_platform import locations, storage
from d3ke_platform.errors import UnwritableError, UsageError
from d3ke_platform.pipelines.archive import list_archive
from d3ke_platform.schema import REJECTS

__all__ = ["s3_server"]
REJECT = {"item": "a", "stage": "s", "reason": "r", "traceback": "", "time_utc": "2026-01-01"}


@pytest.mark.parametrize("name", ["plain.bin", "a b/ü 日本.bin", "100%/a%20b?c#d&e=f.bin"])
def test_objects_of_any_name(s3_server: S3Server, name: str) -> None:
    root = s3_server.bucket()
    uri = f"{root}/{name}"
    assert not storage.exists(uri)
    storage.write_bytes(uri, b"abc")
    assert storage.exists(uri)
    assert storage.is_file(uri)
    assert storage.read_bytes(uri) == b"abc"
    assert storage.list_files(root) == [uri]
    assert storage.file_sizes(root) == {uri: 3}
    storage.write_bytes(uri, b"defg")
    assert storage.read_bytes(uri) == b"defg"
    storage.remove(uri)
    assert not storage.exists(uri)
    storage.remove(uri)


def test_tables_json_folders_and_rejects(s3_server: S3Server) -> None:
    root = f"{s3_server.bucket()}/scores"
    storage.make_folder(root)
    assert storage.list_files(root) == []
    storage.write_json(f"{root}/a.json", {"x": [1, 2]})
    assert storage.read_json(f"{root}/a.json") == {"x": [1, 2]}
    table = REJECTS.from_rows([REJECT] * 3)
    storage.write_table(f"{root}/deep/t.parquet", table)
    assert storage.read_table(f"{root}/deep/t.parquet") == table
    assert storage.read_table(f"{root}/deep/t.parquet", columns=["item"]).num_columns == 1
    assert storage.count_rows(f"{root}/deep/t.parquet") == 3
    storage.write_rejects(root, "list", [REJECT])
    storage.write_rejects(root, "decode", [REJECT, REJECT])
    assert len(storage.read_rejects(root)) == 3
    storage.write_rejects(root, "decode", [])
    assert len(storage.read_rejects(root)) == 1
    assert storage.list_files(f"{root}/deep", ".parquet") == [f"{root}/deep/t.parquet"]
    storage.remove(f"{root}/deep")
    assert not storage.exists(f"{root}/deep/t.parquet")
    assert storage.exists(root)


def test_what_is_not_there(s3_server: S3Server) -> None:
    root = s3_server.bucket()
    with pytest.raises(InvalidInputError, match=r"none\.json.*cannot be read"):
        storage.read_json(f"{root}/none.json")
    with pytest.raises(InvalidInputError, match=r"none\.bin"):
        storage.content_hash(f"{root}/none.bin")
    with pytest.raises(InvalidInputError, match=r"none\.bin.*no such file"):
        storage.fingerprint(f"{root}/none.bin")
    assert storage.list_files(f"{root}/none") == []
    with pytest.raises(UnwritableError, match="no-such-bucket.*not found"):
        storage.make_folder("s3://no-such-bucket/scores")
    with pytest.raises(UsageError, match="No videos in s3://|no such file or folder"):
        list_archive(f"{root}/none", {})


def test_small_objects_are_put_at_once(s3_server: S3Server) -> None:
    uri = f"{s3_server.bucket()}/small.bin"
    before = s3_server.requests()
    storage.write_bytes(uri, b"x" * 100_000)
    made = s3_server.requests()[len(before) :]
    assert sum("PUT" in line for line in made) == 1
    assert not any("uploads" in line or "uploadId" in line for line in made)


def test_large_objects_are_there_whole_or_not_at_all(s3_server: S3Server, tmp_path: Path) -> None:
    """A process that dies while it writes leaves what was there before."""
    uri = f"{s3_server.bucket()}/large.bin"
    storage.write_bytes(uri, b"before")
    script = tmp_path / "write.py"
    script.write_text(
        textwrap.dedent(f"""
        from d3ke_platform import locations
        system, path = locations.filesystem({uri!r})
        stream = system.open_output_stream(path)
        for _ in range(4):
            stream.write(b"x" * (8 << 20))
        print("written", flush=True)
        input()
        """)
    )
    child = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "written\n"
    assert storage.read_bytes(uri) == b"before"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert storage.read_bytes(uri) == b"before"
    assert storage.list_files(s3_server.root(uri)) == [uri]
    content = os.urandom(12 << 20)
    storage.write_bytes(uri, content)
    assert storage.content_hash(uri) == storage.content_hash(content)


def test_one_download_gives_the_file_and_its_hash(s3_server: S3Server, tmp_path: Path) -> None:
    uri = f"{s3_server.bucket()}/a b/film 1.mp4"
    content = os.urandom(9 << 20)
    storage.write_bytes(uri, content)
    before = len(s3_server.requests())
    path, digest = storage.fetch(uri, tmp_path)
    asked = [line for line in s3_server.requests()[before:] if '"GET' in line or "GET /" in line]
    assert path.read_bytes() == content
    assert path.parent == tmp_path
    assert digest == storage.content_hash(content)
    assert len(asked) <= 4  # blocks of 4 MB, each once
    local, same = storage.fetch(path, tmp_path / "unused")
    assert (local, same) == (path, digest)


def test_fingerprints_change_with_the_object_and_need_no_download(s3_server: S3Server) -> None:
    uri = f"{s3_server.bucket()}/a.mp4"
    storage.write_bytes(uri, b"1" * 10)
    first = storage.fingerprint(uri)
    before = len(s3_server.requests())
    assert storage.fingerprint(uri) == first
    assert not any("GET" in line for line in s3_server.requests()[before:])
    storage.write_bytes(uri, b"2" * 10)
    assert storage.fingerprint(uri) != first


def test_archives_in_a_bucket(s3_server: S3Server) -> None:
    root = s3_server.bucket()
    for name in ("a.mp4", "b c/ü.mkv", "b c/d/e.mp4", "notes.txt"):
        storage.write_bytes(f"{root}/{name}", name.encode())

    def found(location: str) -> list[str]:
        return [item["uri"].removeprefix(root + "/") for item in list_archive(location, {}).items]

    assert found(root) == ["a.mp4", "b c/d/e.mp4", "b c/ü.mkv"]
    assert found(f"{root}/*.mp4") == ["a.mp4"]
    assert found(f"{root}/**/*.mp4") == ["a.mp4", "b c/d/e.mp4"]
    assert found(f"{root}/b c/ü.mkv") == ["b c/ü.mkv"]
    storage.write_bytes(f"{root}/b c/m.csv", "uri\nü.mkv\n../a.mp4\nd/e.mp4\n".encode())
    listing = list_archive(f"{root}/b c/m.csv", {})
    assert [item["uri"] for item in listing.items] == [f"{root}/b c/d/e.mp4", f"{root}/b c/ü.mkv"]
    assert "leads out" in listing.rejects[0]["reason"]


def test_options_in_a_location_are_refused_with_the_way_out() -> None:
    with pytest.raises(UsageError, match="endpoint_override.*AWS_ENDPOINT_URL"):
        storage.exists("s3://bucket/a?endpoint_override=http://127.0.0.1:1")
    with pytest.raises(UsageError, match="Locations are local paths, s3:// or gs://"):
        storage.exists("gopher://bucket/a")


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    began = time.monotonic()
    with pytest.raises(InvalidInputError, match="s3://bucket/a: cannot be read"):
        storage.exists("s3://bucket/a")
    assert time.monotonic() - began < 60


def test_google_locations_are_made_the_same_way() -> None:
    system, path = locations.filesystem("gs://bucket/a b?c.mp4")
    assert isinstance(system, pafs.GcsFileSystem)
    assert path == "bucket/a b?c.mp4"
    assert storage.join("gs://bucket/x", "y.mp4") == "gs://bucket/x/y.mp4"
