"""What the layer refuses, and that looking at values does not get in the way of transforms."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from d3ke.errors import InvalidInputError
from d3ke.skeleton import SkeletalModelLayer, Skeleton

SKELETON = Skeleton.full_body()
LAYER = SkeletalModelLayer(SKELETON)
COUNT, BODIES = len(SKELETON.coordinates), len(SKELETON.bodies)
ZERO, ONES = torch.zeros(2, COUNT), torch.ones(2, BODIES, 3)


def scales_with(value):
    scales = ONES.clone()
    scales[1, SKELETON.index_of("body", "humerus"), 1] = value
    return scales


def coordinates_with(value):
    coordinates = ZERO.clone()
    coordinates[1, SKELETON.index_of("coordinate", "knee_angle_r")] = value
    return coordinates


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_factors_that_no_body_can_have(value):
    with pytest.raises(InvalidInputError, match=r"'humerus' along y: is .* in row \(1,\)"):
        LAYER(ZERO, scales_with(value))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_coordinates_that_are_not_finite(value):
    with pytest.raises(InvalidInputError, match=r"coordinate 'knee_angle_r': is .* in row \(1,\)"):
        LAYER(coordinates_with(value))
    with pytest.raises(InvalidInputError, match="coordinate 'knee_angle_r': is nan"):
        LAYER(coordinates_with(np.nan)[1])
    with pytest.raises(InvalidInputError, match="root_rotation: is not finite"):
        LAYER(ZERO, None, torch.full((3, 3), value))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ZERO[:, :5],), f"coordinates: have shape (2, 5), not (..., {COUNT})"),
        ((ZERO, ONES[:, :5]), f"scales: have shape (2, 5, 3), not (..., {BODIES}, 3)"),
        ((ZERO, torch.ones(BODIES)), f"scales: have shape ({BODIES},), not (..., {BODIES}, 3)"),
        ((ZERO, None, torch.ones(3)), "root rotations: have shape (3,), not (..., 3, 3)"),
        ((torch.zeros(3, COUNT), ONES), "batch shapes: (3,) and (2,) do not broadcast"),
        ((ZERO.numpy(),), "coordinates: are a ndarray, not a torch.Tensor"),
    ],
)
def test_shapes_that_do_not_fit(arguments, message):
    # Past the shape checks of the tests, which users do not have.
    forward = SkeletalModelLayer.forward
    while hasattr(forward, "__wrapped__"):
        forward = forward.__wrapped__
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        forward(LAYER, *arguments)


def test_what_is_out_of_range_is_computed():
    assert LAYER(ZERO + 50.0, scales_with(1e-6)).markers.isfinite().all()


def test_values_are_not_looked_at_where_they_are_not_wanted():
    trusting = SkeletalModelLayer(SKELETON, check_values=False)
    assert trusting(ZERO, scales_with(np.nan)).markers[1].isnan().any()
    # Inside a transform there is nothing to look at.
    jacobian = torch.func.vmap(torch.func.jacrev(lambda q: LAYER(q).markers[0]))(ZERO)
    assert jacobian.isfinite().all()
    assert jacobian.abs().max() > 0.1


def test_a_skeleton_has_finite_numbers(tmp_path):
    data = SKELETON.to_json()
    data["parent_offset_maps"][3][0][0] = float("nan")
    with pytest.raises(InvalidInputError, match=f"joint '{SKELETON.joints[3]}': its parent_offset"):
        Skeleton.from_json(data)
    path = tmp_path / "list.json"
    path.write_text("[]")
    with pytest.raises(InvalidInputError, match="it holds no JSON object"):
        Skeleton.load(path)
