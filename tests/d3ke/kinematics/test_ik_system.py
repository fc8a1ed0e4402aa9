"""The normal equations of inverse kinematics against automatic differentiation of the residuals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from d3ke.kinematics.ik_system import MarkerSystem, Targets
from d3ke.skeleton import SkeletalModelLayer, Skeleton

sys.path.append(str(Path(__file__).parents[1] / "skeleton"))
from osim_models import SHARED, SmallModel, functions, linear, linear_of

BATCH = 3
EXACT = 1e-10
FILES = {
    "gait2354": "gait2354/reference_subject01_simbody.osim",
    "rajagopal": "rajagopal/Rajagopal2016.osim",
}
OBLIQUE = [[1, 0.2, 0], [0.1, 1, 0.3], [-0.4, 0, 2], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def planar() -> SmallModel:
    model = SmallModel()
    model.joint("PlanarJoint", "tip_joint", model.base, model.tip)
    return model


def slider() -> SmallModel:
    model = SmallModel(base_joint="FreeJoint")
    model.joint("SliderJoint", "tip_joint", model.base, model.tip)
    return model


def reversed_translations() -> SmallModel:
    """The joint's child, base, is nearer ground: it slides along axes of the outboard body."""
    model = SmallModel(base_joint=None)
    model.joint("PinJoint", "to_ground", model.model.getGround(), model.tip)
    model.custom_joint(
        {
            0: (linear(1.0), ["a"]),
            1: (linear(1.0), ["b"]),
            3: (functions()["SimmSpline"], ["a"]),
            4: (linear(0.7), ["c"]),
        },
        axes=OBLIQUE,
    )
    return model


def coupler_chain() -> SmallModel:
    """c follows b, b follows a and an angle of another joint."""
    model = SmallModel()
    model.custom_joint({slot: (linear(1.0), [name]) for slot, name in enumerate("abc")})
    model.coupler("c", ["b"], functions()["SimmSpline"])
    model.coupler("b", ["a", "base_joint_coord_0"], linear_of(0.5, -0.3, 0.1))
    return model


def spline_translation() -> SmallModel:
    """A coupled coordinate that a spline drives turns and shifts by further splines."""
    model = SmallModel()
    model.custom_joint(
        {
            0: (linear(1.0), ["a"]),
            1: (functions()["SimmSpline"], ["b"]),
            3: (functions()["PolynomialFunction"], ["b"]),
            4: (linear_of(0.2, 0.3, 0.1), ["b", "a"]),
        }
    )
    model.coupler("b", ["a"], functions()["GCVSpline of degree 3"])
    return model


def coupled_slide() -> SmallModel:
    """A dependent translation, which grows with its body."""
    model = SmallModel()
    joint = model.joint("SliderJoint", "tip_joint", model.base, model.tip)
    dependent = joint.get_coordinates(0).getName()
    model.coupler(dependent, ["base_joint_coord_1"], functions()["SimmSpline"])
    return model


SMALL: tuple[Callable[[], SmallModel], ...] = (
    planar,
    slider,
    reversed_translations,
    coupler_chain,
    spline_translation,
    coupled_slide,
)


def published(name: str) -> Skeleton:
    if name == "built-in":
        return Skeleton.full_body()
    path = SHARED / "opensim-models" / FILES[name]
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the repository")
    return Skeleton.from_osim(path)


def free_coordinates(skeleton: Skeleton) -> np.ndarray:
    coupled = skeleton.index_of("coordinate", skeleton.coupled)
    return np.setdiff1d(np.flatnonzero(~skeleton.coordinate_locked), coupled)


def some_tasks(skeleton: Skeleton) -> np.ndarray:
    """Weights [Q] of tasks on two free coordinates and on every other coupled one."""
    weights, free = np.zeros(len(skeleton.coordinates)), free_coordinates(skeleton)
    weights[free[[0, -1]]] = 0.3, 0.7
    weights[skeleton.index_of("coordinate", skeleton.coupled[::2])] = 0.2
    return weights


def some_frames(skeleton: Skeleton, scaled: bool) -> tuple[torch.Tensor, Targets]:
    """Coordinates [Q, B] and what to follow; one marker of one frame is missing."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    count, markers = len(skeleton.coordinates), len(skeleton.markers)
    coordinates = torch.tensor(skeleton.coordinate_defaults)[:, None] + 0.3 * normal(count, BATCH)
    weights = normal(markers, BATCH).square()
    weights[-1, 1] = 0.0
    scales = torch.exp(0.2 * normal(len(skeleton.bodies), 3, BATCH)) if scaled else None
    places = normal(markers, 3, BATCH)
    return coordinates, Targets(places, weights / weights.sum(0), normal(count, BATCH), scales)


def residuals(
    skeleton: Skeleton, system: MarkerSystem, targets: Targets, tasks: np.ndarray, frame: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Weighted residuals [3M + Q] of one frame as a function of coordinates [Q].

    Markers come from SkeletalModelLayer, which shares no code with the Jacobian.
    """
    layer = SkeletalModelLayer(skeleton)
    one = targets.frames(slice(frame, frame + 1))
    scales = None if one.scales is None else one.scales.permute(2, 0, 1)
    marker_roots = one.marker_weights.sqrt()
    task_roots = torch.from_numpy(tasks).sqrt()

    def evaluate(coordinates: torch.Tensor) -> torch.Tensor:
        away = layer(coordinates[None], scales).markers[0] - one.markers[..., 0]
        complete = system.complete(coordinates[:, None], one.scales)[:, 0]
        pulls = task_roots * (complete - one.task_values[:, 0])
        return torch.cat([(marker_roots * away).flatten(), pulls])

    return evaluate


