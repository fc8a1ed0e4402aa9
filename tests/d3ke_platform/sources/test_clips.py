"""Clips: a user's motion capture in both formats, performed by any body, and bad files named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from d3ke.errors import InvalidInputError
from d3ke.kinematics.mot import write_mot
from d3ke_platform.files import read_json
from d3ke_platform.sources.clip_formats import read_deepmimic, read_opensim
from d3ke_platform.sources.clips import find_clips, flight, perform_clip
from d3ke_platform.sources.motions import MotionStyle, make_motion
from d3ke_platform.sources.synthetic import SyntheticSource
from d3ke_platform.sources.synthetic_settings import SyntheticSettings

WALK = Path(__file__).parents[4] / "shared/opensim-models/gait2354/reference_subject01_walk1_ik.mot"
RATE_HZ = 30.0
HEIGHT_M = 0.85


def deepmimic_file(path: Path, movement: str = "march", seconds: float = 2.0) -> dict:
    """One of our own movements in DeepMimic's format; returns its rotations."""
    motion = make_motion(
        movement,
        rate_hz=RATE_HZ,
        seconds=seconds,
        style=MotionStyle(),
        rng=np.random.default_rng(4),
    )
    turned = motion.segment_rotations
    steps = len(motion.times)

    def quaternion(name: str) -> np.ndarray:
        return np.roll(Rotation.from_matrix(turned[name]).as_quat(), 1, axis=1)

    def hinge(name: str) -> np.ndarray:
        return Rotation.from_matrix(turned[name]).as_euler("ZYX")[:, :1]

    root = np.column_stack([np.zeros(steps), np.full(steps, HEIGHT_M), np.zeros(steps)])
    parts = [np.full((steps, 1), 1 / RATE_HZ), root, quaternion("root")]
    parts += [quaternion("chest"), quaternion("neck")]
    for side in "rl":
        parts += [quaternion(f"hip_{side}"), hinge(f"knee_{side}"), quaternion(f"ankle_{side}")]
        parts += [quaternion(f"shoulder_{side}"), hinge(f"elbow_{side}")]
    frames = np.concatenate(parts, axis=1)
    path.write_text(json.dumps({"Loop": "wrap", "Frames": frames.tolist()}), encoding="utf-8")
    return turned


def performed(path: Path, seed: int = 0, **changes):
    ((clip,), _) = find_clips([str(path)])
    values = {"rate_hz": 60.0, "seconds": 5.0, "style": MotionStyle(), "fine": True, **changes}
    return perform_clip(clip, rng=np.random.default_rng(seed), **values)


def test_deepmimic_s_numbers_become_our_rotations(tmp_path: Path) -> None:
    turned = deepmimic_file(tmp_path / "march.txt")
    times, rotations, heights = read_deepmimic(tmp_path / "march.txt")
    np.testing.assert_allclose(np.diff(times), 1 / RATE_HZ)
    np.testing.assert_allclose(heights, HEIGHT_M)
    for name in ("root", "chest", "neck", "hip_r", "knee_l", "ankle_r", "shoulder_l"):
        np.testing.assert_allclose(rotations[name], turned[name], atol=1e-9, err_msg=name)


@pytest.mark.skipif(not WALK.exists(), reason="OpenSim's gait2354 is not beside the project")
def test_a_recorded_walk_walks() -> None:
    times, rotations, heights = read_opensim(WALK)
    down = np.array([0.0, -1.0, 0.0])
    thigh = {side: (rotations[f"hip_{side}"] @ down)[:, 0] for side in "rl"}
    shank = {side: (rotations[f"knee_{side}"] @ down)[:, 0] for side in "rl"}
    assert heights is not None
    assert 0.8 < heights.mean() < 1.2
    for side in "rl":
        assert 0.3 < thigh[side].max() < 0.8
        assert -0.5 < thigh[side].min() < 0.1
        assert shank[side].min() < -0.75  # the knee bends backwards, past 50 degrees
        assert shank[side].max() < 0.05
    assert np.corrcoef(thigh["r"], thigh["l"])[0, 1] < -0.3
    arm = (rotations["shoulder_r"] @ down)[:, 0]
    assert np.corrcoef(arm, thigh["l"])[0, 1] > 0.9
    assert len(times) > 50


def test_coordinates_mean_what_opensim_means(tmp_path: Path) -> None:
    names = (
        "pelvis_tilt", "pelvis_list", "pelvis_rotation", "pelvis_ty", "hip_flexion_r",
        "hip_flexion_l", "hip_adduction_l", "knee_angle_r", "knee_angle_l", "lumbar_extension",
        "arm_flex_r", "arm_add_r",
    )  # fmt: skip
    degrees = np.array([5.0, -4.0, 30.0, 0.0, 20.0, -10.0, 8.0, -50.0, -20.0, -15.0, 40.0, -30.0])
    rows = np.tile(np.radians(degrees), (20, 1))
    rows[:, 3] = 0.95
    rotational = np.array([name != "pelvis_ty" for name in names])
    write_mot(tmp_path / "a.mot", names, rows, np.arange(20) / 30, rotational)
    _, rotations, heights = read_opensim(tmp_path / "a.mot")
    np.testing.assert_allclose(heights, 0.95, atol=1e-6)
    expected = Rotation.from_euler("ZXY", [5, -4, 30], degrees=True).as_matrix()
    np.testing.assert_allclose(rotations["root"][0], expected, atol=1e-6)
    down, up = np.array([0.0, -1, 0]), np.array([0.0, 1, 0])
    assert (rotations["hip_r"][0] @ down)[0] == pytest.approx(np.sin(np.radians(20)), abs=1e-6)
    assert (rotations["hip_l"][0] @ down)[2] > 0.1  # adduction of the left leg: to the right
    assert (rotations["knee_r"][0] @ down)[0] == pytest.approx(-np.sin(np.radians(50)), abs=1e-6)
    assert (rotations["chest"][0] @ up)[0] == pytest.approx(np.sin(np.radians(15)), abs=1e-6)
    assert (rotations["shoulder_r"][0] @ down)[2] > 0.3  # abducted: to the right


