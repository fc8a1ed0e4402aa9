"""Left and right exchanged: labels, cameras and pictures together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from network_fixtures import full_body_head, random_estimate, target_of

from d3ke.draws import Draws
from d3ke.errors import InvalidInputError
from d3ke.losses import Target
from d3ke.mirroring import Mirror, mirror_intrinsics, mirror_rotation
from d3ke.networks import Estimate
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton

SKELETON, MEASUREMENTS = Skeleton.full_body(), MeasurementSet.full_body()
PREDICTED = PredictedSet.full_body()
MIRROR = Mirror(SKELETON, MEASUREMENTS, PREDICTED)
REFLECTION = torch.tensor([-1.0, 1.0, 1.0])


def labels(count: int = 6, *, seed: int = 0) -> Target:
    estimate = random_estimate(count, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    markers = torch.rand(count, len(SKELETON.markers), generator=generator) > 0.5
    known = torch.rand(estimate.coordinates.shape, generator=generator) > 0.5
    return target_of(estimate)._replace(marker_mask=markers, coordinate_mask=known)


def test_mirrored_labels_are_the_mirrored_pose() -> None:
    """Every marker is where the camera sees the other side's marker, reflected."""
    head = full_body_head()
    target = labels()
    mirrored = MIRROR.target(target)
    here = head.pose(Estimate(target.coordinates, target.root_rotation, target.factors))
    there = head.pose(Estimate(mirrored.coordinates, mirrored.root_rotation, mirrored.factors))
    expected = here.markers[:, MIRROR.marker_partner] * REFLECTION
    assert (there.markers - expected).abs().max() < 2e-5


def test_twice_is_once_too_often() -> None:
    target = labels()
    again = MIRROR.target(MIRROR.target(target))
    for name, old, new in zip(Target._fields, target, again, strict=True):
        if old is not None:
            assert torch.equal(old, new), name


def test_masks_change_sides_with_their_values() -> None:
    target = labels()
    mirrored = MIRROR.target(target)
    left = PREDICTED.coordinates.index("knee_angle_l")
    right = PREDICTED.coordinates.index("knee_angle_r")
    assert torch.equal(mirrored.coordinates[:, left], target.coordinates[:, right])
    assert torch.equal(mirrored.coordinate_mask[:, left], target.coordinate_mask[:, right])
    assert target.marker_mask is not None
    assert mirrored.marker_mask is not None
    markers = SKELETON.index_of("marker", ["LANK", "RANK"])
    assert torch.equal(mirrored.marker_mask[:, markers[0]], target.marker_mask[:, markers[1]])


def test_pictures_and_cameras_turn_over_together() -> None:
    """A point in front of the camera lands, reflected, on the mirrored column."""
    intrinsics = torch.tensor([[200.0, 3.0, 40.0], [0.0, 190.0, 30.0], [0.0, 0.0, 1.0]])
    point = torch.tensor([0.2, -0.1, 2.0])
    u, v, w = intrinsics @ point
    mu, mv, mw = mirror_intrinsics(intrinsics, 64) @ (point * REFLECTION)
    assert float(mu / mw) == pytest.approx(63 - float(u / w), rel=1e-6)
    assert float(mv / mw) == pytest.approx(float(v / w), rel=1e-6)


def test_only_some_samples_are_mirrored() -> None:
    count = 200
    images = torch.arange(4, dtype=torch.uint8).expand(count, 3, 4, 4)
    intrinsics = torch.eye(3).expand(count, 3, 3)
    target = labels(count)
    draws = Draws(torch.Generator().manual_seed(1))
    changed = MIRROR.some(images, intrinsics, target, draws, 0.5)
    turned = changed.images[:, 0, 0, 0] == 3
    assert 60 < int(turned.sum()) < 140
    rotation = torch.where(
        turned[:, None, None], mirror_rotation(target.root_rotation), target.root_rotation
    )
    assert torch.equal(changed.target.root_rotation, rotation)
    assert changed.target.valid is None
    assert torch.linalg.det(changed.target.root_rotation) == pytest.approx(np.ones(count), abs=1e-5)
    assert MIRROR.some(images, intrinsics, target, draws, 0.0).images.equal(images)


def test_a_model_that_is_not_symmetric_is_refused() -> None:
    one_sided = replace(PREDICTED, mirror_coordinates={})
    with pytest.raises(InvalidInputError, match="mirror_probability"):
        Mirror(SKELETON, MEASUREMENTS, one_sided)
    pairs = dict(MEASUREMENTS.marker_pairs)
    del pairs["femurY_l"]
    axes = {name: MEASUREMENTS.body_axes[name] for name in pairs}
    with pytest.raises(InvalidInputError, match="'femurY'"):
        Mirror(SKELETON, MeasurementSet(marker_pairs=pairs, body_axes=axes), PREDICTED)


def test_factors_without_marker_pairs_change_sides_with_their_bodies() -> None:
    body_axes = {
        "trunk": (("pelvis", "xyz"),),
        "right": (("femur_r", "xyz"),),
        "left": (("femur_l", "xyz"),),
        "both": (("tibia_r", "y"), ("tibia_l", "y")),
    }
    estimated = MeasurementSet(marker_pairs=dict.fromkeys(body_axes, ()), body_axes=body_axes)
    mirror = Mirror(Skeleton.full_body(), estimated, PredictedSet.full_body())
    assert mirror.factor_partner.tolist() == [0, 2, 1, 3]
    one_leg = MeasurementSet(
        marker_pairs={"right": ()}, body_axes={"right": (("femur_r", "xyz"), ("femur_l", "x"))}
    )
    with pytest.raises(InvalidInputError, match="'right'.*scales the same bodies"):
        Mirror(Skeleton.full_body(), one_leg, PredictedSet.full_body())
