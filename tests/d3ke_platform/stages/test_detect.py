"""Detectors, their choice, and the track made of detections."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from video_files import frame_image

from d3ke.errors import D3KEError, InvalidInputError
from d3ke_platform.stages.body_box import body_box, pixels_per_metre
from d3ke_platform.stages.decode import Frame
from d3ke_platform.stages.detect import (
    Detection,
    KnownBoxes,
    WholeImage,
    build_detector,
    build_finder,
    choose_detector,
    complete_track,
)
from d3ke_platform.stages.detect_fallback import FallbackDetector, survey
from d3ke_platform.stages.detect_fasterrcnn import best_person, persons


def test_auto_takes_mediapipe_where_a_pose_model_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D3KE_POSE_MODEL", raising=False)
    fallback = choose_detector("auto")
    assert fallback.name == "fallback"
    assert "--pose-model" in fallback.warning
    task = tmp_path / "pose.task"
    task.write_bytes(b"x")
    assert choose_detector("auto", pose_model=str(task))[:2] == ("mediapipe", str(task))
    monkeypatch.setenv("D3KE_POSE_MODEL", str(task))
    assert choose_detector("auto").name == "mediapipe"
    assert choose_detector("mediapipe").warning == ""


def test_choices_that_cannot_be_made_name_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("D3KE_POSE_MODEL", raising=False)
    with pytest.raises(D3KEError, match="--pose-model"):
        choose_detector("mediapipe")
    with pytest.raises(D3KEError, match="--pose-model"):
        choose_detector("auto", pose_model="/nowhere/pose.task")
    with pytest.raises(D3KEError, match="--detector-weights"):
        choose_detector("fasterrcnn", weights="/nowhere/weights.pth")
    with pytest.raises(D3KEError, match="mediapipe"):
        choose_detector("mediapip")


def test_broken_pose_model_is_named(tmp_path: Path) -> None:
    task = tmp_path / "pose.task"
    task.write_bytes(b"not a model")
    detector = build_detector(choose_detector("mediapipe", pose_model=str(task)))
    with pytest.raises(InvalidInputError, match=r"--pose-model .*pose\.task"):
        detector.boxes([Frame(index=0, time_s=0.0, image=frame_image(0))])


def test_broken_detector_weights_are_named(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"not a state dict")
    choice = choose_detector("fasterrcnn", weights=str(weights))
    with pytest.raises(InvalidInputError, match=r"--detector-weights .*no state dict"):
        build_detector(choice, device="cpu")


def test_known_boxes_and_whole_image() -> None:
    images = [Frame(index=i, time_s=i / 10, image=frame_image(i)) for i in (0, 2, 3)]
    box = np.array([[1.0, 2, 30, 40]])
    found = KnownBoxes([2], box, np.array([0.5])).boxes(images)
    assert found[0] is None
    assert found[2] is None
    assert found[1] is not None
    np.testing.assert_allclose(found[1].box, box[0])
    whole = WholeImage().boxes(images)[0]
    assert whole is not None
    np.testing.assert_allclose(whole.box, [0, 0, 63, 47])


def test_missed_frames_lie_between_their_neighbours() -> None:
    first, last = np.array([0.0, 0, 10, 20]), np.array([30.0, 0, 40, 20])
    found = [None, Detection(first, 0.9), None, None, Detection(last, 0.8), None]
    times = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
    track = complete_track("v", found, times)
    np.testing.assert_allclose(track.boxes[:, 0], [0, 0, 10, 20, 30, 30])
    np.testing.assert_allclose(track.confidence, [0, 0.9, 0, 0, 0.8, 0])
    assert track.detected == 2


def test_no_detection_at_all_is_an_error() -> None:
    with pytest.raises(InvalidInputError, match="no person found in its 3 frames"):
        complete_track("v", [None] * 3, np.arange(3.0))


def test_smoothing_keeps_steady_motion_and_removes_jitter() -> None:
    times = np.arange(40) / 30
    ramp = np.stack([100 * times, times, 100 * times + 50, times + 80], axis=1)
    steady = complete_track("v", [Detection(b, 1.0) for b in ramp], times, smoothing_s=0.1)
    np.testing.assert_allclose(steady.boxes, ramp, atol=1e-9)
    noise = np.random.default_rng(0).normal(0, 2, ramp.shape)
    jittery = [Detection(box, 1.0) for box in ramp + noise]
    smooth = complete_track("v", jittery, times, smoothing_s=0.1)
    assert np.abs(smooth.boxes - ramp)[4:-4].mean() < 0.5 * np.abs(noise)[4:-4].mean()


def test_body_box_reaches_beyond_the_landmarks() -> None:
    metres = _standing()
    pixels = 200 * metres[:, :2] + [300, 400]
    assert pixels_per_metre(pixels, metres) == pytest.approx(200)
    x0, y0, x1, y1 = (body_box(pixels, metres) - [300, 400, 300, 400]) / 200
    # Ears 0.62 m above the hips, soles 0.92 m below, wrists 0.35 m to the sides.
    assert y0 == pytest.approx(-0.62 - 0.135, abs=0.02)
    assert y1 == pytest.approx(0.92 + 0.03, abs=0.02)
    assert x1 == pytest.approx(0.40, abs=0.03)
    assert x0 == pytest.approx(-x1)


def _standing() -> np.ndarray:
    """33 landmarks of a standing person facing the camera, m, y down, z away."""
    heights = {0: -0.60, 2: -0.63, 7: -0.62, 9: -0.55, 11: -0.48, 13: -0.2, 15: 0.05}
    heights |= {17: 0.13, 19: 0.13, 21: 0.1, 23: 0.0, 25: 0.45, 27: 0.86, 29: 0.92, 31: 0.92}
    widths = {2: 0.03, 7: 0.07, 9: 0.03, 11: 0.18, 13: 0.28, 15: 0.35, 17: 0.37, 19: 0.37}
    widths |= {21: 0.33, 23: 0.1, 25: 0.1, 27: 0.1, 29: 0.1, 31: 0.12}
    points = np.zeros((33, 3))
    pairs = {2: 5, 7: 8, 9: 10} | {left: left + 1 for left in range(11, 33, 2)}
    points[0, 1] = heights[0]
    for left, right in pairs.items():
        points[left] = (widths[left], heights[left], 0)
        points[right] = (-widths[left], heights[left], 0)
    return points


def test_best_person_is_the_surest_of_the_right_class() -> None:
    result = {
        "boxes": torch.tensor([[0.0, 0, 9, 9], [10, 10, 60, 90], [1, 1, 5, 5]]),
        "labels": torch.tensor([18, 1, 1]),
        "scores": torch.tensor([0.99, 0.95, 0.9]),
    }
    best = best_person(result)
    assert best is not None
    np.testing.assert_allclose(best.box, [9.5, 9.5, 59.5, 89.5])
    assert best_person({**result, "scores": torch.full((3,), 0.3)}) is None
    assert [item.confidence for item in persons(result)] == pytest.approx([0.95, 0.9])


def test_fallback_follows_what_moves() -> None:
    rng = np.random.default_rng(0)
    background = cv2.GaussianBlur(rng.integers(0, 255, (240, 320, 3), np.uint8), (0, 0), 3)
    images, truth = [], []
    for index in range(20):
        image = background.copy()
        x = 20 + 12 * index
        cv2.rectangle(image, (x, 60), (x + 40, 190), (250, 240, 20), -1)
        images.append(Frame(index=index, time_s=index / 10, image=image))
        truth.append((x, 60, x + 40, 190))
    found = FallbackDetector().boxes(images)
    boxes = np.array([item.box for item in found if item is not None])
    assert len(boxes) == 20
    assert np.abs(boxes - truth).mean() < 8


def test_fallback_finds_in_any_frame_alone_what_a_survey_has_settled() -> None:
    rng = np.random.default_rng(0)
    background = cv2.GaussianBlur(rng.integers(0, 255, (240, 320, 3), np.uint8), (0, 0), 3)
    frames = []
    for index in range(24):
        image = background.copy()
        x = 10 + 11 * index
        cv2.rectangle(image, (x, 60), (x + 40, 190), (250, 240, 20), -1)
        frames.append(Frame(index=index, time_s=index / 10, image=image))
    known = survey(frames[::2])
    assert known is not None
    assert known.background is not None  # nothing in it looks like a pedestrian
    finder = build_finder(choose_detector("fallback"), survey=known)
    for index in (3, 17):
        (found,) = finder.people(frames[index])
        x = 10 + 11 * index
        np.testing.assert_allclose(found.box, [x, 60, x + 40, 190], atol=12)
    empty = Frame(index=0, time_s=0.0, image=background)
    assert finder.people(empty) == []
    assert survey([]) is None
    assert build_finder(choose_detector("fallback")).people(empty) == []


def test_known_boxes_between_their_frames_and_whole_pictures() -> None:
    picture = Frame(index=0, time_s=0.0, image=np.zeros((20, 30, 3), np.uint8))
    known = KnownBoxes([2, 4], np.array([[0.0, 0, 4, 4], [2, 2, 6, 6]]), np.array([0.9, 0.8]))
    found = [known.people(replace(picture, index=index))[0] for index in (0, 2, 3, 9)]
    assert [item.confidence for item in found] == [0.0, 0.9, 0.0, 0.0]
    np.testing.assert_allclose([item.box[0] for item in found], [0, 0, 1, 2])
    nothing = KnownBoxes([], np.zeros((0, 4)), np.zeros(0))
    assert nothing.people(picture) == []
    (whole,) = build_finder(choose_detector("none")).people(picture)
    np.testing.assert_array_equal(whole.box, [0, 0, 29, 19])


@pytest.mark.parametrize("size", [(240, 320), (48, 64), (130, 30), (2, 400), (1200, 70)])
def test_fallback_finds_nothing_in_an_empty_room(size: tuple[int, int]) -> None:
    wall = np.full((*size, 3), 90, np.uint8)
    still = [Frame(index=index, time_s=index / 10, image=wall) for index in range(5)]
    assert FallbackDetector().boxes(still) == [None] * 5
    light = [Frame(index=i, time_s=i / 10, image=wall + np.uint8(i * 15)) for i in range(9)]
    assert FallbackDetector().boxes(light) == [None] * 9


@pytest.mark.slow
def test_mediapipe_on_a_real_person(demo_videos: Path) -> None:
    from d3ke_platform.stages.decode import frames

    task = os.environ.get("D3KE_POSE_MODEL", "")
    if not task:
        pytest.skip("D3KE_POSE_MODEL names no pose model")
    detector = build_detector(choose_detector("mediapipe", pose_model=task))
    first = next(iter(detector.boxes([next(frames(demo_videos / "cam01.mp4"))])))
    assert first is not None
    # Measured by eye on the picture: both hands, top of the cap, toes.
    np.testing.assert_allclose(first.box, [241, 328, 565, 1165], atol=30)
    # Each frame alone, for parts of a video: twice the same person side by side are two.
    finder = build_finder(choose_detector("mediapipe", pose_model=task))
    frame = next(frames(demo_videos / "cam01.mp4"))
    (alone,) = finder.people(frame)
    np.testing.assert_allclose(alone.box, first.box, atol=30)
    width = frame.image.shape[1]
    twice = replace(frame, image=np.concatenate([frame.image, frame.image], axis=1))
    left, right = sorted(finder.people(twice), key=lambda item: item.box[0])
    np.testing.assert_allclose(left.box, first.box, atol=40)
    np.testing.assert_allclose(right.box - [width, 0, width, 0], first.box, atol=40)
