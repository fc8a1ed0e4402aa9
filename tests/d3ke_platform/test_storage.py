from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import D3KEError, InvalidInputError
from d3ke_platform import files, storage
from d3ke_platform.errors import SchemaVersionError, UnwritableError, UsageError
from d3ke_platform.schema import REJECTS, SUBJECTS
from d3ke_platform.storage import DataSet

REJECT = {"item": "a", "stage": "s", "reason": "r", "traceback": "", "time_utc": "2026-01-01"}


def test_bytes_json_and_lists_at_paths_and_uris(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/deep/er"
    storage.make_folder(uri)
    for root in (uri, str(tmp_path / "deep" / "er")):
        storage.write_bytes(storage.join(root, "a.bin"), b"abc")
        assert storage.read_bytes(storage.join(root, "a.bin")) == b"abc"
        storage.write_json(storage.join(root, "b.json"), {"x": np.arange(3), "p": Path("q")})
        assert storage.read_json(storage.join(root, "b.json")) == {"x": [0, 1, 2], "p": "q"}
        assert [u.rsplit("/", 1)[-1] for u in storage.list_files(root)] == ["a.bin", "b.json"]
        assert storage.exists(storage.list_files(root, ".json")[0])
        assert list(storage.file_sizes(root)) == storage.list_files(root)
        assert next(iter(storage.file_sizes(root).values())) == 3
    assert storage.list_files(tmp_path / "absent") == []


def test_rows_are_counted_without_reading_them(tmp_path: Path) -> None:
    storage.write_table(tmp_path / "rejects.parquet", REJECTS.from_rows([REJECT] * 3))
    assert storage.count_rows(tmp_path / "rejects.parquet") == 3
    assert storage.count_rows(f"file://{tmp_path}/rejects.parquet") == 3
    storage.write_bytes(tmp_path / "cut.parquet", b"PAR1")
    for name in ("cut.parquet", "absent.parquet"):
        with pytest.raises(InvalidInputError, match=f"{name}.*cannot be read"):
            storage.count_rows(tmp_path / name)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model.osim"
    target.write_text("old")

    def fail(path: Path) -> None:
        assert path.suffix == ".osim"
        path.write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        storage.write_atomically(target, fail)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.osim"]


@pytest.mark.parametrize("where", ["/proc/d3ke/data", "{file}", "{file}/data"])
def test_unwritable_folders_are_one_clear_line(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    location = where.format(file=tmp_path / "file")
    with pytest.raises(UnwritableError, match="Cannot write to") as caught:
        storage.make_folder(location)
    assert location in str(caught.value)
    assert caught.value.exit_code == 2


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"none\.parquet"):
        storage.read_table(tmp_path / "none.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InvalidInputError, match=r"broken\.parquet"):
        storage.read_table(tmp_path / "broken.parquet")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(InvalidInputError, match="not JSON"):
        storage.read_json(tmp_path / "broken.json")


def test_hashes_follow_content(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Settings:
        rate: float = 1.0

    assert storage.settings_hash(Settings()) == storage.settings_hash({"rate": 1.0})
    assert storage.settings_hash(Settings()) != storage.settings_hash(Settings(2.0))
    assert storage.settings_hash({"a": 1, "b": 2}) == storage.settings_hash({"b": 2, "a": 1})
    (tmp_path / "x").write_bytes(b"abc")
    assert storage.content_hash(tmp_path / "x") == storage.content_hash(b"abc")
    assert len(storage.content_hash(b"")) == 16
    for endless in ("/dev/zero", tmp_path):
        with pytest.raises(InvalidInputError, match="is not a file"):
            storage.content_hash(endless)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("walk 1.mp4", "walk_1.mp4"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("..", "_"),
        ("日本 ünï", "日本_ünï"),
        ("a\nb\0c", "a_b_c"),
        ("\udcff", "_"),
        ("x" * 300, "x" * 80),
        ("日" * 80, "日" * 66),
    ],
)
def test_safe_names(text: str, name: str) -> None:
    assert storage.safe_name(text) == name


def test_file_uris_are_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"file://{tmp_path}/a b%20?.bin"
    storage.write_bytes(uri, b"before")
    assert (tmp_path / "a b%20?.bin").read_bytes() == b"before"

    def fail(self: Path, content: bytes) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UnwritableError, match="disk full"):
        storage.write_bytes(uri, b"after")
    assert storage.read_bytes(uri) == b"before"


def test_remote_files_are_copied_again_when_they_change(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path / "cache"))
    uri = f"file://{tmp_path}/m.txt"
    storage.write_bytes(uri, b"one")
    assert storage.local_path(uri).read_bytes() == b"one"
    storage.write_bytes(uri, b"three")
    assert storage.local_path(uri).read_bytes() == b"three"


