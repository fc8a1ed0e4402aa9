"""The layer's own adjoint, which is used under torch.compile, against autograd through the tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from osim_models import SHARED, SmallModel, functions, linear
from torch import Tensor

from d3ke.rotations import rotation_6d_to_matrix
from d3ke.skeleton import Pose, SkeletalModelLayer, Skeleton
from d3ke.skeleton.carried import Carried, CarriedRows, Moves
from d3ke.skeleton.rows import Constant

OBLIQUE = np.array([[1.0, 0.3, 0.1], [-0.2, 1.0, 0.4], [0.3, -0.1, 1.0]] * 2)
GENERATOR = torch.Generator().manual_seed(0)


class WithAdjoint:
    """`CarriedRows` as a compiled layer uses them."""

    def __init__(self, rows: CarriedRows) -> None:
        self.rows = rows

    def __call__(self, constant: Constant, moves: Moves) -> Carried:
        return self.rows.compiled(constant, moves)


def reversed_model() -> SmallModel:
    """The inboard body is the child of the joint, which slides along splines."""
    model = SmallModel(base_joint=None)
    model.joint("PinJoint", "to_ground", model.model.getGround(), model.tip)
    slots = {0: (linear(1.0), ["a"]), 1: (functions()["SimmSpline"], ["b"])}
    slots |= {3: (functions()["SimmSpline"], ["a"]), 5: (linear(-2.0), ["c"])}
    model.custom_joint(slots, axes=OBLIQUE)
    return model


def sliding_model() -> SmallModel:
    """Turns and slides driven by the same coordinates, some by couplers."""
    model = SmallModel()
    slots = {0: (linear(1.0), ["a"]), 2: (linear(1.0), ["b"])}
    slots |= {3: (linear(0.7), ["a"]), 4: (functions()["GCVSpline of degree 5"], ["b"])}
    model.custom_joint(slots, axes=OBLIQUE)
    model.coupler("b", ["a"], functions()["PolynomialFunction"])
    return model


def layers(skeleton: Skeleton) -> tuple[SkeletalModelLayer, SkeletalModelLayer]:
    """One by autograd and one with the adjoint."""
    plain, other = SkeletalModelLayer(skeleton), SkeletalModelLayer(skeleton)
    other._rows = WithAdjoint(other._rows)
    return plain, other


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=GENERATOR)


def gradients(layer: SkeletalModelLayer, inputs: list[Tensor], weights: Pose) -> list[Tensor]:
    """By all inputs, of a weighted sum of all that the layer gives."""
    leaves = [part.clone().requires_grad_() for part in inputs]
    pose = layer(*leaves)
    total = torch.stack([(w * p).sum() for w, p in zip(weights, pose, strict=True)]).sum()
    return list(torch.autograd.grad(total, leaves))


def check(skeleton: Skeleton, batch: tuple[int, ...], *, root: bool = False) -> None:
    plain, other = layers(skeleton)
    inputs = [0.6 * numbers(*batch, plain.coordinate_count)]
    inputs.append(0.8 + 0.4 * numbers(*batch, plain.scaled_count, 3).sigmoid())
    if root:
        inputs.append(rotation_6d_to_matrix(numbers(*batch, 6)))
    weights = Pose(*(numbers(*part.shape) for part in plain(*inputs)))
    for count in range(1, len(inputs) + 1):
        found = gradients(other, inputs[:count], weights)
        expected = gradients(plain, inputs[:count], weights)
        for one, two in zip(found, expected, strict=True):
            assert two.abs().max() > 0.01
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12 * float(two.abs().max()))


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_the_built_in_model_with_and_without_a_root_rotation(batch: tuple[int, ...]) -> None:
    check(Skeleton.full_body(), batch, root=True)


@pytest.mark.parametrize("model", [reversed_model, sliding_model])
def test_joints_of_every_direction(model: object, tmp_path: Path) -> None:
    assert callable(model)
    check(Skeleton.from_osim(model().save(tmp_path)), (5,))


@pytest.mark.skipif(not SHARED.exists(), reason="needs the models beside the project")
def test_published_models() -> None:
    files = sorted((SHARED / "opensim-models").rglob("*.osim"))
    assert files
    for file in files:
        check(Skeleton.from_osim(file), (3,))


def test_inputs_of_fewer_frames_are_summed_over() -> None:
    """Scales and a root rotation of a subject, coordinates of many frames."""
    plain, other = layers(Skeleton.full_body())
    inputs = [0.6 * numbers(2, 3, plain.coordinate_count)]
    inputs.append(0.8 + 0.4 * numbers(1, plain.scaled_count, 3).sigmoid())
    inputs.append(rotation_6d_to_matrix(numbers(2, 1, 6)))
    weights = Pose(*(numbers(*part.shape) for part in plain(*inputs)))
    found, expected = (gradients(layer, inputs, weights) for layer in (other, plain))
    for one, two in zip(found, expected, strict=True):
        assert one.shape == two.shape
        torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-11)


def test_only_what_is_asked_for_has_a_gradient() -> None:
    """A root rotation alone, and markers alone."""
    plain, other = layers(Skeleton.full_body())
    coordinates = 0.6 * numbers(4, plain.coordinate_count)
    found = []
    for layer in (plain, other):
        root = rotation_6d_to_matrix(numbers(1, 6) * 0 + torch.arange(6)).requires_grad_()
        markers = layer(coordinates, None, root).markers
        found += torch.autograd.grad(markers.square().sum(), [root])
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-11)


def test_turned_by_nothing_at_zero_angles_and_finite() -> None:
    """The adjoint divides by nothing: at the identity as anywhere."""
    plain, other = layers(Skeleton.full_body())
    inputs = [torch.zeros(1, plain.coordinate_count, dtype=torch.float64)]
    weights = Pose(*(numbers(*part.shape) for part in plain(*inputs)))
    found, expected = (gradients(layer, inputs, weights)[0] for layer in (other, plain))
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
