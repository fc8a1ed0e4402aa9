"""The layer against forward kinematics written the plain way: positions and gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from joint_by_joint import JointByJoint
from osim_models import SmallModel, constant, functions, linear, linear_of
from torch import Tensor

from d3ke.skeleton import Pose, SkeletalModelLayer, Skeleton

EXACT = 1e-12
"""m, or without a unit; a few hundred times the round-off of float64."""
OBLIQUE = [[1, 0.2, 0], [0.1, 1, 0.3], [-0.4, 0, 2], [1, 1, 0], [-1, 0.5, 0], [0, 0.2, -2]]


def _splines() -> SmallModel:
    model = SmallModel()
    model.custom_joint(
        {
            0: (functions()["SimmSpline"], ["a"]),
            1: (functions()["PolynomialFunction"], ["b"]),
            2: (functions()["PiecewiseLinearFunction"], ["a"]),
            3: (functions()["GCVSpline of degree 5"], ["a"]),
            4: (functions()["SimmSpline of uneven knots"], ["b"]),
        }
    )
    return model


def _reversed() -> SmallModel:
    model = SmallModel(base_joint=None)
    model.joint("PinJoint", "to_ground", model.model.getGround(), model.tip)
    model.custom_joint(
        {
            0: (linear(1.0), ["a"]),
            1: (linear(-0.7, 0.2), ["b"]),
            3: (functions()["SimmSpline"], ["a"]),
            4: (constant(0.2), ()),
            5: (linear(0.3), ["c"]),
        },
        axes=OBLIQUE,
    )
    return model


def _couplers() -> SmallModel:
    """A chain of couplers declared backwards, which ends in a translation."""
    model = SmallModel()
    model.custom_joint(
        {0: (linear(1.0), ["a"]), 1: (linear(1.0), ["b"]), 4: (linear(1.0), ["c"])}, axes=OBLIQUE
    )
    model.coupler("c", ["b"], functions()["SimmSpline"])
    model.coupler("b", ["a", "base_joint_coord_0"], linear_of(0.5, -0.3, 0.1))
    return model


def _planar() -> SmallModel:
    model = SmallModel()
    model.joint("PlanarJoint", "tip_joint", model.base, model.tip)
    return model


def _coupled_slide() -> SmallModel:
    """A coupled translation that scales with its body."""
    model = _planar()
    model.coupler("tip_joint_coord_2", ["base_joint_coord_1"], functions()["SimmSpline"])
    return model


def _oblique() -> SmallModel:
    model = SmallModel()
    slots = {slot: (linear(1.0 + slot, 0.1), [name]) for slot, name in enumerate("abcde")}
    model.custom_joint(slots | {5: (constant(0.3), ())}, axes=OBLIQUE)
    return model


_MODELS: dict[str, Callable[[], SmallModel]] = {
    "splines": _splines,
    "reversed": _reversed,
    "couplers": _couplers,
    "planar": _planar,
    "coupled slide": _coupled_slide,
    "oblique": _oblique,
}


@pytest.fixture(scope="module", params=["full body", *_MODELS])
def skeleton(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Skeleton:
    if request.param == "full body":
        return Skeleton.full_body()
    folder: Path = tmp_path_factory.mktemp("model")
    return Skeleton.from_osim(_MODELS[request.param]().save(folder))


def _inputs(skeleton: Skeleton, batch: int) -> tuple[Tensor, Tensor]:
    """Within the ranges, but for a tenth beyond each end; scales of 0.7 to 1.4."""
    generator = torch.Generator().manual_seed(7)
    low, high = torch.from_numpy(np.clip(skeleton.coordinate_ranges, -3, 3)).T
    share = 1.2 * torch.rand(batch, len(low), generator=generator, dtype=torch.float64) - 0.1
    scales = torch.rand(batch, len(skeleton.bodies), 3, generator=generator, dtype=torch.float64)
    return low + (high - low) * share, 0.7 + 0.7 * scales


def _joined(pose: Pose) -> Tensor:
    return torch.cat([part.reshape(len(part), -1) for part in pose], -1)


@pytest.mark.parametrize("is_scaled", [False, True])
def test_layer_equals_the_plain_way(skeleton: Skeleton, is_scaled: bool) -> None:
    coordinates, scales = _inputs(skeleton, 20)
    given = (coordinates, scales) if is_scaled else (coordinates,)
    found, expected = SkeletalModelLayer(skeleton)(*given), JointByJoint(skeleton)(*given)
    for part, oracle in zip(found, expected, strict=True):
        assert part.shape == oracle.shape
        assert (part - oracle).abs().max() < EXACT


@pytest.mark.parametrize("is_scaled", [False, True])
def test_gradients_equal_those_of_the_plain_way(skeleton: Skeleton, is_scaled: bool) -> None:
    coordinates, scales = _inputs(skeleton, 5)
    given = [coordinates, scales] if is_scaled else [coordinates]
    cotangent: Tensor | None = None
    gradients = []
    for compute in (SkeletalModelLayer(skeleton), JointByJoint(skeleton)):
        leaves = [part.clone().requires_grad_() for part in given]
        values = _joined(compute(*leaves))
        if cotangent is None:
            generator = torch.Generator().manual_seed(8)
            cotangent = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        gradients.append(
            torch.autograd.grad((values * cotangent).sum(), leaves, materialize_grads=True)
        )
    for found, expected in zip(*gradients, strict=True):
        assert expected.abs().max() > 0.1
        # A gradient adds up some hundred numbers.
        assert (found - expected).abs().max() < EXACT * (1 + expected.abs().max())
