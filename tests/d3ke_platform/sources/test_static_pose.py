"""The static pose: which frame, and segments at their median lengths."""

from __future__ import annotations

import numpy as np
import pytest
from multicamera_files import standing_body

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke.kinematics import MarkerTrajectories
from d3ke_platform.sources.landmarks import LANDMARKS
from d3ke_platform.sources.static_pose import (
    choose_static_frame,
    static_points,
    straightest_frame,
    straightness,
)
from d3ke_platform.stages.detect_mediapipe import LANDMARK_NAMES


def points(body: FloatArray) -> dict[str, FloatArray]:
    return {name: body[:, LANDMARK_NAMES.index(name)].copy() for name in LANDMARKS}


def trial(body: FloatArray) -> MarkerTrajectories:
    return MarkerTrajectories(
        names=tuple(LANDMARKS),
        positions=np.stack(list(points(body).values()), axis=1),
        times=np.arange(len(body)) / 30.0,
        rate_hz=30.0,
    )


def test_the_frame_with_straight_legs_wins() -> None:
    body = standing_body(11)  # straight at both ends
    values = straightness(points(body))
    assert values[0] == pytest.approx(1.0, abs=2e-3)
    assert values.argmin() == 5
    assert straightest_frame("t", points(body[3:]))[0] == 7
    lying = body[:1, :, [1, 0, 2]]
    assert straightness(points(lying))[0] < 0.8  # straight, not upright


def test_frames_with_gaps_do_not_count() -> None:
    body = standing_body(11)
    gappy = points(body)
    gappy["left_ear"][0] = np.nan
    assert straightest_frame("t", gappy)[0] == 10
    gappy["left_ear"][:] = np.nan
    gappy["nose"][2:] = np.nan
    with pytest.raises(InvalidInputError, match=r"walk.*left_ear 100 %, nose 82 %"):
        straightest_frame("walk", gappy)


def test_segments_get_their_median_lengths() -> None:
    body = standing_body(21)
    seen = points(body)
    rng = np.random.default_rng(0)
    noisy = {name: place + rng.normal(0.0, 0.01, place.shape) for name, place in seen.items()}
    pose = {name: place[0] for name, place in noisy.items()}
    placed = static_points("s1", pose, [noisy, noisy], symmetric=True)
    assert list(placed) == list(LANDMARKS)

    def length(first: str, second: str) -> float:
        return float(np.linalg.norm(placed[first] - placed[second]))

    for first, second, true in (
        ("hip", "knee", 0.40),
        ("knee", "ankle", 0.38),
        ("shoulder", "elbow", 0.28),
    ):
        right = length(f"right_{first}", f"right_{second}")
        assert right == pytest.approx(length(f"left_{first}", f"left_{second}"), abs=1e-9)
        assert right == pytest.approx(true, abs=6e-3)
        raw = np.linalg.norm(pose[f"right_{second}"] - pose[f"right_{first}"])
        assert abs(right - true) < abs(raw - true) + 6e-3
    along = placed["right_knee"] - placed["right_hip"]
    was = pose["right_knee"] - pose["right_hip"]
    np.testing.assert_allclose(along / np.linalg.norm(along), was / np.linalg.norm(was))


def test_sides_may_differ() -> None:
    seen = points(standing_body(9))
    for name in ("left_ankle", "left_heel", "left_foot_index"):
        seen[name] += 0.1 * (seen["left_ankle"] - seen["left_knee"])
    pose = {name: place[0] for name, place in seen.items()}
    placed = static_points("s1", pose, [seen], symmetric=False)
    np.testing.assert_allclose(
        np.linalg.norm(placed["left_ankle"] - placed["left_knee"]), 0.418, atol=1e-6
    )
    np.testing.assert_allclose(
        np.linalg.norm(placed["right_ankle"] - placed["right_knee"]), 0.38, atol=1e-6
    )


def test_a_segment_that_is_never_seen_is_named() -> None:
    seen = points(standing_body(9))
    pose = {name: place[0] for name, place in seen.items()}
    seen["right_wrist"] = np.full_like(seen["right_wrist"], np.nan)
    with pytest.raises(InvalidInputError, match="s1: right_elbow and right_wrist.* 0 frames"):
        static_points("s1", pose, [seen], symmetric=True)


def test_the_choice_among_trials() -> None:
    straight, bent = trial(standing_body(11)), trial(standing_body(11)[4:7])
    trials = {"a": bent, "b": straight}
    assert choose_static_frame("s", trials, trial="", frame=None)[0] == "b"
    assert choose_static_frame("s", trials, trial="a", frame=None)[0] == "a"
    assert choose_static_frame("s", trials, trial="a", frame=1) == ("a", 1)
    with pytest.raises(InvalidInputError, match="frame 3 of a, which has 3 frames"):
        choose_static_frame("s", trials, trial="a", frame=3)
    with pytest.raises(InvalidInputError, match="trial c was rejected"):
        choose_static_frame("s", trials, trial="c", frame=None)
    with pytest.raises(InvalidInputError, match="all trials of this subject were rejected"):
        choose_static_frame("s", {}, trial="", frame=None)