def test_a_performance_is_repeatable_mirrored_by_chance_and_no_longer_than_asked(
    tmp_path: Path,
) -> None:
    deepmimic_file(tmp_path / "kick.txt", "kick")
    first, again = performed(tmp_path / "kick.txt"), performed(tmp_path / "kick.txt")
    for name, rotation in first.segment_rotations.items():
        np.testing.assert_array_equal(rotation, again.segment_rotations[name])
        identity = np.broadcast_to(np.eye(3), rotation.shape)
        np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), identity, atol=1e-9)
    assert {"wrist_r", "forearm_l", "toe_r"} <= set(first.segment_rotations)
    kicking = set()
    for seed in range(10):
        made = performed(tmp_path / "kick.txt", seed, seconds=1.0, fine=False)
        assert made.times[-1] <= 1.0
        assert "wrist_r" not in made.segment_rotations
        whole = performed(tmp_path / "kick.txt", seed).segment_rotations
        lift = {s: (whole[f"hip_{s}"] @ [0.0, -1, 0])[:, 0].max() for s in "rl"}
        kicking.add(max(lift, key=lift.__getitem__))
    assert kicking == {"r", "l"}


def test_flight_is_what_the_pelvis_rises_above_standing() -> None:
    standing = np.full(100, 0.9)
    measured = np.full(100, 1.8)  # another body, twice as tall
    measured[40:50] += 0.4
    height = flight(measured, standing)
    np.testing.assert_allclose(height[40:50], 0.18, atol=1e-9)
    assert height[:40].max() == 0


def test_folders_tell_what_they_leave_out(tmp_path: Path) -> None:
    deepmimic_file(tmp_path / "b walk.txt")
    deepmimic_file(tmp_path / "a.txt")
    (tmp_path / "license.txt").write_text("free", encoding="utf-8")
    (tmp_path / "picture.png").write_bytes(b"")
    clips, left_out = find_clips([str(tmp_path)])
    assert [clip.movement for clip in clips] == ["clip_a", "clip_b-walk"]
    assert list(left_out) == [str(tmp_path / "license.txt")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("dog.txt", json.dumps({"Frames": [[0.1] * 20] * 9}), "20.*44"),
        ("x.txt", "{}", "no motion file"),
        ("x.bvh", "", "must end in"),
        ("short.txt", json.dumps({"Frames": [[0.01, *([0.0] * 3), *([1.0] * 40)]] * 5}), "shorter"),
        ("ankle.mot", None, "hip_flexion_r.*missing"),
        ("nowhere.mot", "", "no such file"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str | None, reason: str) -> None:
    path = tmp_path / name
    if content is None:
        write_mot(path, ["ankle_angle_r"], np.zeros((9, 1)), np.arange(9.0), np.array([True]))
    elif content:
        path.write_text(content, encoding="utf-8")
    elif name.endswith("bvh"):
        path.touch()
    with pytest.raises(InvalidInputError, match=rf"(?s){path.stem}.*{reason}"):
        find_clips([str(path)])


def test_two_clips_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        deepmimic_file(tmp_path / folder / "walk.txt")
    with pytest.raises(InvalidInputError, match="same name"):
        find_clips([str(tmp_path / "one"), str(tmp_path / "two")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="no motion file"):
        find_clips([str(tmp_path / "empty")])


def test_a_data_set_says_what_clips_it_has_and_notices_another_file(tmp_path: Path) -> None:
    deepmimic_file(tmp_path / "steps.txt", "march", seconds=1.0)
    settings = SyntheticSettings(
        subjects=3,
        validation_subjects=1,
        test_subjects=1,
        movements=("squat",),
        clips=(str(tmp_path / "steps.txt"),),
        seconds=0.5,
        image_size=64,
        full_motion=True,
    )
    source = SyntheticSource(settings)
    plan = source.plan(tmp_path / "data")
    described = read_json(tmp_path / "data/clips.json")
    assert described["clips"][0]["movement"] == "clip_steps"
    assert "licence" in described["note"]
    unit = next(unit for unit in plan.units if unit["movement"] == "clip_steps")
    assert unit["clip_hash"] == described["clips"][0]["content_hash"]
    made = source.make(unit, tmp_path / "data")
    assert made.trials[0]["movement"] == "clip_steps"
    deepmimic_file(tmp_path / "steps.txt", "march", seconds=1.2)
    with pytest.raises(InvalidInputError, match="has changed"):
        SyntheticSource(settings).make(unit, tmp_path / "data")
