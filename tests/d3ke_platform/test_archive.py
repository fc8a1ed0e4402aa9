"""What is in an archive: trees, globs and manifests; what cannot be used is a reject."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from d3ke.camera import Camera
from d3ke_platform.errors import UsageError
from d3ke_platform.pipelines.archive import Listing, list_archive

CAMERAS = {"left": Camera.assumed((64, 48)), "walk": Camera.assumed((64, 48), 40.0)}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for name in ("walk.mp4", "deeper/run.mkv", "notes.txt", ".hidden.mp4", "deeper/even/UP.MOV"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def names(listing: Listing) -> list[str]:
    return [os.path.basename(item["uri"]) for item in listing.items]


def reasons(listing: Listing) -> dict[str, str]:
    assert all(row["stage"] == "list" for row in listing.rejects)
    return {os.path.basename(row["item"]): row["reason"] for row in listing.rejects}


def test_folder_glob_and_file(archive: Path) -> None:
    def found(location: object) -> list[str]:
        listing = list_archive(str(location), {})
        assert not listing.rejects
        return names(listing)

    assert found(archive) == ["UP.MOV", "run.mkv", "walk.mp4"]
    assert found(archive / "*.mp4") == ["walk.mp4"]
    assert found(archive / "**" / "*.mkv") == ["run.mkv"]
    assert found(archive / "**") == ["UP.MOV", "run.mkv", "notes.txt", "walk.mp4"]
    assert found(archive / "walk.mp4") == ["walk.mp4"]
    assert found(f"file://{archive}") == ["UP.MOV", "run.mkv", "walk.mp4"]
    assert found(f"file://{archive}/*.mp4") == ["walk.mp4"]
    assert found(f"file://{archive}/**/*.mkv") == ["run.mkv"]
    for nothing in (archive / "none", archive / "*.avi", f"file://{archive}/none"):
        with pytest.raises(UsageError, match=r"--archive|No videos"):
            list_archive(str(nothing), {})


def test_scores_inside_of_the_archive_are_left_out(archive: Path) -> None:
    overlay = archive / "scores" / "model-1" / "exports" / "walk" / "overlay.mp4"
    overlay.parent.mkdir(parents=True)
    overlay.write_bytes(b"shows a walk")
    (archive / "scores" / "folder.mp4").mkdir()
    without = {"without": f"{archive}/deeper/../scores"}
    listing = list_archive(str(archive), {}, **without)
    assert names(listing) == ["UP.MOV", "run.mkv", "walk.mp4"]
    assert not listing.rejects
    assert names(list_archive(f"{archive}/**/*.mp4", {}, **without)) == ["walk.mp4"]
    # Who asks for them gets them.
    assert names(list_archive(str(overlay.parent), {}, **without)) == ["overlay.mp4"]


@pytest.mark.parametrize(
    "name",
    ["a b.mp4", "a\nb.mp4", "ünï-日本.mp4", "100%.mp4", "a?b#c.mp4", "-x.mp4", "[24] a*.mp4"],
)
def test_any_name_works(tmp_path: Path, name: str) -> None:
    folder = tmp_path / f"of {name}"
    folder.mkdir()
    (folder / name).write_bytes(b"x")
    assert names(list_archive(str(folder), {})) == [name]
    assert names(list_archive(str(folder / name), {})) == [name]
    pq.write_table(pa.table({"uri": [name]}), folder / "m.parquet")
    pacsv.write_csv(pa.table({"uri": [name]}), folder / "m.csv")
    for manifest in ("m.parquet", "m.csv"):
        (item,) = list_archive(str(folder / manifest), {}).items
        assert item["uri"] == str(folder / name)


def test_names_that_are_no_text_are_rejected(archive: Path) -> None:
    (Path(os.fsdecode(os.fsencode(archive) + b"/a\xff.mp4"))).write_bytes(b"x")
    listing = list_archive(str(archive), {})
    assert names(listing) == ["UP.MOV", "run.mkv", "walk.mp4"]
    assert "not valid UTF-8" in reasons(listing)["a\ufffd.mp4"]


def test_links_out_of_the_tree_are_refused(archive: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "more").mkdir(parents=True)
    for name in ("secret.mp4", "more/far.mp4"):
        (outside / name).write_bytes(b"x")
    (archive / "out.mp4").symlink_to(outside / "secret.mp4")
    (archive / "folder").symlink_to(outside)
    (archive / "round").symlink_to(archive)
    (archive / "broken.mp4").symlink_to(archive / "none.mp4")
    (archive / "deeper" / "in.mp4").symlink_to("../walk.mp4")
    for location in (archive, archive / "**"):
        listing = list_archive(str(location), {})
        found = reasons(listing)
        assert {"out.mp4", "folder", "broken.mp4"} <= set(found)
        assert str(outside / "secret.mp4") in found["out.mp4"]
        assert "--allow-outside" in found["out.mp4"]
        assert "does not exist" in found["broken.mp4"]
        assert "secret.mp4" not in names(listing)
        assert {"walk.mp4", "in.mp4"} <= set(names(listing))
    (outside / "back").symlink_to(outside)  # a circle
    listing = list_archive(str(archive), {}, allow_outside=True)
    assert {"out.mp4", "secret.mp4", "far.mp4"} <= set(names(listing))
    assert set(reasons(listing)) == {"broken.mp4"}


def test_what_is_called_like_a_video_and_is_none(archive: Path) -> None:
    os.mkfifo(archive / "pipe.mp4")
    (archive / "empty_folder.mp4").mkdir()
    (archive / "bundle.mov").mkdir()
    (archive / "bundle.mov" / "clip.mp4").write_bytes(b"x")
    listing = list_archive(str(archive), {})
    assert names(listing) == ["clip.mp4", "UP.MOV", "run.mkv", "walk.mp4"]
    found = reasons(listing)
    assert set(found) == {"pipe.mp4", "empty_folder.mp4"}
    assert "pipe, socket or device" in found["pipe.mp4"]
    assert "is a folder" in found["empty_folder.mp4"]
    listing = list_archive(str(archive / "pipe.mp4"), {})
    assert (listing.items, len(listing.rejects)) == ([], 1)
    assert list_archive("/dev/zero", {}).items == []


def test_manifests_name_cameras_ranges_and_boxes(archive: Path) -> None:
    columns = {
        "uri": ["walk.mp4", "deeper/run.mkv", "walk.mp4", "walk.mp4"],
        "camera": ["left", None, None, None],
        "recording_id": ["007", "r", None, "late"],
        "boxes_uri": ["w.parquet", "", None, None],
        "start_s": [None, None, 0.5, 2.0],
        "end_s": [None, None, 1.25, None],
    }
    pacsv.write_csv(pa.table(columns), archive / "m.csv")
    pq.write_table(pa.table(columns), archive / "m.parquet")
    for manifest in ("m.csv", "m.parquet"):
        listing = list_archive(str(archive / manifest), CAMERAS)
        assert not listing.rejects
        run, walk, part, late = listing.items
        assert (walk["recording_id"], run["recording_id"]) == ("007", "r")
        assert walk["uri"] == part["uri"] == late["uri"] == str(archive / "walk.mp4")
        assert walk["boxes_uri"] == str(archive / "w.parquet")
        assert "boxes_uri" not in run
        assert walk["camera"]["intrinsics"] == CAMERAS["left"].intrinsics.tolist()
        assert run["camera"] is None
        assert part["camera"]["intrinsics"] == CAMERAS["walk"].intrinsics.tolist()
        assert (part["start_s"], part["end_s"]) == (0.5, 1.25)
        assert (late["start_s"], late["end_s"]) == (2.0, None)
        assert part["item"] == f"{archive}/walk.mp4 [0.5 to 1.25 s]"
        assert late["item"].endswith("[2 to the end s]")
    by_name = list_archive(str(archive / "walk.mp4"), CAMERAS).items[0]["camera"]
    assert by_name["intrinsics"] == CAMERAS["walk"].intrinsics.tolist()


def test_a_bad_row_is_a_reject_and_the_others_go_on(archive: Path) -> None:
    (archive / "m.csv").write_text(
        "uri,camera,recording_id,start_s,end_s\n"
        "walk.mp4,,a,,\n"
        ",,b,,\n"
        "walk.mp4,nobody,c,,\n"
        "walk.mp4,,../../d,,\n"
        "walk.mp4,,a,,\n"
        "walk.mp4,,e,early,\n"
        "walk.mp4,,f,3,2\n"
        "walk.mp4,,g,-1,2\n"
        "walk.mp4,,h,nan,2\n"
        "walk.mp4,,i\n"
        "../outside.mp4,,j,,\n"
        "/etc/passwd,,k,,\n"
        "s3://elsewhere/l.mp4,,l,,\n"
        "deeper/run.mkv,,m,,\n"
    )
    listing = list_archive(str(archive / "m.csv"), CAMERAS)
    assert [item["recording_id"] for item in listing.items] == ["m", "a"]
    texts = [row["reason"] for row in listing.rejects]
    expected = [
        "has 3 columns instead of 5",
        "row 2 of manifest .*uri: is missing",
        "row 3 .*Unknown camera 'nobody'.*Valid: left, walk",
        "row 4 .*cannot be the name of a file",
        "row 5 .*'a' is the name of row 1 already",
        "start_s: is 'early', must be a number",
        "end_s: is 2, must be after start_s, 3",
        "start_s: is -1, must be 0 or more",
        "start_s: is nan, must be 0 or more",
        "outside.mp4: leads out of the manifest's folder .*--allow-outside",
        "/etc/passwd: leads out",
        "s3://elsewhere/l.mp4: leads out",
    ]
    assert len(texts) == len(expected)
    for text, pattern in zip(texts, expected, strict=True):
        assert re.search(pattern, text), (text, pattern)


def test_camera_columns_that_are_wrong(archive: Path) -> None:
    rows = {"uri": ["walk.mp4", "deeper/run.mkv"], "width": [64, 64], "height": [48, 48]}
    for name, size in (("intrinsics", 9), ("rotation", 9), ("translation", 3), ("distortion", 5)):
        rows[name] = [[1.0] * (size - (name == "rotation")), [1.0] * size]
    pq.write_table(pa.table(rows), archive / "m.parquet")
    listing = list_archive(str(archive / "m.parquet"), {})
    assert names(listing) == ["run.mkv"]
    assert "row 1" in listing.rejects[0]["reason"]


def test_paths_out_of_the_manifests_folder(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_bytes(b"x")
    (archive / "link.mp4").symlink_to(tmp_path / "other.mp4")
    uris = ["deeper/../walk.mp4", str(archive / "walk.mp4"), "../other.mp4", "link.mp4"]
    pq.write_table(pa.table({"uri": uris}), archive / "m.parquet")
    listing = list_archive(str(archive / "m.parquet"), {})
    assert [item["uri"] for item in listing.items] == [str(archive / "walk.mp4")]
    assert len(listing.rejects) == 2
    free = list_archive(str(archive / "m.parquet"), {}, allow_outside=True)
    assert names(free) == ["link.mp4", "walk.mp4", "other.mp4"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"path\nwalk.mp4\n", "no column 'uri'. Its columns: path"),
        (b"", "cannot be read"),
        (b"uri\n\xff\xfe.mp4\n", "cannot be read"),
    ],
)
def test_a_manifest_that_is_none(archive: Path, content: bytes, reason: str) -> None:
    (archive / "m.csv").write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        list_archive(str(archive / "m.csv"), {})


def test_one_video_in_several_rows(archive: Path) -> None:
    (archive / "m.csv").write_text(
        "uri,recording_id,camera\n"
        "walk.mp4,,\n"
        "walk.mp4,,\n"  # the same again
        "walk.mp4,seen_left,left\n"
        "walk.mp4,,left\n"
        "deeper/run.mkv,a,\n"
        "deeper/run.mkv,b,\n"
    )
    listing = list_archive(str(archive / "m.csv"), {"left": CAMERAS["left"]})
    assert [item.get("recording_id") for item in listing.items] == ["a", "b", None, "seen_left"]
    assert len({item.get("item", item["uri"]) for item in listing.items}) == 4
    assert re.search("row 4 .*in another row.*recording_id", listing.rejects[0]["reason"])
    assert len(listing.rejects) == 1
