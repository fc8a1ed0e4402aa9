"""Finding landmarks on the model: exact where bodies and landmarks are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from d3ke.camera import project
from d3ke.skeleton import SkeletalModelLayer, Skeleton
from d3ke_platform.sources.keypoint_model import GIRDLE
from d3ke_platform.sources.landmark_registration import (
    Sighting,
    girdle_lines,
    median_places,
    places_on_model,
    ring_of_cameras,
)
from d3ke_platform.sources.landmarks import LANDMARKS, landmark_marker_set


@pytest.fixture(scope="module")
def skeleton() -> Skeleton:
    return Skeleton.full_body()


def test_places_are_found_again_on_any_body_in_any_pose(skeleton: Skeleton) -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(-0.1, 0.1, (len(LANDMARKS), 3))
    own = skeleton.with_markers(tuple(LANDMARKS), tuple(LANDMARKS.values()), places)
    coordinates = rng.uniform(-0.3, 0.3, (5, len(skeleton.coordinates)))
    scales = rng.uniform(0.8, 1.2, (len(skeleton.bodies), 3))
    with torch.no_grad():
        pose = SkeletalModelLayer(own)(torch.tensor(coordinates), torch.tensor(scales))
    found = places_on_model(
        skeleton, coordinates, scales, pose.markers.numpy(), list(LANDMARKS.values())
    )
    np.testing.assert_allclose(found, np.tile(places, (5, 1, 1)), atol=1e-9)


def test_the_median_ignores_outliers_and_mirrors() -> None:
    names = list(LANDMARKS)
    places = np.zeros((9, len(names), 3))
    places[:, names.index("right_hip")] = [0.1, -0.1, 0.12]
    places[:, names.index("left_hip")] = [0.1, -0.1, -0.10]
    places[:, names.index("nose")] = [0.1, 0.0, 0.02]
    places[:2] = 5.0
    places[2] = np.nan
    person = Sighting(places=places, coordinates=np.zeros((9, 3)))
    found = median_places([person, person])
    np.testing.assert_allclose(found[names.index("right_hip")], [0.1, -0.1, 0.11])
    np.testing.assert_allclose(found[names.index("left_hip")], [0.1, -0.1, -0.11])
    np.testing.assert_allclose(found[names.index("nose")], [0.1, 0.0, 0.0])


def test_girdle_lines_are_fitted_over_both_sides(skeleton: Skeleton) -> None:
    rng = np.random.default_rng(1)
    labels = np.zeros((50, len(skeleton.coordinates)))
    for side in ("", "_l"):
        raised = rng.uniform(0.0, 2.0, 50)
        labels[:, skeleton.index_of("coordinate", f"shoulder_elv{side}")] = raised
        for number, name in enumerate(GIRDLE):
            column = skeleton.index_of("coordinate", name + side)
            labels[:, column] = 0.1 * number - 0.2 * raised
    lines = girdle_lines(skeleton, [Sighting(places=np.zeros((50, 1, 3)), coordinates=labels)])
    for number, name in enumerate(GIRDLE):
        assert lines[name] == pytest.approx((-0.2, 0.1 * number))


def test_the_ring_sees_whole_people_from_all_sides() -> None:
    cameras = ring_of_cameras()
    body = np.array([[x, y, z] for x in (-0.3, 0.3) for y in (0.0, 1.9) for z in (-0.3, 0.3)])
    for camera in cameras:
        pixels = project(camera, body)
        assert (pixels > 0).all()
        assert (pixels < camera.size[0]).all()
    directions = np.array([camera.center[[0, 2]] for camera in cameras])
    assert np.linalg.norm(directions.mean(axis=0)) < 0.2


def test_marker_set_without_middles_has_the_landmarks_only() -> None:
    markers = landmark_marker_set(np.zeros((len(LANDMARKS), 3)))
    assert markers.names == tuple(LANDMARKS)
    assert markers.midpoints == {}
