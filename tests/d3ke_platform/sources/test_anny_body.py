"""The Anny body: its pose, its markers, and how well the labels made from it fit."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerSet
from d3ke_platform.sources.anny_body import AnnyBody, sample_phenotype, t_pose_rotations
from d3ke_platform.sources.anny_markers import static_markers, virtual_markers
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.anny_segments import bone_rotations

STILL = np.zeros((1, 3))


@pytest.fixture(scope="module")
def body() -> AnnyBody:
    return AnnyBody()


@pytest.fixture(scope="module")
def phenotype() -> Phenotype:
    return Phenotype(gender=0.2, height=0.45)


def turn(axis: str, degrees: float, frames: int = 1) -> np.ndarray:
    matrix = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    return np.tile(matrix, (frames, 1, 1))


def test_skinning_agrees_with_anny(body, phenotype):
    import torch

    motion = body.pose(phenotype, t_pose_rotations(1), STILL, grounding="none")
    rest = body.rest(phenotype)
    rotations = bone_rotations(body.bones, rest.neutral, t_pose_rotations(1), 1)
    offsets = body._bone_offsets(rest.pivots, rotations, STILL)
    axes = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
    moves = np.tile(np.eye(4), (1, len(body.bones), 1, 1))
    moves[..., :3, :3] = axes.T @ rotations @ axes
    moves[..., :3, 3] = offsets @ axes
    shape = {name: torch.tensor([value]) for name, value in asdict(phenotype).items()}
    with torch.inference_mode():
        bones = body._anny(phenotype_kwargs=shape)["rest_bone_poses"][0].numpy()
        poses = torch.from_numpy((moves @ bones).astype(np.float32))
        anny = body._anny(
            pose_parameters=poses, phenotype_kwargs=shape, pose_parameterization="world"
        )
    np.testing.assert_allclose(motion.vertices[0], anny["vertices"][0].numpy() @ axes.T, atol=1e-5)


def test_stands_on_the_floor_facing_x_with_the_right_hand_at_z(body, phenotype):
    motion = body.pose(phenotype, t_pose_rotations(1), STILL, grounding="frame")
    assert motion.vertices[0, :, 1].min() == pytest.approx(0.0, abs=1e-6)
    assert np.ptp(motion.vertices[0, :, 1]) == pytest.approx(body.height(phenotype), abs=0.02)
    wrist, shoulder = motion.joints["wrist.R"][0], motion.joints["upperarm01.R"][0]
    assert wrist[2] - shoulder[2] > 0.4
    assert abs(wrist[1] - shoulder[1]) < 0.05
    toe, ankle = motion.joints["toe1-1.R"][0], motion.joints["foot.R"][0]
    assert toe[0] - ankle[0] > 0.05


def test_neutral_limbs_hang_straight_down(body, phenotype):
    joints = body.pose(phenotype, {}, STILL).joints
    for chain in (("upperleg01", "lowerleg01", "foot"), ("upperarm01", "lowerarm01", "wrist")):
        for upper, lower in pairwise(chain):
            limb = joints[f"{lower}.L"][0] - joints[f"{upper}.L"][0]
            np.testing.assert_allclose(limb / np.linalg.norm(limb), [0, -1, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("segment", "ends", "direction"),
    [
        ("knee_r", ("lowerleg01.R", "foot.R"), (-1, 0, 0)),
        ("hip_l", ("upperleg01.L", "lowerleg01.L"), (-1, 0, 0)),
        ("elbow_l", ("lowerarm01.L", "wrist.L"), (-1, 0, 0)),
    ],
)
def test_a_segment_turns_about_its_joint(body, phenotype, segment, ends, direction):
    rotations = {segment: turn("z", -90.0)}
    motion = body.pose(phenotype, rotations, STILL, grounding="none")
    neutral = body.pose(phenotype, {}, STILL, grounding="none")
    first, second = (motion.joints[end][0] for end in ends)
    np.testing.assert_allclose(
        (second - first) / np.linalg.norm(second - first), direction, atol=1e-6
    )
    np.testing.assert_allclose(first, neutral.joints[ends[0]][0], atol=1e-9)


def test_grounding_of_a_trial_keeps_jumps(body, phenotype):
    heights = np.array([0.0, 0.0, 0.3, 0.0, 0.0])
    position = np.stack([np.zeros(5), heights, np.zeros(5)], axis=1)
    trial = body.pose(phenotype, {}, position)
    np.testing.assert_allclose(trial.vertices[..., 1].min(axis=1), heights, atol=1e-5)
    framed = body.pose(phenotype, {}, position, grounding="frame")
    np.testing.assert_allclose(framed.vertices[..., 1].min(axis=1), 0.0, atol=1e-5)


def test_wrong_segments_are_named(body, phenotype):
    with pytest.raises(UnknownNameError, match="knee_r"):
        body.pose(phenotype, {"kne_r": turn("z", 1.0)}, STILL)
    with pytest.raises(InvalidInputError, match="knee_r"):
        body.pose(phenotype, {"knee_r": turn("z", 1.0, frames=3)}, STILL)
    with pytest.raises(InvalidInputError, match="height"):
        Phenotype(height=1.5)


def test_sampled_adults_are_plausible_and_reproducible(body):
    rng = np.random.default_rng(4)
    people = [sample_phenotype(rng, body) for _ in range(12)]
    heights = [body.height(person) for person in people]
    bmi = [body.mass(person) / body.height(person) ** 2 for person in people]
    assert min(heights) >= 1.50
    assert max(heights) <= 1.96
    assert min(bmi) > 16
    assert max(bmi) < 32
    assert {person.gender < 0.5 for person in people} == {True, False}
    assert sample_phenotype(np.random.default_rng(4), body) == people[0]


def test_static_markers_are_complete_and_symmetric(body, phenotype):
    static = static_markers(body, phenotype)
    assert static.names == MarkerSet.builtin("anny").names
    assert np.isfinite(static.positions).all()
    assert static.times[-1] >= 0.5
    right, left = static.marker("RKNE")[0], static.marker("LKNE")[0]
    np.testing.assert_allclose(right, left * [1, 1, -1], atol=2e-3)
    assert static.marker("Virtual_Ground_RHEE")[0, 1] == 0.0


def test_moving_markers_have_no_floor(body, phenotype):
    moving = virtual_markers(body, body.pose(phenotype, {}, np.zeros((2, 3))), rate_hz=50.0)
    missing = {
        name for name, gap in zip(moving.names, np.isnan(moving.positions[0, :, 0]), strict=True)
        if gap
    }  # fmt: skip
    assert missing == set(MarkerSet.builtin("anny").ground_projections)
    assert moving.times[1] == pytest.approx(0.02)