def make(root: Path, **changes: object) -> DataSet:
    settings = {"crop": {"margin": 1.25, "stored_size": 160}, **changes}
    return DataSet.create(root, source="synthetic", settings=settings)


def test_data_set_resumes_with_the_same_settings_only(tmp_path: Path) -> None:
    first = make(tmp_path / "data")
    assert make(tmp_path / "data").description == first.description
    with pytest.raises(UsageError, match=r"settings\.crop\.margin is 1\.25 there, 1\.5 now"):
        make(tmp_path / "data", crop={"margin": 1.5, "stored_size": 160})
    assert DataSet.open(tmp_path / "data").crop["stored_size"] == 160


def test_overwrite_clears_what_was_prepared(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    storage.write_bytes(data.crop_uri("r"), b"x")
    storage.write_bytes(data.uri("units", "u.json"), b"x")
    storage.write_bytes(data.uri("notes.txt"), b"mine")
    DataSet.create(tmp_path / "data", source="synthetic", settings={"crop": {}}, overwrite=True)
    left = {uri.rsplit("/", 1)[-1] for uri in storage.list_files(data.root)}
    assert left == {"dataset.json", "notes.txt"}


def test_other_format_versions_and_folders_are_refused(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    description = storage.read_json(data.uri("dataset.json"))
    storage.write_json(data.uri("dataset.json"), {**description, "schema_version": 99})
    for attempt in (lambda: DataSet.open(data.root), lambda: make(tmp_path / "data")):
        with pytest.raises(SchemaVersionError, match=r"version 99.*reads version 2"):
            attempt()
    with pytest.raises(UsageError, match=r"jobs/prepare\.py"):
        DataSet.open(tmp_path)


def test_rejects_are_replaced_stage_by_stage(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    data.write_rejects("label", [REJECT, {**REJECT, "item": "b"}])
    data.write_rejects("crop", [{**REJECT, "item": "c"}])
    data.write_rejects("label", [])
    assert [row["item"] for row in data.rejects()] == ["c"]
    assert REJECTS.column_names == tuple(REJECT)


def test_content_hash_follows_labels(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    names = ("skeleton.json", "measurements.json", "predicted.json")
    for name in (*names, "subjects.parquet", "trials.parquet", "recordings.parquet"):
        storage.write_bytes(data.uri(name), b"")
    storage.write_bytes(data.label_uri("t"), b"1")
    before = data.content_hash()
    storage.write_json(data.uri("summary.json"), {})
    assert data.content_hash() == before
    storage.write_bytes(data.label_uri("t"), b"2")
    assert data.content_hash() != before


def test_rows_of_the_tables(tmp_path: Path) -> None:
    data = make(tmp_path / "data")
    row = {
        "subject": "s1", "split": "test", "sex": "female", "height_m": 1.7, "mass_kg": 60.0,
        "static_uri": "subjects/s1_static.trc",
        "scale_setup_uri": "",
        "scaled_model_uri": "",
    }  # fmt: skip
    data.write_rows(SUBJECTS, [row])
    assert data.subjects() == [row]
    assert data.resolve(row["static_uri"]) == tmp_path / "data/subjects/s1_static.trc"


def test_errors_survive_pickling() -> None:
    import pickle

    for error in (UsageError("x"), UnwritableError("/a", "b"), SchemaVersionError("d", 2, 1)):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert isinstance(again, D3KEError)
        assert str(again) == str(error)
    assert json.dumps(storage.plain({"a": (1, np.float64(2))})) == '{"a": [1, 2.0]}'
