"""Crops of a video in one pass: the same wherever it is cut, and those of a plain loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from video_files import write_video

from d3ke.camera import Camera, crop_camera, warp
from d3ke_platform.calibration import camera_to_json
from d3ke_platform.stages import crop_video, detect_fallback
from d3ke_platform.stages.crop_video import (
    FRAME_MEMORY_BYTES,
    CropBatch,
    CropJob,
    CropRule,
    CropVideo,
    _CropRun,
    middle,
    track_rule,
)
from d3ke_platform.stages.decode import Frame, frames
from d3ke_platform.stages.detect import Detection, choose_detector
from d3ke_platform.stages.tracks import Tracker
from d3ke_platform.stages.video_index import VideoIndex, index_video

COUNT = 75
SIZE = (96, 72)
RULE = CropRule(stored_size=40, cut_size=32, margin=1.5, detect_every=3, gap_s=0.9, smoothing_s=0.1)


class Walker:
    """Sees one person walk, or two, but not in every frame."""

    name = "walker"
    smooth = True
    every_frame = False

    def __init__(self, people: int = 1) -> None:
        self._people = people
        self.seen: list[int] = []

    def people(self, frame: Frame) -> list[Detection]:
        self.seen.append(frame.index)
        if 24 <= frame.index < 30 or frame.index > 63:
            return []
        found = []
        for person in range(self._people):
            x = 10 + (0.5 if person == 0 else -0.4) * frame.index + 40 * person
            wobble = 2 * np.sin(frame.index)
            found.append(Detection(np.array([x, 8 + wobble, x + 20 - person, 60]), 0.8))
        return found


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("crop") / "a.mp4", COUNT, size=SIZE, b_frames=2)


def job(video: Path, first: int = 0, last: int = COUNT, **changes: object) -> CropJob:
    return replace(
        CropJob(
            path=video,
            index=index_video(video),
            camera=camera_to_json(Camera.assumed(SIZE)),
            first=first,
            last=last,
            begin=0,
            end=COUNT,
            segment_frames=16,
            batch_size=7,
            rule=RULE,
        ),
        **changes,
    )


def run(job: CropJob, finder: Walker) -> list[CropBatch]:
    return [batch for batch in _CropRun(job, finder).batches() if batch is not None]


def joined(batches: list[CropBatch]) -> dict[str, np.ndarray]:
    columns = {n: np.concatenate([b.columns[n] for b in batches]) for n in batches[0].columns}
    return {**columns, "images": np.concatenate([batch.images for batch in batches])}


def oracle(video: Path, finder: Walker) -> dict[str, np.ndarray]:
    """Everything in memory, one step after the other."""
    pictures = list(frames(video))
    rule = track_rule(job(video), finder)
    tracker = Tracker(rule, end=COUNT)
    for frame in pictures[:: rule.every]:
        tracker.add(frame.index, finder.people(frame))
    camera = Camera.assumed(SIZE)
    result: dict[str, list] = {"frame": [], "time_s": [], "box": [], "images": []}
    for frame, people in zip(pictures, tracker.boxes(0, COUNT), strict=True):
        for person in people:
            view = crop_camera(camera, person.box, size=40, margin=1.5)
            result["frame"].append(frame.index)
            result["time_s"].append(frame.time_s)
            result["box"].append(person.box)
            result["images"].append(warp(frame.image, camera, view)[4:36, 4:36])
    return {name: np.array(values) for name, values in result.items()}


@pytest.mark.parametrize("people", [1, 2])
def test_parts_are_the_whole_and_the_whole_is_the_plain_loop(video: Path, people: int) -> None:
    rule = replace(RULE, people="all" if people == 2 else "largest")
    whole = joined(run(job(video, rule=rule), Walker(people)))
    if people == 1:
        expected = oracle(video, Walker())
        for name, values in expected.items():
            # Rounded pixels: the middle of a crop, and a crop of the middle.
            tolerance = 1 if name == "images" else 1e-9
            np.testing.assert_allclose(whole[name].astype(float), values, atol=tolerance)
        assert len(whole["frame"]) < COUNT  # nobody is there at the end
    for cut in (16, 48):
        finder = Walker(people)
        parts = [
            run(job(video, first, min(first + cut, COUNT), rule=rule), finder)
            for first in range(0, COUNT, cut)
        ]
        cut_up = joined([batch for part in parts for batch in part])
        for name in ("frame", "time_s", "box", "confidence", "images", "crop_intrinsics"):
            np.testing.assert_array_equal(whole[name], cut_up[name])
        ends = [end.number for part in parts for batch in part for end in batch.ended]
        assert ends == [0, 1, 2, 3, 4]


def test_part_of_an_index_is_enough_and_a_range_counts_from_its_start(video: Path) -> None:
    full = job(video, 32, 48)
    around = RULE.most_around(full.index.fps)
    small = replace(full, index=full.index.part(32 - around, 16 + 2 * around))
    for one, other in zip(run(full, Walker()), run(small, Walker()), strict=True):
        np.testing.assert_array_equal(one.images, other.images)
    ranged = run(job(video, 10, 50, begin=10, end=50), finder := Walker())
    assert finder.seen[0] == 10
    assert finder.seen[-1] == 49
    assert [end.frames for batch in ranged for end in batch.ended] == [16, 16, 8]


def test_segments_end_with_their_last_crop_also_where_nobody_is(video: Path) -> None:
    nobody = Walker(people=0)
    (batch,) = run(job(video), nobody)
    assert batch.images.shape == (0, 32, 32, 3)
    assert [end.frames for end in batch.ended] == [16, 16, 16, 16, 11]
    batches = run(job(video), Walker())
    assert all(len(batch.images) == 7 for batch in batches[:-1])
    done: list[int] = []
    for batch in batches:
        assert not set(batch.columns["frame"] // 16) & set(done)
        done += [end.number for end in batch.ended]


def test_people_who_go_on_are_known_on_both_sides_of_a_cut(video: Path) -> None:
    rule = replace(RULE, people="all")
    ends = [
        end
        for first in range(0, 64, 16)
        for batch in run(job(video, first, first + 16, rule=rule), Walker(2))
        for end in batch.ended
    ]
    before, after = ends[:2]
    assert len(before.leaving) == 2
    assert set(before.leaving.values()) == set(after.entering.values())


def test_frames_that_wait_fit_their_memory() -> None:
    finder = Walker()
    small = RULE.track_rule(finder, 60.0, 640 * 480 * 3)
    assert small.gap == 54
    large = RULE.track_rule(finder, 60.0, 7680 * 4320 * 3)
    assert large.gap == 0
    full_hd = replace(RULE, gap_s=5.0).track_rule(finder, 30.0, 1920 * 1080 * 3)
    assert 0 < (full_hd.reach + 8) * 1920 * 1080 * 3 <= FRAME_MEMORY_BYTES
    assert full_hd.gap < 150


def test_the_middle_of_a_crop_is_cut_out_within_a_grey_level() -> None:
    image = np.random.default_rng(0).integers(0, 255, (72, 96, 3), np.uint8)
    camera = Camera.assumed(SIZE)
    view = crop_camera(camera, np.array([5.0, 3, 60, 70]), size=40, margin=1.5)
    whole = warp(image, camera, view)[4:36, 4:36].astype(int)
    difference = np.abs(warp(image, camera, middle(view, 32)) - whole)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize("gop", ["4", "250"])
def test_a_survey_looks_once_behind_each_key_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gop: str
) -> None:
    path = write_video(tmp_path / "long.mp4", 120, options={"g": gop, "sc_threshold": "0"})
    index = index_video(path)
    asked: list[tuple[int, int]] = []
    surveyed: list[int] = []

    def watched(path: Path, *, first: int, count: int, index: VideoIndex) -> Iterator[Frame]:
        asked.append((first, count))
        return frames(path, first=first, count=count, index=index)

    def looked(found: Iterable[Frame]) -> None:
        surveyed.extend(frame.index for frame in found)

    monkeypatch.setattr(crop_video, "frames", watched)
    monkeypatch.setattr(detect_fallback, "survey", looked)
    CropVideo(choose_detector("fallback")).survey(path, index)
    assert surveyed == sorted({round(place) for place in np.linspace(0, 119, 24)})
    starts = np.array([point.frame for point in index.seek_points])
    assert len(asked) == len(np.unique(np.searchsorted(starts, surveyed, side="right")))
    assert (len(asked) == 1) == (gop == "250")
