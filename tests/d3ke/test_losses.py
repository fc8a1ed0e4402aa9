"""Equations 1 and 2 against a plain NumPy computation, masks, and what must be zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_fixtures import full_body_head, random_estimate, target_of

from d3ke.errors import InvalidInputError
from d3ke.losses import LossWeights, Target, d3ke_loss
from d3ke.networks import Estimate


def masked_target(*shape: int, seed: int = 1) -> Target:
    labels = random_estimate(*shape, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    head = full_body_head()
    coordinate_mask = torch.rand(labels.coordinates.shape, generator=generator) > 0.3
    marker_mask = torch.rand((*shape, len(head.skeleton.markers)), generator=generator) > 0.3
    return target_of(labels)._replace(coordinate_mask=coordinate_mask, marker_mask=marker_mask)


def numpy_loss(estimate: Estimate, target: Target, weights: LossWeights) -> dict[str, float]:
    """Loops over frames, bodies and markers, written from the equations."""
    head = full_body_head()
    skeleton, predicted, measurements = head.skeleton, head.predicted, head.measurements
    labels = Estimate(target.coordinates, target.root_rotation, target.factors)
    pose, truth = head.pose(estimate), head.pose(labels)
    slots = measurements.slots(skeleton)
    terms: dict[str, list[float]] = {"joint": [], "marker": [], "body": [], "angle": []}
    for frame in range(len(estimate.coordinates)):
        delta = (pose.joint_centers - truth.joint_centers)[frame].double().numpy()
        terms["joint"].append(np.mean([np.abs(row).sum() for row in delta]))
        markers = [
            np.abs((pose.markers - truth.markers)[frame, index].double().numpy()).sum()
            * predicted.marker_loss_weights[name]
            for index, name in enumerate(skeleton.markers)
            if name in predicted.marker_loss_weights and target.marker_mask[frame, index]
        ]
        terms["marker"].append(np.sum(markers) / len(markers))
        error = (estimate.factors - target.factors)[frame].double().numpy()
        bodies = [
            sum(abs(error[slot]) for slot in body if slot >= 0) for body in slots if max(body) >= 0
        ]
        terms["body"].append(np.mean(bodies))
        angles = [
            abs(float(estimate.coordinates[frame, p] - target.coordinates[frame, p]))
            * 180
            / np.pi
            * predicted.angle_loss_weights[p]
            for p, name in enumerate(predicted.coordinates)
            if target.coordinate_mask[frame, p] and name not in skeleton.coupled
        ]
        terms["angle"].append(np.mean(angles))
    means = {name: float(np.mean(values)) for name, values in terms.items()}
    total = sum(getattr(weights, name) * value for name, value in means.items())
    return {**means, "total": total}


def test_loss_equals_the_plain_computation() -> None:
    estimate, target = random_estimate(5), masked_target(5)
    got = d3ke_loss(full_body_head(), estimate, target, LossWeights())
    for name, value in numpy_loss(estimate, target, LossWeights()).items():
        assert got[name].item() == pytest.approx(value, rel=1e-4), name


def test_perfect_estimate_has_no_loss() -> None:
    estimate = random_estimate(2, 6)
    weights = LossWeights(root=1.0, velocity=1.0)
    loss = d3ke_loss(full_body_head(), estimate, target_of(estimate), weights)
    assert loss["total"] < 1e-3


@pytest.mark.parametrize("shape", [(3,), (2, 5)])
def test_masked_labels_do_not_count(shape: tuple[int, ...]) -> None:
    estimate, target = random_estimate(*shape), masked_target(*shape)
    garbage = torch.where(target.coordinate_mask, target.coordinates, torch.nan)
    weights = LossWeights(velocity=1.0 if len(shape) == 2 else 0.0)
    angle = d3ke_loss(full_body_head(), estimate, target, weights)["angle"]
    again = d3ke_loss(full_body_head(), estimate, target._replace(coordinates=garbage), weights)
    torch.testing.assert_close(again["angle"], angle)
    assert all(value.isfinite() for value in again.values())


def test_padding_frames_do_not_count() -> None:
    head, weights = full_body_head(), LossWeights(root=0.01, velocity=1.0)
    estimate, target = random_estimate(1, 4), target_of(random_estimate(1, 4, seed=1))
    pad = [F_pad(values, 2) for values in target[:4]]
    padded_estimate = Estimate(*(F_pad(values, 2) for values in estimate))
    padded = Target(*pad)._replace(valid=torch.tensor([[True] * 4 + [False] * 2]))
    expected = d3ke_loss(head, estimate, target, weights)
    got = d3ke_loss(head, padded_estimate, padded, weights)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)


def F_pad(values: torch.Tensor, frames: int) -> torch.Tensor:  # noqa: N802
    zeros = torch.zeros_like(values[:, :1]).expand(-1, frames, *values.shape[2:])
    return torch.cat([values, zeros], dim=1)


def test_nothing_valid_gives_zero_loss_and_zero_gradient() -> None:
    head = full_body_head()
    raw = torch.randn(2, 3, head.size, requires_grad=True)
    labels = random_estimate(2, 3)
    target = Target(
        coordinates=torch.full_like(labels.coordinates, torch.nan),
        coordinate_mask=torch.zeros_like(labels.coordinates, dtype=torch.bool),
        factors=torch.full_like(labels.factors, torch.nan),
        root_rotation=torch.full_like(labels.root_rotation, torch.nan),
        valid=torch.zeros(2, 3, dtype=torch.bool),
        marker_mask=torch.zeros(2, 3, len(head.skeleton.markers), dtype=torch.bool),
    )
    loss = d3ke_loss(head, head.decode(raw), target, LossWeights(root=1.0, velocity=1.0))
    loss["total"].backward()
    assert loss["total"] == 0
    assert raw.grad is not None
    assert raw.grad.abs().max() == 0


def test_gradient_is_right_by_finite_differences() -> None:
    head = full_body_head()
    torch.manual_seed(0)
    raw, target = torch.randn(2, head.size), masked_target(2)
    weights = LossWeights(root=0.01)

    def total(values: torch.Tensor) -> torch.Tensor:
        return d3ke_loss(head, head.decode(values), target, weights)["total"]

    variable = raw.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(total(variable), variable)
    direction = torch.randn_like(raw)
    step = 2e-3
    numeric = (total(raw + step * direction) - total(raw - step * direction)) / (2 * step)
    assert numeric.item() == pytest.approx((gradient * direction).sum().item(), rel=0.03)


def test_a_constant_offset_costs_no_velocity_but_jitter_does() -> None:
    head = full_body_head()
    still = Estimate(*(v.expand(1, 8, *v.shape[1:]) for v in random_estimate(1)))
    weights = LossWeights(velocity=1.0)
    offset = still._replace(coordinates=still.coordinates + 0.1)
    jitter = still._replace(coordinates=still.coordinates + 0.1 * torch.randn(1, 8, 69))
    assert d3ke_loss(head, offset, target_of(still), weights)["velocity"] < 1e-4
    assert d3ke_loss(head, jitter, target_of(still), weights)["velocity"] > 0.05


def test_angle_loss_is_in_degrees() -> None:
    estimate = random_estimate(2)
    free = full_body_head().free_coordinates
    moved = estimate._replace(coordinates=estimate.coordinates + free * np.deg2rad(5.0))
    weights = LossWeights(range_weighted=False)
    loss = d3ke_loss(full_body_head(), moved, target_of(estimate), weights)
    assert loss["angle"].item() == pytest.approx(5.0, rel=1e-4)


def test_wrong_use_is_refused() -> None:
    estimate = random_estimate(2)
    with pytest.raises(InvalidInputError, match="velocity"):
        d3ke_loss(full_body_head(), estimate, target_of(estimate), LossWeights(velocity=1.0))
    with pytest.raises(InvalidInputError, match="marker"):
        LossWeights(marker=-1.0)
