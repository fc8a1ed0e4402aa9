"""Coordinates that markers cannot tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from d3ke.kinematics.observability import undetermined_coordinates
from d3ke.skeleton import Skeleton

SKELETON = Skeleton.full_body()
LEG = ("hip_flexion_l", "hip_adduction_l", "hip_rotation_l", "knee_angle_l", "ankle_angle_l")


def with_cloud(*bodies: str) -> tuple[Skeleton, dict[str, float]]:
    """The built-in model with four markers on each of some bodies."""
    places = np.array([[0.05, 0.0, 0.0], [0.0, 0.05, 0.0], [0.0, 0.0, 0.05], [-0.04, 0.02, 0.0]])
    names = tuple(f"{body}{index}" for body in bodies for index in range(4))
    on = tuple(body for body in bodies for _ in range(4))
    skeleton = SKELETON.with_markers(names, on, np.tile(places, (len(bodies), 1)))
    return skeleton, dict.fromkeys(names, 1.0)


@pytest.fixture(scope="module")
def everywhere() -> tuple[Skeleton, dict[str, float]]:
    return with_cloud(*SKELETON.bodies)


def test_markers_on_every_body_tell_everything(everywhere):
    skeleton, weights = everywhere
    assert undetermined_coordinates(skeleton, weights) == ()


def test_a_limb_without_markers_is_untold(everywhere):
    skeleton, weights = everywhere
    leg = ("femur_l", "tibia_l", "talus_l", "calcn_l", "toes_l")
    less = {name: 0.0 if name.rstrip("0123") in leg else w for name, w in weights.items()}
    found = undetermined_coordinates(skeleton, less)
    assert set(LEG) <= set(found)
    assert all(name.endswith("_l") for name in found)


def test_joints_that_bend_against_each_other_are_untold():
    """Markers on pelvis and skull alone say how the spine bends as a whole, not where."""
    skeleton, weights = with_cloud("pelvis", "skull")
    found = undetermined_coordinates(skeleton, weights)
    assert sum(name.endswith("_FE") for name in found) > 3
    assert not set(found) & set(skeleton.root_coordinates)


def test_locked_and_coupled_coordinates_are_not_asked_for():
    skeleton, weights = with_cloud("pelvis")
    locked = skeleton.coordinate_locked.copy()
    locked[skeleton.index_of("coordinate", "knee_angle_l")] = True
    found = undetermined_coordinates(replace(skeleton, coordinate_locked=locked), weights)
    assert "knee_angle_r" in found
    assert "knee_angle_l" not in found
    assert not set(found) & set(skeleton.coupled)
    everything = undetermined_coordinates(skeleton, {})
    assert set(skeleton.root_coordinates) <= set(everything)
