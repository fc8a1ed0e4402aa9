"""What networks predict of a model nobody described."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke.networks.prediction import PredictionHead
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton
from d3ke.skeleton.predicted_default import default_predicted_set, other_side

SKELETON = Skeleton.full_body()
FOUND = default_predicted_set(SKELETON)


def test_independent_coordinates_that_move_are_predicted():
    left_out = {*SKELETON.root_coordinates, *SKELETON.coupled}
    assert left_out.isdisjoint(FOUND.coordinates)
    assert {"hip_flexion_r", "knee_angle_l", "elbow_flexion"} <= set(FOUND.coordinates)
    fewer = default_predicted_set(SKELETON, left_out=("flexion", "flexion_l"))
    assert set(FOUND.coordinates) - set(fewer.coordinates) == {"flexion", "flexion_l"}
    locked = SKELETON.coordinate_locked.copy()
    locked[SKELETON.index_of("coordinate", "knee_angle_l")] = True
    without = default_predicted_set(replace(SKELETON, coordinate_locked=locked))
    assert set(FOUND.coordinates) - set(without.coordinates) == {"knee_angle_l"}


def test_mirror_images_are_those_of_the_built_in_model():
    """Its figures are published; here they follow from names and axes."""
    published = PredictedSet.full_body()
    assert FOUND.mirror_coordinates == published.mirror_coordinates
    right = {name for name in SKELETON.markers if name.startswith("R")}
    pairs = {name: FOUND.mirror_markers[name] for name in right}
    assert pairs == {name: published.mirror_markers[name] for name in right}


def test_a_model_that_is_not_symmetric_cannot_be_mirrored():
    offsets = SKELETON.parent_offset_maps.copy()
    offsets[SKELETON.index_of("joint", "hip_r")] *= 1.2
    assert not default_predicted_set(
        replace(SKELETON, parent_offset_maps=offsets)
    ).mirror_coordinates


def test_groups_and_weights():
    assert set(FOUND.groups["legs"]) == set(PredictedSet.full_body().groups["legs"])
    assert {"hip_flexion_r", "shoulder_elv_l"} <= set(FOUND.groups["main"])
    assert sorted(sum((FOUND.groups[g] for g in ("legs", "arms", "trunk")), ())) == sorted(
        FOUND.coordinates
    )
    reach = np.ptp(SKELETON.coordinate_ranges, axis=1)
    weights = dict(zip(FOUND.coordinates, FOUND.angle_loss_weights, strict=True))
    widest = max(FOUND.coordinates, key=lambda n: reach[SKELETON.index_of("coordinate", n)])
    assert weights[widest] == max(weights.values())
    assert min(weights.values()) >= 0.5


def test_a_network_head_accepts_it():
    head = PredictionHead(SKELETON, MeasurementSet.full_body(), FOUND)
    assert head.size == 6 + len(MeasurementSet.full_body().names) + len(FOUND.coordinates)
    landmarks = default_predicted_set(SKELETON, landmarks=("RASI", "no marker")).bony_landmarks
    assert landmarks == (("RASI",) if "RASI" in SKELETON.markers else SKELETON.markers)


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("femur_r", ("femur_l", "femur_r"), "femur_l"),
        ("R.ASIS", ("R.ASIS", "L.ASIS"), "L.ASIS"),
        ("LASI", ("RASI", "LASI"), "RASI"),
        ("elbow", ("elbow_l",), "elbow_l"),
        ("torso", ("torso", "pelvis"), "torso"),
        ("R_tibia_x", ("L_tibia_x",), "L_tibia_x"),
    ],
)
def test_the_other_side_is_found_by_common_ways_of_naming(name, names, expected):
    assert other_side(name, names) == expected


def test_models_without_a_free_root_or_markers_are_refused():
    with pytest.raises(InvalidInputError, match="no joint gives a body six free coordinates"):
        default_predicted_set(replace(SKELETON, root_joint=-1))
    with pytest.raises(InvalidInputError, match="has no markers"):
        default_predicted_set(SKELETON.select_markers(()))
    locked = np.ones(len(SKELETON.coordinates), dtype=bool)
    with pytest.raises(InvalidInputError, match="no coordinate to predict"):
        default_predicted_set(replace(SKELETON, coordinate_locked=locked))