def check_normal_equations(skeleton: Skeleton, scaled: bool) -> None:
    tasks = some_tasks(skeleton)
    system = MarkerSystem(skeleton, free_coordinates(skeleton), tasks)
    coordinates, targets = some_frames(skeleton, scaled)
    found = system(coordinates, targets)
    assert sorted(system.free) == free_coordinates(skeleton).tolist()
    for frame in range(BATCH):
        evaluate = residuals(skeleton, system, targets, tasks, frame)
        values = evaluate(coordinates[:, frame])
        jacobian = torch.func.jacrev(evaluate)(coordinates[:, frame])[:, system.free]
        expected = values @ values, jacobian.T @ values, (jacobian.T @ jacobian).tril()
        for name, part, exact in zip(found._fields, found, expected, strict=True):
            away = float((part[frame] - exact).abs().max())
            assert away < EXACT * max(1.0, float(exact.abs().max())), f"{name} of frame {frame}"


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", ["built-in", *FILES])
def test_normal_equations_of_published_models(name, scaled):
    check_normal_equations(published(name), scaled)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("make", SMALL)
def test_normal_equations_of_small_models(make, scaled, tmp_path):
    check_normal_equations(Skeleton.from_osim(make().save(tmp_path)), scaled)


def check_curvature(skeleton: Skeleton, exact: float) -> None:
    """With the residuals' second derivatives the Hessian is that of half the cost."""
    tasks = some_tasks(skeleton)
    system = MarkerSystem(skeleton, free_coordinates(skeleton), tasks)
    coordinates, targets = some_frames(skeleton, scaled=True)
    free = torch.from_numpy(system.free)
    shares = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    found, plain = system(coordinates, targets, shares), system(coordinates, targets)
    torch.testing.assert_close(found.hessian[1], plain.hessian[1], rtol=0, atol=0)
    for part, expected in zip(found[:2], plain[:2], strict=True):
        torch.testing.assert_close(part, expected, rtol=0, atol=0)
    for frame in (0, 2):
        one = targets.frames(slice(frame, frame + 1))
        at = coordinates[:, frame : frame + 1]

        def half_cost(x: torch.Tensor, at: torch.Tensor = at, one: Targets = one) -> torch.Tensor:
            return 0.5 * system.cost(at.index_copy(0, free, x[:, None]), one)[0]

        torch.testing.assert_close(2.0 * half_cost(at[free, 0]), found.cost[frame])
        expected = torch.func.jacfwd(torch.func.jacrev(half_cost))(at[free, 0]).tril()
        away = (found.hessian[frame] - expected).abs()
        assert away.max() < exact * float(expected.abs().max())
        # It is no small matter: poses are far from their markers.
        assert (plain.hessian[frame] - expected).abs().max() > 0.05 * float(expected.abs().max())


def test_curvature_of_the_built_in_model():
    # shoulder_elv turns three axes of one joint, whose order among them is left out.
    check_curvature(Skeleton.full_body(), exact=1e-2)


@pytest.mark.parametrize("make", [slider, planar])
def test_curvature_of_joints_without_functions(make, tmp_path):
    check_curvature(Skeleton.from_osim(make().save(tmp_path)), exact=1e-10)


def test_locked_coordinates_are_no_columns():
    skeleton = Skeleton.full_body()
    free = free_coordinates(skeleton)[::3]
    every = MarkerSystem(skeleton, free_coordinates(skeleton), np.zeros(len(skeleton.coordinates)))
    some = MarkerSystem(skeleton, free, np.zeros(len(skeleton.coordinates)))
    coordinates, targets = some_frames(skeleton, scaled=False)
    whole, part = every(coordinates, targets), some(coordinates, targets)
    place = [every.free.tolist().index(q) for q in some.free]
    symmetric = whole.hessian + whole.hessian.tril(-1).mT
    chosen = symmetric[:, place][:, :, place].tril()
    torch.testing.assert_close(part.hessian, chosen, rtol=0, atol=EXACT)
    torch.testing.assert_close(part.gradient, whole.gradient[:, place], rtol=0, atol=EXACT)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", ["built-in", *FILES])
def test_markers_are_those_of_the_layer(name, scaled):
    skeleton = published(name)
    system = MarkerSystem(skeleton, free_coordinates(skeleton), some_tasks(skeleton))
    coordinates, targets = some_frames(skeleton, scaled)
    scales = None if targets.scales is None else targets.scales.permute(2, 0, 1)
    expected = SkeletalModelLayer(skeleton)(coordinates.T, scales).markers.permute(1, 2, 0)
    found = system.markers(coordinates, targets.scales)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    # One set of factors for all frames is the same as that set in each.
    if targets.scales is not None:
        first = targets.scales[..., :1]
        torch.testing.assert_close(
            system.markers(coordinates, first),
            system.markers(coordinates, first.expand(-1, -1, BATCH).contiguous()),
            rtol=0,
            atol=1e-14,
        )


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("make", [coupler_chain, spline_translation, coupled_slide])
def test_complete_evaluates_the_couplers(make, scaled, tmp_path):
    skeleton = Skeleton.from_osim(make().save(tmp_path))
    system = MarkerSystem(skeleton, free_coordinates(skeleton), some_tasks(skeleton))
    coordinates, targets = some_frames(skeleton, scaled)
    expected = coordinates.T.numpy().copy()
    for _ in skeleton.couplers:  # as often as the longest chain could be
        for coupler in skeleton.couplers:
            value = coupler.function(expected)
            if targets.scales is not None and any(coupler.scale_weights):
                factors = targets.scales[coupler.scale_body].numpy()
                value = value * (np.array(coupler.scale_weights) @ factors)
            expected[:, coupler.dependent] = value
    found = system.complete(coordinates, targets.scales)
    np.testing.assert_allclose(found.T.numpy(), expected, rtol=0, atol=1e-12)
