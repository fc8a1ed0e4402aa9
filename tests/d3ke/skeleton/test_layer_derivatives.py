"""Derivatives of the layer by torch.func and autograd; batches of unusual shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from osim_models import SmallModel, functions, linear
from torch import Tensor
from torch.func import jacfwd, jacrev, jvp, vmap

from d3ke.rotations import rotation_6d_to_matrix
from d3ke.skeleton import Pose, SkeletalModelLayer, Skeleton

SKELETON = Skeleton.full_body()
LAYER = SkeletalModelLayer(SKELETON)
STEP = 1e-5
CLOSE = 1e-8
"""Of central differences: STEP^2 times a third derivative, and round-off over STEP."""
Function = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module", params=["full body", "splines"])
def layer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> SkeletalModelLayer:
    """The built-in model, which is affine but for its rotations, and one with splines."""
    if request.param == "full body":
        return LAYER
    model = SmallModel()
    slots = {0: (functions()["SimmSpline"], ["a"]), 1: (linear(1.0), ["b"])}
    model.custom_joint(slots | {4: (functions()["GCVSpline of degree 5"], ["b"])})
    model.coupler("b", ["a"], functions()["PolynomialFunction"])
    return SkeletalModelLayer(Skeleton.from_osim(model.save(tmp_path_factory.mktemp("model"))))


def _inputs(layer: SkeletalModelLayer, *batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    coordinates = torch.randn(
        *batch, layer.coordinate_count, generator=generator, dtype=torch.float64
    )
    scales = torch.rand(*batch, layer.scaled_count, 3, generator=generator, dtype=torch.float64)
    return 0.4 * coordinates, 0.8 + 0.4 * scales


def _joined(pose: Pose) -> Tensor:
    """[*B, V] all numbers of a pose."""
    features = (2, 2, 3, 2)
    return torch.cat([p.flatten(-f) for p, f in zip(pose, features, strict=True)], -1)


def _as_functions(
    layer: SkeletalModelLayer, coordinates: Tensor, scales: Tensor
) -> dict[str, tuple[Function, Tensor]]:
    """A pose's numbers as a function of one argument [*B, K] each, and where to differentiate."""
    return {
        "coordinates": (lambda q: _joined(layer(q, scales)), coordinates),
        "scales": (
            lambda s: _joined(layer(coordinates, s.unflatten(-1, (-1, 3)))),
            scales.flatten(),
        ),
    }


def _differences(function: Function, at: Tensor) -> Tensor:
    """Jacobian [V, K] at [K] by central differences, all in one batch."""
    steps = STEP * torch.eye(len(at), dtype=at.dtype)
    return ((function(at + steps) - function(at - steps)) / (2 * STEP)).T


@pytest.mark.parametrize("argument", ["coordinates", "scales"])
@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_jacobians_are_those_of_finite_differences(
    layer: SkeletalModelLayer, argument: str, jacobian: Callable[[Function], Function]
) -> None:
    function, at = _as_functions(layer, *_inputs(layer))[argument]
    found = jacobian(function)(at)
    expected = _differences(function, at)
    assert expected.abs().max() > 0.1
    assert (found - expected).abs().max() < CLOSE


def test_jacobian_by_the_root_rotation() -> None:
    coordinates, scales = _inputs(LAYER)

    def function(six: Tensor) -> Tensor:
        return _joined(LAYER(coordinates, scales, rotation_6d_to_matrix(six)))

    at = torch.tensor([0.9, 0.1, -0.3, 0.2, 0.8, 0.4], dtype=torch.float64)
    expected = _differences(function, at)
    assert expected.abs().max() > 0.1
    for jacobian in (jacrev, jacfwd):
        assert (jacobian(function)(at) - expected).abs().max() < CLOSE


def test_jacobians_of_a_batch_by_vmap(layer: SkeletalModelLayer) -> None:
    coordinates, scales = _inputs(layer, 3)

    def function(q: Tensor, s: Tensor) -> Tensor:
        return layer(q, s).markers.flatten()

    found = vmap(jacrev(function, argnums=(0, 1)))(coordinates, scales)
    for row in range(3):
        alone = jacrev(function, argnums=(0, 1))(coordinates[row], scales[row])
        for part, expected in zip(found, alone, strict=True):
            assert (part[row] - expected).abs().max() < 1e-13
        expected = _differences(
            lambda q, s=scales[row]: layer(q, s).markers.flatten(-2), coordinates[row]
        )
        assert (found[0][row] - expected).abs().max() < CLOSE


def test_jvp_of_a_batch(layer: SkeletalModelLayer) -> None:
    at, along = _inputs(layer, 4), _inputs(layer, 4, seed=1)
    value, tangent = jvp(lambda q, s: _joined(layer(q, s)), at, along)
    ahead, behind = (
        _joined(layer(*(a + sign * STEP * d for a, d in zip(at, along, strict=True))))
        for sign in (1, -1)
    )
    assert (value - _joined(layer(*at))).abs().max() == 0.0
    assert tangent.abs().max() > 0.1
    # A step in all directions at once is longer than one in each.
    assert (tangent - (ahead - behind) / (2 * STEP)).abs().max() < 10 * CLOSE


def test_vmap_over_one_argument_only() -> None:
    coordinates, scales = _inputs(LAYER, 3)
    found = vmap(lambda q: LAYER(q, scales[0]).markers)(coordinates)
    assert (found - LAYER(coordinates, scales[0]).markers).abs().max() < 1e-14


