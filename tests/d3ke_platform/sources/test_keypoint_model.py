"""The model that landmarks drive: all bodies sized, and the predicted angles really determined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from d3ke.arrays import FloatArray
from d3ke.kinematics import MarkerSet, MarkerTrajectories, solve_ik
from d3ke.kinematics.observability import undetermined_coordinates
from d3ke.kinematics.scaling import measurement_factors
from d3ke.skeleton import PredictedSet, SkeletalModelLayer, Skeleton
from d3ke_platform.sources import keypoint_model
from d3ke_platform.sources.landmarks import LANDMARKS, MIDPOINTS, other_side


@pytest.fixture(scope="module")
def markers() -> MarkerSet:
    return MarkerSet.builtin("mediapipe")


@pytest.fixture(scope="module")
def skeleton(markers: MarkerSet, tmp_path_factory: pytest.TempPathFactory) -> Skeleton:
    path: Path = tmp_path_factory.mktemp("model") / "model.osim"
    keypoint_model.write_keypoint_model(path, markers)
    return Skeleton.from_osim(path)


@pytest.fixture(scope="module")
def predicted(markers: MarkerSet) -> PredictedSet:
    return keypoint_model.predicted_set(markers)


def positions(skeleton: Skeleton, coordinates: FloatArray, scales: FloatArray) -> FloatArray:
    with torch.no_grad():
        pose = SkeletalModelLayer(skeleton)(torch.tensor(coordinates), torch.tensor(scales))
    return np.asarray(pose.markers.numpy())


def test_marker_set_is_complete_and_symmetric(markers: MarkerSet) -> None:
    assert markers.names == (*LANDMARKS, *MIDPOINTS)
    for name, place in zip(markers.names, markers.locations, strict=True):
        mirrored = markers.locations[markers.index(other_side(name))] * [1.0, 1.0, -1.0]
        np.testing.assert_allclose(place, mirrored, atol=1e-6)
    used = np.array([name in LANDMARKS for name in markers.names])
    assert (markers.ik_weights[used] > 0).all()
    assert (markers.ik_weights[~used] == 0).all()


def test_landmarks_lie_near_their_joints(markers: MarkerSet, skeleton: Skeleton) -> None:
    """Where the landmarker marks a joint is within 35 mm of the model's joint centre."""
    with torch.no_grad():
        pose = SkeletalModelLayer(skeleton)(torch.tensor(skeleton.coordinate_defaults))
    for landmark, joint in (
        ("right_hip", "hip_r"),
        ("right_knee", "knee_r"),
        ("right_ankle", "ankle_r"),
        ("left_shoulder", "shoulder2_l"),
        ("left_elbow", "elbow_l"),
    ):
        marker = pose.markers[skeleton.index_of("marker", landmark)]
        center = pose.joint_centers[skeleton.index_of("joint", joint)]
        assert float(torch.linalg.norm(marker - center)) < 0.035, landmark
    # Two centimetres beyond the middle of the styloids, as on the body mesh.
    anny = MarkerSet.builtin("anny")
    between = anny.locations[anny.index("Virtual_LWRIST")]
    wrist = markers.locations[markers.index("left_wrist")]
    assert float(np.linalg.norm(wrist - between)) < 0.025


def test_computed_markers_are_middles_in_the_default_pose(
    markers: MarkerSet, skeleton: Skeleton
) -> None:
    points = positions(
        skeleton, skeleton.coordinate_defaults[None], np.ones((len(skeleton.bodies), 3))
    )[0]
    for name, sources in markers.midpoints.items():
        middle = points[skeleton.index_of("marker", list(sources))].mean(axis=0)
        place = points[skeleton.index_of("marker", name)]
        np.testing.assert_allclose(place, middle, atol=1e-5)


