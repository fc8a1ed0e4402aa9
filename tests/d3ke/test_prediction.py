"""Raw numbers <-> estimates <-> poses."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_fixtures import full_body_head, random_estimate

from d3ke.networks import Estimate, mean_estimate
from d3ke.networks.prediction import FACTOR_HALF_RANGE, FACTOR_MIDDLE
from d3ke.rotations import axis_angle_to_matrix


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 2.5))
def test_encode_inverts_decode(seed: int, spread: float) -> None:
    head = full_body_head()
    estimate = random_estimate(3, 2, seed=seed, spread=spread)
    again = head.decode(head.encode(estimate))
    for name, first, second in zip(Estimate._fields, estimate, again, strict=True):
        torch.testing.assert_close(second, first, atol=2e-5, rtol=0, msg=name)


def test_decoded_values_stay_in_range() -> None:
    head = full_body_head()
    estimate = head.decode(100 * torch.randn(50, head.size))
    names = head.predicted.coordinates
    ranges = head.skeleton.coordinate_ranges[head.skeleton.index_of("coordinate", names)]
    free = head.free_coordinates.bool().numpy()
    values = estimate.coordinates.numpy()
    assert (values >= ranges[:, 0] - 1e-5)[:, free].all()
    assert (values <= ranges[:, 1] + 1e-5)[:, free].all()
    assert (estimate.factors - FACTOR_MIDDLE).abs().max() <= FACTOR_HALF_RANGE + 1e-6
    identity = estimate.root_rotation @ estimate.root_rotation.mT
    torch.testing.assert_close(identity, torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)


def test_zero_decodes_to_the_middle_of_every_range() -> None:
    head = full_body_head()
    middle = head.decode(torch.zeros(head.size)).coordinates
    names = head.predicted.coordinates
    ranges = head.skeleton.coordinate_ranges[head.skeleton.index_of("coordinate", names)]
    free = head.free_coordinates.bool().numpy()
    np.testing.assert_allclose(middle.numpy()[free], ranges.mean(axis=1)[free], atol=1e-6)


def test_encode_clamps_values_outside_the_range() -> None:
    head = full_body_head()
    estimate = random_estimate(4)
    outside = estimate._replace(
        coordinates=estimate.coordinates + 100, factors=estimate.factors + 10
    )
    raw = head.encode(outside)
    assert raw.isfinite().all()
    torch.testing.assert_close(
        head.decode(raw).factors, torch.full_like(estimate.factors, 1.9), atol=1e-3, rtol=0
    )


def test_coupled_coordinates_follow_their_driver_whatever_their_channel_says() -> None:
    head = full_body_head()
    names = list(head.predicted.coordinates)
    estimate = head.decode(2 * torch.randn(20, head.size))
    for side in ("", "_l"):
        assert f"shoulder1_r2{side}" in head.skeleton.coupled
        dependent = estimate.coordinates[:, names.index(f"shoulder1_r2{side}")]
        driver = estimate.coordinates[:, names.index(f"elv_angle{side}")]
        torch.testing.assert_close(dependent, -driver, atol=1e-5, rtol=0)
        assert head.angle_weights[names.index(f"shoulder1_r2{side}")] == 0
    raw = torch.zeros(head.size)
    raw[6 + len(head.measurements.names) + names.index("shoulder1_r2")] = 5.0
    same = head.decode(torch.zeros(head.size)).coordinates
    torch.testing.assert_close(head.decode(raw).coordinates, same)


def test_pose_is_relative_to_the_pelvis_and_turns_with_the_root() -> None:
    head = full_body_head()
    estimate = random_estimate(3)
    pose = head.pose(estimate)
    pelvis = head.skeleton.index_of("body", "pelvis")
    assert pose.body_positions[:, pelvis].abs().max() == 0
    torch.testing.assert_close(pose.body_rotations[:, pelvis], estimate.root_rotation)
    turn = axis_angle_to_matrix(torch.tensor([0.6, 0.0, 0.8]), torch.tensor(1.1))
    turned = head.pose(estimate._replace(root_rotation=turn @ estimate.root_rotation))
    torch.testing.assert_close(turned.markers, pose.markers @ turn.T, atol=1e-5, rtol=0)


def test_pose_uses_the_factors() -> None:
    head = full_body_head()
    estimate = random_estimate(1)
    names = list(head.measurements.names)
    factors = torch.ones_like(estimate.factors)
    longer = factors.clone()
    longer[:, names.index("femurY")] = 1.2
    hip, knee = (head.skeleton.index_of("body", name) for name in ("femur_r", "tibia_r"))
    lengths = []
    for value in (factors, longer):
        positions = head.pose(estimate._replace(factors=value)).body_positions
        lengths.append((positions[:, knee] - positions[:, hip]).norm())
    assert 1.15 < lengths[1] / lengths[0] < 1.25


def test_pose_is_exact_under_autocast() -> None:
    head = full_body_head()
    estimate = random_estimate(2)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = head.pose(estimate)
    torch.testing.assert_close(reduced.markers, head.pose(estimate).markers, atol=0, rtol=0)


def test_mean_estimate_ignores_masked_coordinates_and_averages_rotations() -> None:
    axis = torch.tensor([0.0, 1.0, 0.0]).expand(3, 3)
    rotations = axis_angle_to_matrix(axis, torch.tensor([-0.4, 0.0, 0.4]))
    labels = Estimate(torch.tensor([[1.0], [3.0], [100.0]]), rotations, torch.ones(3, 2))
    mean = mean_estimate(labels, torch.tensor([[True], [True], [False]]))
    assert mean.coordinates.item() == 2.0
    torch.testing.assert_close(mean.root_rotation, torch.eye(3), atol=1e-6, rtol=0)
    assert torch.linalg.det(mean_estimate(random_estimate(40, spread=3)).root_rotation) > 0.99
