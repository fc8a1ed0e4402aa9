"""OpenSim functions read into `CoordinateFunction`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from d3ke.errors import InvalidInputError, UnsupportedModelError
from d3ke.skeleton.functions import CoordinateFunction, fit_pieces, from_pieces, polynomial
from d3ke.skeleton.osim_document import one_line

_SPLINES = ("PiecewiseLinearFunction", "SimmSpline", "GCVSpline")
SUPPORTED_FUNCTIONS = (
    "Constant",
    "LinearFunction",
    "MultiplierFunction",
    "PolynomialFunction",
    *_SPLINES,
    "MultivariatePolynomialFunction of one coordinate or of order 1",
)


def read_function(
    opensim: Any,
    function: Any,
    inputs: tuple[int, ...],
    part: str,
    *,
    of_axis: bool,
    remedy: str = "",
) -> CoordinateFunction:
    """The exact form of a function of the coordinates `inputs`.

    An axis (`of_axis`) hands all its coordinates to its function, which uses as many as it
    takes; OpenSim tells a coupler's independent coordinates from the dependent one by the number
    the function takes, so there the two numbers must agree. `part` says where the function is
    used and `remedy` how to do without, for the UnsupportedModelError of what cannot be
    represented.
    """
    kind = function.getConcreteClassName()
    if kind == "MultiplierFunction":
        multiplier = opensim.MultiplierFunction.safeDownCast(function)
        inner = multiplier.getFunction()
        return read_function(opensim, inner, inputs, part, of_axis=of_axis, remedy=remedy).scaled(
            multiplier.getScale()
        )
    try:
        return _Function(opensim, function, inputs, part, of_axis, remedy).read()
    except (InvalidInputError, RuntimeError) as error:
        text = one_line(error) if isinstance(error, RuntimeError) else str(error)
        text = f"The compiler could not recover its pieces: {text} {remedy}".rstrip()
        raise UnsupportedModelError(part, kind, SUPPORTED_FUNCTIONS, text) from error


class _Function:
    """Reads one function that wraps no other."""

    def __init__(
        self,
        opensim: Any,
        function: Any,
        inputs: tuple[int, ...],
        part: str,
        of_axis: bool,
        remedy: str,
    ) -> None:
        self.opensim, self.inputs, self.of_axis = opensim, inputs, of_axis
        self.part, self.remedy = part, remedy
        self.kind = function.getConcreteClassName()
        concrete = getattr(opensim, self.kind, None)
        self.function = function if concrete is None else concrete.safeDownCast(function)

    def read(self) -> CoordinateFunction:
        """Its exact form."""
        if self.kind == "Constant":
            self._take(0)
            return CoordinateFunction(constant=self.value())
        if self.kind == "LinearFunction":
            return self._linear()
        if self.kind == "MultivariatePolynomialFunction":
            return self._multivariate()
        if self.kind == "PolynomialFunction":
            coefficients = _numbers(self.function.getCoefficients(), "size")
            return from_pieces(polynomial(coefficients), self._take(1))
        if self.kind in _SPLINES:
            return self._spline()
        raise self._unsupported(self.kind)

    def _unsupported(
        self, kind: str, supported: Sequence[str] = SUPPORTED_FUNCTIONS
    ) -> UnsupportedModelError:
        return UnsupportedModelError(self.part, kind, supported, self.remedy)

    def value(self, *arguments: float) -> float:
        values = np.array(arguments or (0.0,), dtype=float)
        return float(self.function.calcValue(self.opensim.Vector(values)))

    def _take(self, count: int) -> tuple[int, ...]:
        """The coordinates that a function of `count` arguments uses."""
        given = len(self.inputs)
        if given < count or (given > count and not self.of_axis):
            # OpenSim would couple other coordinates than the coupler names, or crash.
            kind = f"{self.kind} of {given} coordinates"
            raise self._unsupported(kind, [f"a {self.kind} of {count} with these coefficients"])
        return self.inputs[:count]

    def _linear(self) -> CoordinateFunction:
        coefficients = _numbers(self.function.getCoefficients(), "getSize")
        # On an axis the coefficient after the last coordinate's is the constant, whatever follows.
        count = len(self.inputs) if self.of_axis else len(coefficients) - 1
        if len(coefficients) <= count:
            kind = f"LinearFunction of {count} coordinates with {len(coefficients)} coefficients"
            raise self._unsupported(kind, [f"{count + 1} coefficients"])
        return CoordinateFunction(
            inputs=self._take(count),
            slopes=tuple(coefficients[:count]),
            constant=coefficients[count],
        )

    def _multivariate(self) -> CoordinateFunction:
        inputs = self._take(self.function.getDimension())
        if len(inputs) == 1:
            ascending = _numbers(self.function.getCoefficients(), "size")
            return from_pieces(polynomial(ascending[::-1]), inputs)
        if self.function.getOrder() > 1:
            kind = f"{self.kind} of {len(inputs)} coordinates and order {self.function.getOrder()}"
            raise self._unsupported(kind)
        constant = self.value(*np.zeros(len(inputs)))
        slopes = tuple(self.value(*unit) - constant for unit in np.eye(len(inputs)))
        return CoordinateFunction(inputs=inputs, slopes=slopes, constant=constant)

    def _spline(self) -> CoordinateFunction:
        inputs = self._take(1)
        knots = [self.function.getX(index) for index in range(self.function.getNumberOfPoints())]
        if self.kind == "GCVSpline":
            degree = int(self.function.getDegree())
        else:
            degree = 1 if self.kind == "PiecewiseLinearFunction" else 3
        return from_pieces(fit_pieces(self.value, knots, degree), inputs)


def _numbers(array: Any, size: str) -> list[float]:
    return [array.get(index) for index in range(getattr(array, size)())]
