"""Functions of axes and couplers as OpenSim applies them, and those that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import opensim
import pytest
from osim_models import (
    SmallModel,
    constant,
    functions,
    gcv_spline,
    keep,
    largest_error,
    linear,
    linear_of,
    multiplier,
    spline,
)

from d3ke.errors import UnsupportedModelError
from d3ke.skeleton import Skeleton

EXACT = 1e-9  # m or rad; float64 round-off is 1e-14


def _axes(folder: Path, slot: int, function: Any, names: list[str]) -> Path:
    model = SmallModel()
    free = {0: (linear(1.0), ["a"]), 1: (linear(1.0), ["b"])}
    model.custom_joint(free | {slot: (function, names)})
    return model.save(folder)


def _coupler(folder: Path, function: Any, drivers: list[str]) -> Path:
    model = SmallModel()
    model.custom_joint({slot: (linear(1.0), [name]) for slot, name in enumerate("abc")})
    model.coupler("c", drivers, function)
    return model.save(folder)


def _assembled(path: Path) -> list[float]:
    """OpenSim's own a, b and c after it has satisfied the model's constraints."""
    model = opensim.Model(str(path))
    state = model.initSystem()
    coordinates = model.getCoordinateSet()
    for name, value in (("a", 0.5), ("b", 0.7)):
        coordinates.get(name).setValue(state, value, False)
    model.assemble(state)
    return [coordinates.get(name).getValue(state) for name in "abc"]


@pytest.mark.parametrize("slot", [2, 3])
@pytest.mark.parametrize("coefficients", [(1.0, 0.0, 0.2), (1.0, 0.0, 0.0), (1.0, 0.5, 0.0)])
def test_a_translation_of_two_coordinates_scales_as_in_opensim(
    slot: int, coefficients: tuple[float, ...], tmp_path: Path
) -> None:
    # OpenSim takes the first two for "the coordinate itself", which it does not scale.
    path = _axes(tmp_path, slot, linear_of(*coefficients), ["a", "b"])
    assert largest_error(path, poses=10) < EXACT
    assert largest_error(path, poses=10, scaled=True) < EXACT


@pytest.mark.parametrize("name", ["SimmSpline", "PolynomialFunction", "MultiplierFunction"])
@pytest.mark.parametrize("slot", [2, 3])
def test_on_an_axis_a_function_of_one_takes_the_first_coordinate(
    name: str, slot: int, tmp_path: Path
) -> None:
    path = _axes(tmp_path, slot, functions()[name], ["a", "b"])
    assert largest_error(path, poses=10) < EXACT


def test_on_an_axis_coefficients_beyond_the_constant_do_not_count(tmp_path: Path) -> None:
    path = _axes(tmp_path, 2, linear_of(0.5, 0.3, 0.1, 0.9), ["a"])
    assert largest_error(path, poses=10) < EXACT


def test_a_function_without_its_coordinate_is_refused(tmp_path: Path) -> None:
    # OpenSim itself ends the process when it builds this model.
    model = SmallModel()
    model.custom_joint({0: (linear(1.0), ["a"]), 1: (functions()["SimmSpline"], [])})
    model.model.finalizeConnections()
    path = tmp_path / "small.osim"
    model.model.printToXML(str(path))
    with pytest.raises(UnsupportedModelError, match=r"rotation2.*tip_joint.*SimmSpline of 0"):
        Skeleton.from_osim(path)


@pytest.mark.parametrize("name", sorted(functions()))
def test_any_function_couples(name: str, tmp_path: Path) -> None:
    path = _coupler(tmp_path, functions()[name], ["a"])
    assert largest_error(path, poses=10) < EXACT
    skeleton = Skeleton.from_osim(path)
    a, _, c = _assembled(path)
    values = np.zeros(len(skeleton.coordinates))
    values[skeleton.index_of("coordinate", "a")] = a
    assert skeleton.couplers[0].function(values) == pytest.approx(c, abs=1e-7)


@pytest.mark.parametrize(
    "function",
    [
        linear_of(0.5, -0.7, 0.1),
        multiplier(linear_of(0.5, -0.7, 0.1), 1.5),
        keep(
            opensim.MultivariatePolynomialFunction(opensim.Vector(np.array([0.1, 0.2, 0.3])), 2, 1)
        ),
    ],
)
def test_a_coupler_of_two_coordinates(function: Any, tmp_path: Path) -> None:
    path = _coupler(tmp_path, function, ["a", "b"])
    assert largest_error(path, poses=10) < EXACT
    skeleton = Skeleton.from_osim(path)
    a, b, c = _assembled(path)
    values = np.zeros(len(skeleton.coordinates))
    values[skeleton.index_of("coordinate", ["a", "b"])] = a, b
    assert skeleton.couplers[0].function(values) == pytest.approx(c, abs=1e-7)


def test_a_constant_couples_to_no_coordinate(tmp_path: Path) -> None:
    path = _coupler(tmp_path, constant(0.3), [])
    assert largest_error(path, poses=10) < EXACT
    assert _assembled(path)[2] == pytest.approx(0.3, abs=1e-7)


@pytest.mark.parametrize(
    ("function", "drivers"),
    [
        (constant(0.3), ["a"]),  # OpenSim would hold a, not c
        (functions()["SimmSpline"], ["a", "b"]),  # OpenSim would drive b, not c
        (linear_of(0.5, 0.1), ["a", "b"]),
        (linear_of(0.5, -0.7, 0.1, 0.9), ["a", "b"]),
    ],
)
def test_a_coupler_that_opensim_applies_to_another_coordinate_is_refused(
    function: Any, drivers: list[str], tmp_path: Path
) -> None:
    path = _coupler(tmp_path, function, drivers)
    with pytest.raises(UnsupportedModelError, match=r"c_coupler.*allow_ignored=\['c_coupler'\]"):
        Skeleton.from_osim(path)


def _steps() -> Any:
    return spline(opensim.PiecewiseConstantFunction, (-0.5, 0.5), (0.1, 0.3))


@pytest.mark.parametrize(
    ("kind", "function"),
    [
        ("PiecewiseConstantFunction", _steps()),
        ("StepFunction", keep(opensim.StepFunction(0.0, 1.0, 0.0, 1.0))),
        ("Sine", keep(opensim.Sine(1.0, 2.0, 0.0))),
        ("Sine", multiplier(keep(opensim.Sine(1.0, 2.0, 0.0)), 2.0)),
        (
            "MultivariatePolynomialFunction of 2 coordinates and order 2",
            keep(opensim.MultivariatePolynomialFunction(opensim.Vector(6, 0.1), 2, 2)),
        ),
        ("SimmSpline", spline(opensim.SimmSpline, (0.3,), (0.2,))),  # no number in OpenSim
    ],
)
def test_other_functions_are_refused_by_name(kind: str, function: Any, tmp_path: Path) -> None:
    names = ["a", "b"] if kind.startswith("Multivariate") else ["a"]
    path = _axes(tmp_path, 2, function, names)
    with pytest.raises(UnsupportedModelError, match=f"rotation3.*tip_joint.*{kind}.*GCVSpline"):
        Skeleton.from_osim(path)


def test_a_spline_opensim_cannot_evaluate_is_refused_with_its_reason(tmp_path: Path) -> None:
    model = SmallModel()
    short = spline(lambda: gcv_spline(5), (-1.0, 0.0, 1.0), (0.1, 0.3, 0.2))
    model.custom_joint({0: (short, ["a"])})
    model.model.finalizeConnections()
    path = tmp_path / "small.osim"
    model.model.printToXML(str(path))
    with pytest.raises(UnsupportedModelError, match=r"rotation1.*GCVSpline.*Simbody"):
        Skeleton.from_osim(path)
