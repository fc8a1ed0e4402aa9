"""The compiler against OpenSim: one small model per joint type, function type and constraint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import opensim
import pytest
from osim_models import (
    SmallModel,
    constant,
    functions,
    keep,
    largest_error,
    linear,
    multiplier,
    vec3,
)

from d3ke.errors import UnsupportedModelError
from d3ke.skeleton import Skeleton

EXACT = 1e-9  # m; float64 round-off is 1e-14

OBLIQUE = [[1, 0.2, 0], [0.1, 1, 0.3], [-0.4, 0, 2], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def _error(model: SmallModel, folder: Path) -> float:
    path = model.save(folder)
    return max(largest_error(path, poses=10), largest_error(path, poses=10, scaled=True))


@pytest.mark.parametrize(
    "kind",
    [
        "WeldJoint",
        "PinJoint",
        "SliderJoint",
        "UniversalJoint",
        "GimbalJoint",
        "BallJoint",
        "PlanarJoint",
        "FreeJoint",
    ],
)
def test_every_joint_type_equals_opensim(kind: str, tmp_path: Path) -> None:
    model = SmallModel()
    model.joint(kind, "tip_joint", model.base, model.tip)
    assert _error(model, tmp_path) < EXACT


@pytest.mark.parametrize("name", sorted(functions()))
@pytest.mark.parametrize("slot", [1, 4])
def test_every_function_drives_an_axis_as_in_opensim(name: str, slot: int, tmp_path: Path) -> None:
    model = SmallModel()
    slots = {0: (linear(1.0), ["a"]), slot: (functions()[name], ["a"])}
    model.custom_joint(slots)
    path = model.save(tmp_path)
    # Coordinates reach from -1.4 to 1.7: both beyond the splines' ends.
    assert largest_error(path, poses=40) < EXACT
    assert largest_error(path, poses=10, scaled=True) < EXACT


def test_splines_are_kept_as_exact_pieces(tmp_path: Path) -> None:
    model = SmallModel()
    spline = functions()["SimmSpline"]
    model.custom_joint({0: (linear(1.0), ["a"]), 3: (spline, ["a"])})
    skeleton = Skeleton.from_osim(model.save(tmp_path))
    compiled = skeleton.functions[skeleton.index_of("joint", "tip_joint")][3]
    assert compiled.pieces is not None
    assert len(compiled.pieces.breaks) == 6
    for x in np.linspace(-6, 6, 501):
        expected = spline.calcValue(opensim.Vector(np.array([x])))
        values = np.full(len(skeleton.coordinates), x)
        assert compiled(values) == pytest.approx(expected, abs=1e-9)


def test_a_straight_spline_becomes_affine(tmp_path: Path) -> None:
    model = SmallModel()
    model.custom_joint({0: (functions()["SimmSpline of two points"], ["a"])})
    skeleton = Skeleton.from_osim(model.save(tmp_path))
    assert skeleton.functions[skeleton.index_of("joint", "tip_joint")][0].pieces is None


def test_oblique_axes_not_of_unit_length(tmp_path: Path) -> None:
    model = SmallModel()
    slots = {0: (linear(1.0), ["a"]), 1: (linear(-0.5, 0.1), ["b"]), 2: (linear(2.0), ["c"])}
    model.custom_joint(slots, axes=OBLIQUE)
    assert _error(model, tmp_path) < EXACT


@pytest.mark.parametrize("kind", ["constant", "multiplied", "sloped", "plain"])
def test_translations_scale_as_in_opensim(kind: str, tmp_path: Path) -> None:
    axes = [*OBLIQUE[:3], [1, 1, 0], [-1, 0.5, 0], [0, 0.2, -2]]
    slots = {
        "constant": {3: (constant(0.2), ()), 4: (constant(-0.1), ()), 5: (constant(0.3), ())},
        "multiplied": {3: (multiplier(linear(1.0), 0.4), ["x"]), 4: (constant(0.1), ())},
        "sloped": {3: (linear(0.3), ["x"]), 4: (linear(1.0, 0.2), ["y"])},
        "plain": {3: (linear(1.0), ["x"]), 5: (linear(1.0), ["z"])},
    }[kind]
    model = SmallModel()
    model.custom_joint({0: (linear(1.0), ["a"])} | slots, axes=axes)
    assert _error(model, tmp_path) < EXACT


def test_one_coordinate_on_several_axes_and_several_on_one(tmp_path: Path) -> None:
    model = SmallModel()
    both = keep(opensim.LinearFunction())
    coefficients = opensim.ArrayDouble()
    for value in (0.5, -0.7, 0.1):
        coefficients.append(value)
    both.setCoefficients(coefficients)
    model.custom_joint({0: (both, ["a", "b"]), 1: (linear(0.3), ["a"]), 4: (linear(0.2), ["b"])})
    assert _error(model, tmp_path) < EXACT


def test_chains_of_offset_frames_on_both_sides(tmp_path: Path) -> None:
    model = SmallModel()

    def chain(body: object, name: str) -> object:
        frame = body
        for number in range(2):
            place = opensim.Transform(
                keep(opensim.Rotation(0.4 + number, opensim.CoordinateAxis(number))),
                vec3((0.1, 0.03, -0.2)),
            )
            frame = keep(opensim.PhysicalOffsetFrame(f"{name}{number}", frame, place))
            body.addComponent(frame)  # type: ignore[attr-defined]
        return frame

    near, far = chain(model.base, "near"), chain(model.tip, "far")
    model.joint("UniversalJoint", "tip_joint", near, far)
    model.marker("framed", far, (0.2, 0.1, 0.3))
    model.marker("grounded", model.model.getGround(), (0.2, 0.1, 0.3))
    assert _error(model, tmp_path) < EXACT


@pytest.mark.parametrize("kind", ["WeldJoint", "GimbalJoint", "PlanarJoint"])
def test_a_joint_whose_child_is_nearer_ground(kind: str, tmp_path: Path) -> None:
    model = SmallModel()
    model.joint(kind, "tip_joint", model.tip, model.base)
    assert _error(model, tmp_path) < EXACT


def test_a_reversed_custom_joint_with_translations(tmp_path: Path) -> None:
    model = SmallModel(base_joint=None)
    model.joint("PinJoint", "to_ground", model.model.getGround(), model.tip)
    model.custom_joint(
        {0: (linear(1.0), ["a"]), 1: (linear(1.0), ["b"]), 3: (functions()["SimmSpline"], ["a"])},
        axes=OBLIQUE,
    )
    assert _error(model, tmp_path) < EXACT


@pytest.mark.parametrize("name", ["SimmSpline", "PolynomialFunction", "SimmSpline of two points"])
@pytest.mark.parametrize("slot", [1, 4])
def test_couplers_and_chains_of_them(name: str, slot: int, tmp_path: Path) -> None:
    model = SmallModel()
    model.custom_joint(
        {0: (linear(1.0), ["a"]), slot: (linear(1.0), ["b"]), 2: (linear(1.0), ["c"])}
    )
    model.coupler("b", ["a"], functions()[name])
    model.coupler("c", ["b"], linear(-3.0, 0.2))
    path = model.save(tmp_path)
    assert Skeleton.from_osim(path).coupled == ("b", "c")
    assert largest_error(path, poses=20) < EXACT
    # OpenSim scales a coupled translation only by factors equal in x, y and z.
    assert largest_error(path, poses=20, scaled=True, uniform=slot >= 3) < EXACT


def test_a_released_coupler_is_listed_not_applied(tmp_path: Path) -> None:
    model = SmallModel()
    model.custom_joint({0: (linear(1.0), ["a"]), 1: (linear(1.0), ["b"])})
    model.coupler("b", ["a"], linear(2.0))
    model.model.getConstraintSet().get(0).set_isEnforced(False)
    skeleton = Skeleton.from_osim(model.save(tmp_path))
    assert skeleton.coupled == ()
    assert skeleton.ignored == ("CoordinateCouplerConstraint b_coupler",)


@pytest.mark.parametrize("kind", ["EllipsoidJoint", "ScapulothoracicJoint"])
def test_what_cannot_be_represented_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    model = SmallModel()
    more: tuple[object, ...] = (vec3((0.1, 0.2, 0.3)),)
    if kind == "ScapulothoracicJoint":
        more += (opensim.Vec2(0.01, 0.02), 0.1)
    model.joint(kind, "odd_joint", model.base, model.tip, *more)
    with pytest.raises(UnsupportedModelError, match=rf"odd_joint.*{kind}.*CustomJoint"):
        Skeleton.from_osim(model.save(tmp_path))
