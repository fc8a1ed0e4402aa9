"""OpenSim functions read into `CoordinateFunction`."""

from __future__ import annotations

from typing import Any

import numpy as np

from d3ke.errors import D3KEError, UnsupportedModelError
from d3ke.skeleton.functions import CoordinateFunction, Pieces, fit_pieces, from_pieces, polynomial

_SPLINE_DEGREES = {"PiecewiseLinearFunction": 1, "SimmSpline": 3, "GCVSpline": None}
SUPPORTED_FUNCTIONS = (
    "Constant",
    "LinearFunction",
    "MultiplierFunction",
    "PolynomialFunction",
    *_SPLINE_DEGREES,
)


def read_function(
    opensim: Any, function: Any, inputs: tuple[int, ...], part: str
) -> CoordinateFunction:
    """The exact form of a function of the coordinates `inputs`.

    `part` says where it is used, for the UnsupportedModelError of other kinds of function.
    """
    kind = function.getConcreteClassName()
    if kind == "MultiplierFunction":
        multiplier = opensim.MultiplierFunction.safeDownCast(function)
        inner = read_function(opensim, multiplier.getFunction(), inputs, part)
        return inner.scaled(multiplier.getScale())
    if kind == "Constant":
        return CoordinateFunction(constant=_value(opensim, function, [0.0]))
    if kind == "LinearFunction":
        return _linear(opensim, function, inputs)
    if len(inputs) != 1:
        raise UnsupportedModelError(part, f"{kind} of {len(inputs)} coordinates", ["one"])
    if kind == "PolynomialFunction":
        return from_pieces(_polynomial(opensim, function), inputs)
    if kind in _SPLINE_DEGREES:
        return from_pieces(_spline(opensim, function, kind, part), inputs)
    raise UnsupportedModelError(part, kind, SUPPORTED_FUNCTIONS)


def _value(opensim: Any, function: Any, arguments: list[float]) -> float:
    return float(function.calcValue(opensim.Vector(np.array(arguments, dtype=float))))


def _linear(opensim: Any, function: Any, inputs: tuple[int, ...]) -> CoordinateFunction:
    found = opensim.LinearFunction.safeDownCast(function).getCoefficients()
    *slopes, constant = (found.get(i) for i in range(found.getSize()))
    return CoordinateFunction(inputs=inputs, slopes=tuple(slopes[: len(inputs)]), constant=constant)


def _polynomial(opensim: Any, function: Any) -> Pieces:
    found = opensim.PolynomialFunction.safeDownCast(function).getCoefficients()
    return polynomial([found.get(i) for i in range(found.size())])


def _spline(opensim: Any, function: Any, kind: str, part: str) -> Pieces:
    spline = getattr(opensim, kind).safeDownCast(function)
    knots = [spline.getX(index) for index in range(spline.getNumberOfPoints())]
    degree = _SPLINE_DEGREES[kind] or int(spline.getDegree())
    try:
        return fit_pieces(lambda x: _value(opensim, function, [x]), knots, degree)
    except D3KEError as error:
        remedy = f"The compiler could not recover its pieces: {error}"
        raise UnsupportedModelError(part, kind, SUPPORTED_FUNCTIONS, remedy) from error