def test_second_derivatives_of_the_built_in_model() -> None:
    bodies = SKELETON.index_of("body", ["pelvis", "femur_r"])
    chosen = ("pelvis_tilt", "pelvis_tx", "hip_flexion_r", "knee_angle_r")
    leg = SkeletalModelLayer(
        SKELETON, coordinates=chosen, bodies=["tibia_r"], joints=[], markers=["RKNE", "RANK"]
    )
    coordinates, scales = _inputs(leg, 1)

    def positions(q: Tensor, factors: Tensor) -> Tensor:
        return leg(q, scales.index_copy(-2, torch.from_numpy(bodies), factors)).markers

    arguments = (coordinates, scales[:, bodies].clone())
    assert torch.autograd.gradgradcheck(positions, [a.requires_grad_() for a in arguments])


@pytest.mark.parametrize("layer", ["splines"], indirect=True)
def test_second_derivatives_through_splines(layer: SkeletalModelLayer) -> None:
    arguments = [part.requires_grad_() for part in _inputs(layer, 2)]
    assert torch.autograd.gradgradcheck(lambda q, s: layer(q, s).markers, arguments)


@pytest.mark.parametrize("outer", [jacfwd, jacrev])
@pytest.mark.parametrize("inner", [jacfwd, jacrev])
def test_hessian_in_any_order(outer: Callable[..., Function], inner: Callable[..., Function]):
    chosen = ("pelvis_tilt", "hip_flexion_r", "knee_angle_r")
    leg = SkeletalModelLayer(SKELETON, coordinates=chosen, bodies=[], joints=[], markers=["RANK"])
    at = torch.tensor([0.3, 0.5, -0.8], dtype=torch.float64)

    def height(q: Tensor) -> Tensor:
        return leg(q).markers[..., 0, 1]

    expected = _differences(vmap(jacrev(height)), at)
    assert expected.abs().max() > 0.1
    assert (outer(inner(height))(at) - expected).abs().max() < CLOSE


def test_many_gradients_in_one_backward_pass(layer: SkeletalModelLayer) -> None:
    """Autograd's own vectorisation, which knows fewer operations than torch.func's."""
    coordinates, scales = _inputs(layer)
    found = torch.autograd.functional.jacobian(
        lambda q, s: layer(q, s).markers, (coordinates, scales), vectorize=True
    )
    expected = jacrev(lambda q, s: layer(q, s).markers, argnums=(0, 1))(coordinates, scales)
    for part, other in zip(found, expected, strict=True):
        assert (part - other).abs().max() < 1e-13


def test_all_derivatives_are_finite_at_zero_angles_and_identity() -> None:
    leaves = [
        torch.zeros(LAYER.coordinate_count, dtype=torch.float64),
        torch.ones(LAYER.scaled_count, 3, dtype=torch.float64),
        torch.eye(3, dtype=torch.float64),
    ]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    value = _joined(LAYER(*leaves)).square().sum()
    first = torch.autograd.grad(value, leaves, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
    for gradient in (*first, *second):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 0.0


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
def test_an_empty_batch_gives_an_empty_pose(
    layer: SkeletalModelLayer, batch: tuple[int, ...]
) -> None:
    coordinates, scales = (part.requires_grad_() for part in _inputs(layer, *batch))
    for pose in (layer(coordinates), layer(coordinates, scales), layer(coordinates, scales[:1])):
        assert pose.markers.shape == (*batch, len(layer.markers), 3)
        assert pose.body_rotations.shape == (*batch, len(layer.bodies), 3, 3)
        (gradient,) = torch.autograd.grad(_joined(pose).sum(), coordinates)
        assert gradient.shape == coordinates.shape


def test_an_unbatched_input_is_one_row(layer: SkeletalModelLayer) -> None:
    coordinates, scales = _inputs(layer)
    alone, row = layer(coordinates, scales), layer(coordinates[None], scales[None])
    for part, expected in zip(alone, row, strict=True):
        assert part.shape == expected.shape[1:]
        assert (part - expected[0]).abs().max() < 1e-14


def test_coordinates_and_scales_broadcast_and_gradients_add_up(layer: SkeletalModelLayer) -> None:
    coordinates, scales = _inputs(layer, 4, 1)[0], _inputs(layer, 3, seed=1)[1]
    gradients, values = [], []
    for is_expanded in (False, True):
        q, s = (part.clone().requires_grad_() for part in (coordinates, scales))
        wide = (q.expand(4, 3, -1), s.expand(4, 3, -1, -1)) if is_expanded else (q, s)
        values.append(_joined(layer(*wide)))
        assert values[-1].shape[:2] == (4, 3)
        gradients.append(torch.autograd.grad(values[-1].square().sum(), (q, s)))
    assert (values[0] - values[1]).abs().max() < 1e-14
    # Each pair is what the layer says of it alone.
    assert (values[0][2, 1] - _joined(layer(coordinates[2, 0], scales[1]))).abs().max() < 1e-13
    for found, expected in zip(*gradients, strict=True):
        assert (found - expected).abs().max() < 1e-12 * float(1 + expected.abs().max())


def test_a_gradient_of_some_outputs_is_that_of_a_layer_of_these() -> None:
    coordinates, _ = _inputs(LAYER, 2)
    ankle = SkeletalModelLayer(SKELETON, bodies=[], joints=[], markers=["RANK"])
    row = SKELETON.index_of("marker", "RANK")
    whole = jacrev(lambda q: LAYER(q).markers[:, row].sum(0))(coordinates)
    alone = jacrev(lambda q: ankle(q).markers[:, 0].sum(0))(coordinates)
    assert (whole - alone).abs().max() < 1e-14
    # The arm does not move the ankle.
    assert whole[..., np.asarray(SKELETON.index_of("coordinate", ["elbow_flexion"]))].eq(0).all()