def test_every_body_has_a_size(markers: MarkerSet, skeleton: Skeleton) -> None:
    measurements = keypoint_model.measurements()
    measurements.check_markers(skeleton)
    assert (measurements.slots(skeleton) >= 0).all()
    factor = 1.13
    ones = np.ones((len(skeleton.bodies), 3))
    coordinates = skeleton.coordinate_defaults[None]
    static = MarkerTrajectories(
        names=markers.names,
        positions=positions(skeleton, coordinates, factor * ones),
        times=np.zeros(1),
        rate_hz=10.0,
    )
    factors = measurement_factors(
        measurements, markers.names, static, positions(skeleton, coordinates, ones)[0]
    )
    np.testing.assert_allclose(factors, factor, atol=1e-6)


def test_predicted_coordinates_are_free_and_the_rest_is_not(
    markers: MarkerSet, skeleton: Skeleton, predicted: PredictedSet
) -> None:
    free = set(skeleton.coordinates) - set(skeleton.coupled) - set(keypoint_model.LOCKED)
    assert set(predicted.coordinates) == free - set(skeleton.root_coordinates)
    assert set(markers.undetermined) == set(keypoint_model.LOCKED)
    locked = np.array(skeleton.coordinate_locked)
    assert locked[skeleton.index_of("coordinate", list(keypoint_model.LOCKED))].all()
    weights = dict(zip(markers.names, map(float, markers.ik_weights), strict=True))
    assert undetermined_coordinates(skeleton, weights) == ()
    assert all(predicted.groups.values())
    assert set(predicted.bony_landmarks) <= set(skeleton.markers)


def test_landmarks_determine_what_is_predicted(
    markers: MarkerSet, skeleton: Skeleton, predicted: PredictedSet
) -> None:
    """Exact landmarks of random poses, elbows and knees bent, give back every predicted angle."""
    rng = np.random.default_rng(4)
    frames = 12
    coordinates = np.tile(skeleton.coordinate_defaults, (frames, 1))

    def put(name: str, low: float, high: float) -> None:
        column = skeleton.index_of("coordinate", name)
        coordinates[:, column] = np.deg2rad(rng.uniform(low, high, frames))

    for name in predicted.coordinates:
        put(name, -8.0, 8.0)
    for side in "rl":
        put(f"hip_flexion_{side}", 0.0, 60.0)
        put(f"knee_angle_{side}", -80.0, -25.0)
    for side in ("", "_l"):
        put(f"shoulder_elv{side}", 30.0, 80.0)
        put(f"elbow_flexion{side}", 50.0, 100.0)
    put("pelvis_rotation", -170.0, 170.0)
    scales = np.ones((len(skeleton.bodies), 3))
    points = positions(skeleton, coordinates, scales)
    solved = solve_ik(
        skeleton,
        points,
        dict(zip(markers.names, map(float, markers.ik_weights), strict=True)),
        marker_names=markers.names,
        regularization=0.0,
    )
    assert solved.converged.all()
    index = skeleton.index_of("coordinate", list(predicted.coordinates))
    off = np.rad2deg(np.abs(solved.coordinates - coordinates)[:, index])
    worst = dict(zip(predicted.coordinates, off.max(axis=0).round(2), strict=True))
    assert max(worst.values()) < 1.0, worst


def test_the_girdle_follows_the_arm_and_the_spine_its_lowest_level(skeleton: Skeleton) -> None:
    coordinates = np.tile(skeleton.coordinate_defaults, (2, 1))
    coordinates[1, skeleton.index_of("coordinate", "shoulder_elv")] = 2.0
    coordinates[1, skeleton.index_of("coordinate", "L5_S1_AR")] = 0.1
    ones = np.ones((len(skeleton.bodies), 3))
    low, high = positions(skeleton, coordinates, ones)
    right = skeleton.index_of("marker", "right_shoulder")
    assert high[right, 1] - low[right, 1] > 0.008
    with torch.no_grad():
        pose = SkeletalModelLayer(skeleton)(torch.tensor(coordinates), torch.tensor(ones))
    thorax = skeleton.index_of("body", "thorax")
    forward = pose.body_rotations[1, thorax].numpy() @ pose.body_rotations[0, thorax].numpy().T
    turn = np.arccos(np.clip((np.trace(forward) - 1) / 2, -1, 1))
    assert turn == pytest.approx(7 * 0.1, rel=0.05)
