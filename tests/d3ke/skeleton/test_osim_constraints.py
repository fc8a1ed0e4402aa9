"""Couplers in any order, and constraints that are listed or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import opensim
import pytest
from osim_models import SmallModel, functions, keep, largest_error, linear, linear_of, vec3

from d3ke.errors import InvalidInputError, UnknownNameError, UnsupportedModelError
from d3ke.skeleton import Skeleton

EXACT = 1e-9  # m or rad


def _three_coordinates() -> SmallModel:
    model = SmallModel()
    model.custom_joint({slot: (linear(1.0), [name]) for slot, name in enumerate("abc")})
    return model


def test_a_chain_of_couplers_declared_backwards(tmp_path: Path) -> None:
    model = _three_coordinates()
    model.coupler("c", ["b"], functions()["SimmSpline"])
    model.coupler("b", ["a", "base_joint_coord_0"], linear_of(0.5, -0.3, 0.1))
    path = model.save(tmp_path)
    assert Skeleton.from_osim(path).coupled == ("c", "b")
    assert largest_error(path, poses=20) < EXACT
    assert largest_error(path, poses=20, scaled=True) < EXACT


def test_spline_axes_of_coupled_coordinates(tmp_path: Path) -> None:
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
    path = model.save(tmp_path)
    assert largest_error(path, poses=20) < EXACT
    assert largest_error(path, poses=20, scaled=True) < EXACT


@pytest.mark.parametrize("kind", ["SliderJoint", "PlanarJoint", "FreeJoint"])
def test_a_coupled_translation_of_a_simple_joint_scales(kind: str, tmp_path: Path) -> None:
    model = SmallModel()
    joint = model.joint(kind, "tip_joint", model.base, model.tip)
    dependent = joint.get_coordinates(joint.numCoordinates() - 1).getName()
    model.coupler(dependent, ["base_joint_coord_1"], functions()["SimmSpline"])
    path = model.save(tmp_path)
    assert largest_error(path, poses=20) < EXACT
    # OpenSim scales a coupled translation only by factors equal in x, y and z.
    assert largest_error(path, poses=20, scaled=True, uniform=True) < EXACT


def test_two_couplers_of_one_coordinate_are_refused(tmp_path: Path) -> None:
    model = _three_coordinates()
    model.coupler("c", ["a"], linear(1.0))
    model.coupler("c", ["b"], linear(2.0))
    path = model.save(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"second coupler.*'c'.*allow_ignored"):
        Skeleton.from_osim(path)


@pytest.mark.parametrize("links", [["ca", "ac"], ["aa"], ["ab", "bc", "ca"]])
def test_a_circle_of_couplers_is_refused(links: list[str], tmp_path: Path) -> None:
    model = _three_coordinates()
    for dependent, driver in links:
        model.coupler(dependent, [driver], linear(0.5, 0.1))
    path = model.save(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"_coupler' is a circle.*allow_ignored"):
        Skeleton.from_osim(path)


def _tie(kind: str, first: Any, second: Any) -> Any:
    if kind == "WeldConstraint":
        place = opensim.Transform()
        return keep(opensim.WeldConstraint("tie", first, place, second, place))
    points = opensim.Vec3(0.0), opensim.Vec3(0.1)
    if kind == "ConstantDistanceConstraint":
        tie = opensim.ConstantDistanceConstraint(first, points[0], second, points[1], 0.3)
    elif kind == "PointConstraint":
        tie = opensim.PointConstraint(first, points[0], second, points[1])
    else:
        tie = opensim.PointOnLineConstraint(first, vec3((1, 0, 0)), points[0], second, points[1])
    tie.setName("tie")
    return keep(tie)


_TIES = ["WeldConstraint", "PointConstraint", "ConstantDistanceConstraint", "PointOnLineConstraint"]


def _save(model: SmallModel, folder: Path) -> Path:
    """Without assembling: a rigid body cannot be brought to satisfy its constraints."""
    model.model.finalizeConnections()
    path = folder / "small.osim"
    model.model.printToXML(str(path))
    return path


@pytest.mark.parametrize("kind", _TIES)
def test_a_constraint_within_a_rigid_chain_is_listed(kind: str, tmp_path: Path) -> None:
    model = SmallModel()
    model.custom_joint({3: (keep(opensim.Constant(0.2)), ())})  # welds base and tip
    model.model.addConstraint(_tie(kind, model.base, model.tip))
    assert Skeleton.from_osim(_save(model, tmp_path)).ignored == (f"{kind} tie",)


@pytest.mark.parametrize("kind", _TIES)
@pytest.mark.parametrize("loose", [False, True])
def test_a_constraint_between_moving_bodies_is_refused_wherever_it_sits(
    kind: str, loose: bool, tmp_path: Path
) -> None:
    model = SmallModel()
    model.joint("PinJoint", "tip_joint", model.base, model.tip)
    tie = _tie(kind, model.model.getGround(), model.tip)
    if loose:
        model.model.addComponent(tie)
    else:
        model.model.addConstraint(tie)
    path = _save(model, tmp_path)
    with pytest.raises(UnsupportedModelError, match=rf"'tie' is a {kind}.*\['tie'\]"):
        Skeleton.from_osim(path)
    for allowed in (["tie"], "tie"):
        assert Skeleton.from_osim(path, allow_ignored=allowed).ignored == (f"{kind} tie",)


def test_a_loop_of_joints_is_refused_by_the_joint_that_closes_it(tmp_path: Path) -> None:
    model = SmallModel()
    model.joint("PinJoint", "tip_joint", model.base, model.tip)
    model.joint("PinJoint", "second_joint", model.model.getGround(), model.tip)
    path = _save(model, tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"'second_joint'.*PinJoint.*loop"):
        Skeleton.from_osim(path)


def test_allow_ignored_takes_names_of_constraints_only(tmp_path: Path) -> None:
    model = _three_coordinates()
    model.coupler("c", ["a"], linear(1.0))
    path = model.save(tmp_path)
    with pytest.raises(UnknownNameError, match=r"'c_couplr'.*Did you mean 'c_coupler'"):
        Skeleton.from_osim(path, allow_ignored=["c_couplr"])
    assert Skeleton.from_osim(path, allow_ignored=["c_coupler"]).coupled == ()
    path = _three_coordinates().save(tmp_path)
    with pytest.raises(InvalidInputError, match=r"'tie'.*no constraints"):
        Skeleton.from_osim(path, allow_ignored=["tie"])


def test_a_coupler_of_a_name_that_several_joints_have_is_refused(tmp_path: Path) -> None:
    model = SmallModel()
    joint = model.joint("PinJoint", "tip_joint", model.base, model.tip)
    joint.upd_coordinates(0).setName("base_joint_coord_0")
    model.coupler("base_joint_coord_1", ["base_joint_coord_0"], linear(1.0))
    path = _save(model, tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"base_joint_coord_0.*several joints"):
        Skeleton.from_osim(path)
