"""The page, its figures as files, and what it does with broken parts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import quality_data as known

from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.evaluation.label_quality import label_quality
from d3ke_platform.pipelines.label_summary import summarise_labels
from d3ke_platform.quality.label_figures import LabelFigures, read_label_figures
from d3ke_platform.quality.report import write_quality
from d3ke_platform.quality.tables import QUALITY_TRIALS
from d3ke_platform.quality.trial_pictures import worst_trial_pictures
from d3ke_platform.schema import RECORDINGS, TRIALS


def written(data: DataSet, worst: int = 2) -> tuple[str, dict[str, Any]]:
    """Text of the page and the figures beside it, which must be strict JSON."""
    page = write_quality(data, read_label_figures(data), worst=worst)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = storage.read_bytes(data.uri("quality.json")).decode()
    return Path(page).read_text(), json.loads(text, parse_constant=refuse)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataSet:
    return known.make_data(tmp_path_factory.mktemp("quality") / "data")


@pytest.fixture(scope="module")
def figures(data) -> LabelFigures:
    return read_label_figures(data)


@pytest.fixture(scope="module")
def page_and_figures(data) -> tuple[str, dict[str, Any]]:
    return written(data)


@pytest.fixture(scope="module")
def page(page_and_figures) -> str:
    return page_and_figures[0]


@pytest.fixture(scope="module")
def content(page_and_figures) -> dict[str, Any]:
    return page_and_figures[1]


def test_the_page_names_everything(data, page: str) -> None:
    skeleton = data.skeleton()
    cells = set(re.findall(r"<td[^>]*>([^<]*)</td>", page))
    for name in (*known.SUBJECTS_MADE, *known.MOVEMENTS, *skeleton.markers):
        assert name in cells, name
    for name in skeleton.coordinates:
        assert name in cells or f"{name} [m]" in cells, name
    assert {"labels.marker_threshold_m", "seed", "cat_1, cat_2"} <= cells


def test_the_page_needs_nothing_else(page: str) -> None:
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in re.sub(r"data:image/[^\"]*", "", page)
    # Distribution, subjects, movements, markers, two ranges, masks, factors and two trials.
    assert page.count('<img src="data:image/') == 10


def test_figures_beside_the_page(data, content) -> None:
    labels = known.columns_of(data)
    weighted = np.asarray(data.marker_set().ik_weights) > 0.0
    errors = 1e3 * labels["marker_error_m"][:, weighted]
    rms = np.sqrt(np.nanmean(errors**2))
    assert content["overall"]["rms_mm"] == pytest.approx(rms)
    assert content["threshold_mm"] == pytest.approx(1e3 * known.THRESHOLD_M)
    by_subject = [row["rms_mm"] for row in content["subjects"]]
    assert content["overall"]["mean_over_subjects_rms_mm"] == pytest.approx(np.mean(by_subject))
    assert content["overall"]["worst_subject_rms_mm"] == max(by_subject)
    assert [row["split"] for row in content["subjects"]] == ["train", "train"]
    counts = content["counts"]
    assert (counts["trials_labelled"], counts["trials_planned"]) == (4, 4)
    assert counts["label_seconds"] == pytest.approx(4 * known.FRAMES / known.RATE_HZ)
    assert counts["splits"] == {"train": {"subjects": 2, "trials": 4, "frames": 48}}
    assert content["storage"]["folders"]["labels"]["files"] == 4
    assert content["counts"]["label_frames"] == 48


def test_every_trial_has_a_row(data, content) -> None:
    rows = QUALITY_TRIALS.to_rows(storage.read_table(data.uri("quality_trials.parquet")))
    assert [row["trial_id"] for row in rows] == [row["trial_id"] for row in data.trials()]
    by_rms = sorted(rows, key=lambda row: -row["rms_mm"])
    assert by_rms == content["worst_trials"]
    assert by_rms[0]["trial_id"] == known.WORST
    assert by_rms[0]["worst_row"] == known.WORST_ROW


def test_findings_name_what_was_made_wrong(content) -> None:
    text = "\n".join(content["findings"])
    assert f"Markers whose RMS is above 25 mm: {known.WORST_MARKER}" in text
    assert re.search(r"above 10 mm: (ann|bob)", text)
    # The toes' range ends at their default, which noise passes half of the time.
    beyond = r"beyond the model's range, share of frames: mtp_angle.*, (\w+) \(\d.\d %\)\."
    assert re.findall(beyond, text) == [known.OUT_USABLE]
    assert "3 items were rejected" in text


def test_the_small_summaries_agree_with_the_page(data, content) -> None:
    summary, quality = summarise_labels(data), label_quality(data)
    overall = content["overall"]
    assert quality is not None
    assert quality.summary == summary
    assert summary.marker_rms_mm == round(overall["rms_mm"], 2)
    assert summary.usable_coordinates == pytest.approx(
        1 - overall["masked_coordinates_percent"] / 100
    )
    # 20 mm there, the data set's 25 mm here.
    errors = known.columns_of(data)["marker_error_m"]
    weighted = np.asarray(data.marker_set().ik_weights) > 0.0
    known_errors = errors[:, weighted][np.isfinite(errors[:, weighted])]
    assert summary.share_above_20_mm == pytest.approx(np.mean(known_errors > 0.02))
    assert 100 * summary.share_above_20_mm > overall["over_percent"]
    rows = {row["marker"]: row["rms_mm"] for row in content["markers"] if row["weight"]}
    assert quality.rms_mm_by_marker == rows


def test_rejects_are_counted_by_reason(content) -> None:
    assert [(row["stage"], row["count"]) for row in content["rejects"]] == [
        ("label", 2),
        ("scale", 1),
    ]


def test_the_worst_trial_is_shown_with_its_video(data, page: str) -> None:
    shown = page[page.index("The worst 2 trials") :]
    assert shown.index(known.WORST) < shown.index("No video")
    assert f"furthest {known.WORST_MARKER} 500" in shown
    assert "Worst frame 7 of 12" in shown
    assert data.root not in page
    # The other one has a recording whose video is not there.
    assert "no such file" in shown[: shown.index("Counts, storage, settings")]


def test_twice_the_same(data, page_and_figures) -> None:
    assert written(data) == page_and_figures


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({}, "no such file"),
        ({"calibrated": False}, "no calibrated camera"),
        ({"width": 161}, "has pictures of"),
        ({"translation": np.array([0.0, 0.0, -9.0])}, "does not show the markers"),
    ],
)
def test_a_useless_video_costs_only_its_picture(
    data, figures, tmp_path: Path, damage: dict[str, Any], reason: str
) -> None:
    copy = copy_with_video(data, tmp_path / "data", video=bool(damage), **damage)
    (shown,) = worst_trial_pictures(copy, figures, count=1)
    assert "No video: camera cam" in shown.caption
    assert reason in shown.caption


def test_broken_files_of_the_data_set_are_told(data, tmp_path: Path) -> None:
    copy = copy_with_video(data, tmp_path / "data")
    storage.write_bytes(copy.label_uri("ann_jump"), b"no Parquet")
    storage.write_bytes(copy.crop_uri("ann_jump_cam"), b"no Parquet")
    storage.write_bytes(copy.subject_label_uri("bob"), b"no Parquet")
    page, content = written(copy, worst=0)
    assert content["findings"][1] == (
        "Files that cannot be read: ann_jump, ann_jump_cam. Delete them and prepare again."
    )
    assert '<td class="left">crops/ann_jump_cam.parquet: cannot be read' in page
    assert content["counts"]["trials_labelled"] == 3
    assert content["counts"]["recordings_with_crops"] == 0
    assert (content["counts"]["subjects_planned"], content["counts"]["subjects_scaled"]) == (2, 1)


def test_a_broken_video_still_gives_a_page(data, tmp_path: Path) -> None:
    copy = copy_with_video(data, tmp_path / "data")
    video = Path(copy.uri("videos", f"{known.WORST}.mp4"))
    video.write_bytes(video.read_bytes()[:500])
    page, _ = written(copy, worst=1)
    assert "No video: camera cam" in page
    assert "truncated or not a video" in page
    assert page.count('<img src="data:image/') == 9


def test_a_video_that_ends_early_shows_its_nearest_frame(data, figures, tmp_path: Path) -> None:
    copy = copy_with_video(data, tmp_path / "data", frame_count=3)
    (shown,) = worst_trial_pictures(copy, figures, count=1)
    assert "The video shows frame 2, the nearest that it has." in shown.caption


def copy_with_video(data: DataSet, folder: Path, *, video: bool = True, **changes: Any) -> DataSet:
    """The data set with other columns in its RECORDINGS, with or without the video."""
    shutil.copytree(data.root, folder)
    copy = DataSet.open(folder)
    if not video:
        storage.remove(copy.uri("videos"))
    copy.write_rows(RECORDINGS, [row | changes for row in data.recordings()])
    return copy


def test_without_labels_there_is_a_page_that_says_so(tmp_path: Path) -> None:
    empty = known.make_data(tmp_path / "data", trials=False)
    page, content = written(empty)
    assert "There are no labels in this data set" in page
    assert "Nothing stands out" not in page
    assert content["overall"]["rms_mm"] is None
    planned = [known.trial_row("ann", "walk")]
    empty.write_rows(TRIALS, planned)
    _, content = written(empty)
    assert content["findings"][0].startswith("1 of 1 trials have no labels")
