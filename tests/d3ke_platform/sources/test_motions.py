"""Movements: valid, anatomical, mirrored, within limits, repeatable."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.sources.gait_table import GAITS
from d3ke_platform.sources.key_poses import (
    CHANNELS,
    FINE,
    FINE_CHANNELS,
    LIFT,
    PAIRED,
    TRUNK,
)
from d3ke_platform.sources.motions import (
    LIMITS,
    Motion,
    MotionStyle,
    make_motion,
    sample_motion_style,
    segment_rotations,
)
from d3ke_platform.sources.movement_table import (
    BML_MOVI_MOVEMENTS,
    DEFAULT_MOVEMENTS,
    MOVEMENTS,
)

DOWN, FORWARD, UP = np.array([0.0, -1, 0]), np.array([1.0, 0, 0]), np.array([0.0, 1, 0])
MIRROR = np.diag([1.0, 1.0, -1.0])  # left and right: ground z changes sign


def motion(movement: str, seed: int = 0, **changes) -> Motion:
    values = {"rate_hz": 10.0, "seconds": 2.5, "style": MotionStyle(), **changes}
    return make_motion(movement, rng=np.random.default_rng(seed), **values)


def turned(channel: str, angles: tuple[float, float, float], vector: np.ndarray) -> np.ndarray:
    values = {name: np.zeros((1, 3)) for name in (*CHANNELS, *FINE_CHANNELS)}
    values[channel] = np.array([angles])
    return segment_rotations(values)[channel][0] @ vector


@pytest.mark.parametrize("movement", MOVEMENTS)
def test_every_movement_is_well_formed(movement: str) -> None:
    keys = MOVEMENTS[movement]
    assert len(keys) >= 3
    for key in keys:
        assert set(key.pose) <= {*CHANNELS, *FINE_CHANNELS, LIFT}
        assert all(1 <= len(angles) <= 3 for angles in key.pose.values())
    assert all(key.seconds > 0 for key in keys[1:])
    made = motion(movement)
    assert set(made.segment_rotations) == set(CHANNELS)
    assert made.root_position.shape == (len(made.times), 3)
    for rotation in made.segment_rotations.values():
        assert rotation.shape == (len(made.times), 3, 3)
        identity = np.broadcast_to(np.eye(3), rotation.shape)
        np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), identity, atol=1e-12)
        np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    assert np.abs(made.root_position[:, [0, 2]]).max() < 0.2


def test_key_poses_respect_the_limits() -> None:
    for movement, keys in MOVEMENTS.items():
        for key in keys:
            for channel, angles in key.pose.items():
                if channel == LIFT:
                    assert 0 < angles[0] < 0.4 or angles == (0.0,), (movement, angles)
                    continue
                limits = LIMITS[channel.removesuffix("_r").removesuffix("_l")]
                for angle, (low, high) in zip(angles, limits, strict=False):
                    assert low <= angle <= high, (movement, channel, angle)


def test_default_vocabulary_moves_legs_arms_and_trunk() -> None:
    assert len(DEFAULT_MOVEMENTS) == len(set(DEFAULT_MOVEMENTS)) == 8
    spread = dict.fromkeys(CHANNELS, 0.0)
    for movement in DEFAULT_MOVEMENTS:
        for channel, rotation in motion(movement).segment_rotations.items():
            cosine = (np.einsum("ij,tij->t", rotation[0], rotation) - 1) / 2
            angle = np.degrees(np.arccos(np.clip(cosine, -1, 1))).max()
            spread[channel] = max(spread[channel], angle)
    for channel in ("hip_r", "knee_r", "shoulder_r", "elbow_r", "hip_l", "knee_l", "shoulder_l"):
        assert spread[channel] > 40, (channel, spread[channel])
    assert spread["chest"] > 25


@pytest.mark.parametrize(
    ("channel", "angles", "vector", "axis", "sign"),
    [
        ("root", (30, 0, 0), UP, 0, 1),
        ("chest", (30, 0, 0), UP, 0, 1),
        ("chest", (0, 20, 0), UP, 2, 1),
        ("neck", (0, 0, 40), FORWARD, 2, -1),
        ("hip_r", (60, 0, 0), DOWN, 0, 1),
        ("hip_l", (60, 0, 0), DOWN, 0, 1),
        ("hip_r", (0, 20, 0), DOWN, 2, 1),
        ("hip_l", (0, 20, 0), DOWN, 2, -1),
        ("hip_r", (0, 0, 20), FORWARD, 2, -1),
        ("hip_l", (0, 0, 20), FORWARD, 2, 1),
        ("knee_r", (60, 0, 0), DOWN, 0, -1),
        ("ankle_l", (20, 0, 0), FORWARD, 1, 1),
        ("shoulder_r", (80, 0, 0), DOWN, 2, 1),
        ("shoulder_l", (80, 0, 0), DOWN, 2, -1),
        ("shoulder_r", (0, 80, 0), DOWN, 0, 1),
        ("shoulder_r", (0, 0, 40), FORWARD, 2, 1),
        ("elbow_r", (90, 0, 0), DOWN, 0, 1),
        ("wrist_r", (30, 0, 0), DOWN, 2, -1),
        ("wrist_l", (30, 0, 0), DOWN, 2, 1),
        ("wrist_r", (0, 25, 0), DOWN, 0, 1),
        ("toe_l", (30, 0, 0), FORWARD, 1, 1),
    ],
)
def test_angles_have_their_anatomical_meaning(
    channel: str, angles: tuple, vector: np.ndarray, axis: int, sign: int
) -> None:
    assert sign * turned(channel, angles, vector)[axis] > 0.3


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_swapping_sides_mirrors_the_rotations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angles = {channel: rng.uniform(-40, 40, (2, 3)) for channel in (*CHANNELS, *FINE_CHANNELS)}
    mirrored = {name: angles[name] * [1, -1, -1] for name in TRUNK}
    for name in (*PAIRED, *FINE):
        mirrored |= {f"{name}_r": angles[f"{name}_l"], f"{name}_l": angles[f"{name}_r"]}
    plain, seen = segment_rotations(angles), segment_rotations(mirrored)
    swap = {"_r": "_l", "_l": "_r"}
    for channel in plain:
        other = channel[:-2] + swap[channel[-2:]] if channel[-2:] in swap else channel
        np.testing.assert_allclose(seen[other], MIRROR @ plain[channel] @ MIRROR, atol=1e-12)


def test_a_forearm_twists_as_a_whole_only_without_small_joints() -> None:
    angles = {channel: np.zeros((1, 3)) for channel in CHANNELS}
    angles["elbow_r"] = np.array([[90.0, 40.0, 0.0]])
    whole = segment_rotations(angles)
    split = segment_rotations(angles | {name: np.zeros((1, 3)) for name in FINE_CHANNELS})
    assert "forearm_r" not in whole
    np.testing.assert_allclose(split["elbow_r"] @ split["forearm_r"], whole["elbow_r"], atol=1e-12)
    assert (split["forearm_r"][0] @ FORWARD)[2] < -0.5
    np.testing.assert_allclose(split["elbow_r"][0] @ DOWN, FORWARD, atol=1e-9)


@pytest.mark.parametrize("movement", ["squat", "throw", "walk", "jump"])
def test_small_joints_leave_the_others_as_they_are(movement: str) -> None:
    plain, fine = motion(movement, 5), motion(movement, 5, fine=True)
    assert set(fine.segment_rotations) - set(plain.segment_rotations) == {
        *FINE_CHANNELS, "forearm_r", "forearm_l",
    }  # fmt: skip
    for name, rotation in plain.segment_rotations.items():
        if not name.startswith("elbow"):
            np.testing.assert_array_equal(fine.segment_rotations[name], rotation)
    for name in ("wrist_r", "forearm_l", "toe_r"):
        turn = fine.segment_rotations[name]
        cosine = (np.einsum("ij,tij->t", turn[0], turn) - 1) / 2
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() > 2, name


def test_gaits_repeat_their_cycle_at_their_own_pace() -> None:
    assert {"walk", "run"} <= set(GAITS)
    for seconds in (2.2, 4.4):
        made = motion("walk", 2, rate_hz=60.0, seconds=seconds)
        forward = (made.segment_rotations["hip_r"] @ DOWN)[:, 0]
        steps = np.flatnonzero((forward[1:-1] > forward[:-2]) & (forward[1:-1] > forward[2:]))
        assert len(steps[forward[steps + 1] > 0.3]) == pytest.approx(seconds / 1.1, abs=1)


def test_a_jump_flies_like_a_thrown_body() -> None:
    made = motion("jump", rate_hz=100.0)
    flying = np.flatnonzero(made.clearance > 1e-9)
    assert 0.2 < made.clearance.max() < 0.3
    assert (np.diff(flying) == 1).all()
    rising = made.clearance[flying[0] : made.clearance.argmax()]
    acceleration = np.diff(rising, 2)
    np.testing.assert_allclose(acceleration, acceleration.mean(), atol=1e-9)
    assert acceleration.mean() < 0
    assert motion("squat").clearance.max() == 0


def test_bml_movi_s_movements_are_all_there() -> None:
    assert len(set(BML_MOVI_MOVEMENTS)) == 20
    assert set(BML_MOVI_MOVEMENTS) <= set(MOVEMENTS)


def test_one_sided_movements_come_in_both_mirror_images() -> None:
    kicks = set()
    for seed in range(12):
        made = motion("kick", seed).segment_rotations
        lift = {side: (made[f"hip_{side}"] @ DOWN)[:, 0].max() for side in "rl"}
        kicks.add("r" if lift["r"] > lift["l"] else "l")
    assert kicks == {"r", "l"}


def test_same_seed_same_motion_other_seed_another() -> None:
    first, again, other = motion("throw", 3), motion("throw", 3), motion("throw", 4)
    for channel in CHANNELS:
        np.testing.assert_array_equal(
            first.segment_rotations[channel], again.segment_rotations[channel]
        )
    np.testing.assert_array_equal(first.root_position, again.root_position)
    assert not np.allclose(first.root_position[0], other.root_position[0])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    movement=st.sampled_from(sorted(MOVEMENTS)),
    seconds=st.floats(1.5, 5.0),
)
def test_length_rate_and_smoothness(seed: int, movement: str, seconds: float) -> None:
    style = sample_motion_style(np.random.default_rng(seed))
    made = motion(movement, seed, rate_hz=60.0, seconds=seconds, style=style)
    assert 0.75 * seconds < made.times[-1] < 1.35 * seconds
    np.testing.assert_allclose(np.diff(made.times), 1 / 60)
    for rotation in made.segment_rotations.values():
        step = rotation[:-1].swapaxes(1, 2) @ rotation[1:]
        cosine = (np.trace(step, axis1=1, axis2=2) - 1) / 2
        degrees_per_s = np.degrees(np.arccos(np.clip(cosine, -1, 1))) * 60
        assert degrees_per_s.max() < 1500


def test_style_changes_the_motion() -> None:
    small = motion("squat", style=MotionStyle(amplitude=0.7)).segment_rotations["knee_r"]
    large = motion("squat", style=MotionStyle(amplitude=1.0)).segment_rotations["knee_r"]
    assert (large @ DOWN)[:, 1].max() > (small @ DOWN)[:, 1].max() + 0.2
    slow, fast = (motion("squat", style=MotionStyle(speed=s)).times[-1] for s in (0.8, 1.2))
    assert slow > fast


def test_bad_requests_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="squat"):
        motion("sqat")
    with pytest.raises(InvalidInputError, match="positive"):
        motion("squat", rate_hz=0.0)
