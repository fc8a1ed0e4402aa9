"""The 2 cm rule: which coordinates a badly fitted marker puts in doubt."""

from __future__ import annotations

import numpy as np
import pytest

from d3ke.kinematics import IKResult, MarkerSet
from d3ke.kinematics.masks import coordinate_mask, marker_mask
from d3ke.skeleton import Skeleton

FRAMES = 4


def result_with(errors: dict[str, tuple[int, float]], marker_set: MarkerSet):
    """A solved trial whose markers all fit within 1 mm but for marker -> (frame, error m)."""
    count = len(marker_set.names)
    error = np.full((FRAMES, count), 0.001)
    for name, (frame, value) in errors.items():
        error[frame, marker_set.names.index(name)] = value
    return IKResult(
        coordinate_names=Skeleton.full_body().coordinates,
        coordinates=np.zeros((FRAMES, len(Skeleton.full_body().coordinates))),
        marker_names=tuple(marker_set.names),
        marker_positions=np.zeros((FRAMES, count, 3)),
        marker_error=error,
        solved=np.ones(FRAMES, dtype=bool),
        converged=np.ones(FRAMES, dtype=bool),
        iterations=np.ones(FRAMES, dtype=np.int64),
        outside_range=np.zeros((FRAMES, len(Skeleton.full_body().coordinates)), dtype=bool),
        scales=None,
    )


def masked(errors: dict[str, tuple[int, float]]) -> dict[int, set[str]]:
    """Names of the masked coordinates by frame."""
    skeleton, marker_set = Skeleton.full_body(), MarkerSet.builtin("smplh")
    mask = coordinate_mask(result_with(errors, marker_set), skeleton, marker_set)
    assert mask.shape == (FRAMES, len(skeleton.coordinates))
    return {
        frame: {skeleton.coordinates[i] for i in np.flatnonzero(~mask[frame])}
        for frame in range(FRAMES)
        if not mask[frame].all()
    }


def test_nothing_is_masked_when_every_marker_fits():
    assert masked({}) == {}


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        # Knee and ankle markers belong to the tibia and talus once the model is scaled.
        ("RKNE", {"knee_angle_r", "knee_angle_y_r", "knee_angle_x_r"}),
        ("LANI", {"ankle_angle_l"}),
        ("RHEE", {"subtalar_angle_r"}),
        # thoracic10 has a joint of its own; the head's markers have less than full weight.
        ("T10", {"T10_T11_FE", "T10_T11_LB", "T10_T11_AR"}),
        ("RELB", {"shoulder_rot"}),
    ],
)
def test_a_marker_masks_the_joint_that_moves_its_body(marker, expected):
    assert masked({marker: (2, 0.021)}) == {2: expected}


def test_one_bad_girdle_marker_masks_its_whole_shoulder_and_not_the_other():
    names = masked({"LSHO": (0, 0.05)})[0]
    assert {"elv_angle_l", "shoulder_elv_l", "sternoclavicular_r2_l"} <= names
    assert "shoulder_rot_l" not in names
    assert all(name.endswith("_l") for name in names)


def test_exactly_the_threshold_is_still_good_and_missing_or_light_markers_mask_nothing():
    assert masked({"RKNE": (1, 0.02)}) == {}
    assert masked({"RKNE": (1, np.nan)}) == {}
    assert masked({"RTOE": (1, 0.5)}) == {}


def test_marker_mask_is_false_for_far_and_for_missing_markers():
    marker_set = MarkerSet.builtin("smplh")
    result = result_with({"RTOE": (1, 0.5), "C7": (3, np.nan)}, marker_set)
    mask = marker_mask(result, marker_set)
    assert not mask[1, marker_set.names.index("RTOE")]
    assert not mask[3, marker_set.names.index("C7")]
    assert mask.sum() == mask.size - 2
