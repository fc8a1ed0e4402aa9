"""Scoring an archive: what is in it, one row per frame, reasons for rejects, nothing done twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_bundle import write_random_bundle
from video_files import cut_off, write_video

from d3ke.errors import D3KEError, InvalidInputError
from d3ke_platform import storage
from d3ke_platform.errors import UsageError
from d3ke_platform.pipelines.score import ScoreSettings, reject_kind, score
from d3ke_platform.schema import BOXES, ESTIMATES, RESULTS
from d3ke_platform.stages.finish_recording import FinishRecording
from d3ke_platform.stages.score_video import ScoreVideo

BOX = np.array([8.0, 4, 40, 44])


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    (folder / "deeper").mkdir(parents=True)
    write_video(folder / "walk.mp4", 6)
    write_video(folder / "deeper" / "run.mkv", 4)
    (folder / "notes.txt").write_text("not a video")
    return folder


def test_settings_are_checked() -> None:
    good: dict[str, Any] = {"archive": "a", "model": "m", "output": "o"}
    assert ScoreSettings(**good, export=("none",)).exports == ()
    bad: list[tuple[dict[str, Any], str]] = [
        ({"detector": "hog"}, "mediapipe"),
        ({"export": ("gif",)}, "overlay"),
        ({"field_of_view_deg": 200.0}, "179"),
        ({"batch_size": 0}, "1 or more"),
        ({"model": ""}, "--model"),
        ({"frame_rate": -1.0}, "negative"),
    ]
    for change, reason in bad:
        with pytest.raises(D3KEError, match=reason):
            ScoreSettings(**{**good, **change})


def test_reasons_are_counted_by_kind() -> None:
    assert reject_kind("a.mp4: no person found in its 3 frames.") == "no person"
    assert reject_kind("a.mp4: breaks off after 3 frames read (x).") == "truncated"
    assert reject_kind("ZeroDivisionError: ") == "other"


def test_one_row_per_frame_then_nothing_is_done_twice(
    archive: Path, random_bundle: Path, tmp_path: Path
) -> None:
    output = str(tmp_path / "scores")
    boxes = {"frame": [0, 2, 3, 4, 5], "box": [BOX] * 5, "confidence": [1.0] * 5}
    storage.write_table(archive / "walk.parquet", BOXES.to_arrow(boxes))
    item = {
        "uri": str(archive / "walk.mp4"),
        "camera": None,
        "boxes_uri": str(archive / "walk.parquet"),
    }
    stage = ScoreVideo(
        str(random_bundle), output=output, detector=("none", "", ""), device="cpu", batch_size=4
    )
    (row,) = stage(item)
    assert (row["frames"], row["detected"], row["skipped"]) == (6, 5, False)
    name = row["recording_id"]
    assert name.startswith("walk-")
    estimates = ESTIMATES.to_numpy(storage.read_table(f"{output}/estimates/{name}.parquet"))
    np.testing.assert_array_equal(estimates["frame"], range(6))
    np.testing.assert_allclose(estimates["time_s"], np.arange(6) / 10, atol=1e-3)
    np.testing.assert_allclose(estimates["confidence"], [1, 0, 1, 1, 1, 1])
    finish = FinishRecording(str(random_bundle), output=output, exports=("mot", "overlay"))
    (done,) = finish({"recording_id": name})
    assert sorted(done["exports"]) == ["motion.mot", "overlay.mp4"]
    results = RESULTS.to_numpy(storage.read_table(f"{output}/results/{name}.parquet"))
    assert len(results["frame"]) == 6
    assert np.isfinite(results["markers"]).all()
    assert stage(item)[0]["skipped"]
    assert finish({"recording_id": name})[0]["skipped"]
    # Another export later writes what is missing; a changed video starts anew.
    more = FinishRecording(str(random_bundle), output=output, exports=("mot", "overlay", "trc"))
    assert "markers.trc" in more({"recording_id": name})[0]["exports"]
    named = {**item, "recording_id": name}
    write_video(archive / "walk.mp4", 5)
    assert stage(named)[0]["frames"] == 5
    assert not Path(output, "results", f"{name}.parquet").exists()


def test_exports_need_a_local_folder(random_bundle: Path) -> None:
    with pytest.raises(InvalidInputError, match="--export none"):
        FinishRecording(str(random_bundle), output="s3://bucket/scores", exports=("mot",))


@pytest.mark.slow
@pytest.mark.ray
def test_archive_with_every_kind_of_trouble(
    archive: Path, random_bundle: Path, tmp_path: Path, ray_session: object
) -> None:
    cut_off(
        write_video(tmp_path / "whole.mp4", 60, codec="mpeg4", size=(320, 240), index_first=True),
        archive / "cut.mp4",
        0.6,
    )
    (archive / "empty.mp4").write_bytes(b"")
    write_video(archive / "room.mp4", 8)
    settings = {"archive": str(archive), "model": str(random_bundle), "export": ("mot",)}
    settings |= {"output": str(tmp_path / "scores"), "detector": "fallback", "device": "cpu"}
    summary = score(ScoreSettings(**settings))
    # Nobody is in these pictures: every readable one is rejected for that.
    assert summary.reject_reasons == {"damaged": 1, "empty file": 1, "no person": 3}
    assert (summary.videos, summary.scored, summary.rejects) == (5, 0, 5)
    rejects = storage.read_rejects(settings["output"])
    assert {Path(row["item"]).name for row in rejects} >= {"cut.mp4", "empty.mp4", "room.mp4"}
    # The whole picture as the person; the broken ones stay rejected.
    with pytest.raises(UsageError, match="detector is 'fallback' there, 'none' now"):
        score(ScoreSettings(**{**settings, "detector": "none"}))
    whole = ScoreSettings(**{**settings, "detector": "none", "overwrite": True})
    summary = score(whole)
    assert (summary.scored, summary.skipped, summary.rejects) == (3, 0, 2)
    assert summary.frames == 6 + 4 + 8
    assert summary.uncalibrated == 3
    for step in ("decode", "detect", "crop", "network", "refine", "export"):
        assert step in summary.stage_seconds
    assert storage.read_json(f"{settings['output']}/summary.json")["frames"] == 18
    again = score(whole)
    assert (again.scored, again.skipped, again.frames_per_second) == (3, 3, 0.0)
    other = write_random_bundle(tmp_path / "other", sequence=False, seed=1)
    with pytest.raises(UsageError, match="model is"):
        score(ScoreSettings(**{**settings, "detector": "none", "model": str(other)}))
    shutil.rmtree(other)
