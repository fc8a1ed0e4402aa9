"""Scalar functions of coordinates: what drives a joint's axes and couples coordinates.

Every OpenSim function the compiler supports becomes one of two exact forms: an affine
combination of coordinates, or a piecewise polynomial of one coordinate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d3ke.errors import InvalidInputError

Array = NDArray[np.float64]

_FIT_TOLERANCE = 1e-11
_LINE_TOLERANCE = 1e-12
_NO_SLOPE = 1e-15
"""Round-off of a fit; 1e-10 m at a coordinate of 1e5."""


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Piecewise polynomial: K breaks make K+1 pieces; piece k covers [breaks[k-1], breaks[k])."""

    breaks: Array
    """[K] ascending; the first and last piece reach to infinity."""
    origins: Array
    """[K+1] point each piece is expanded around."""
    coefficients: Array
    """[K+1, D+1] ascending powers of (x - origin)."""

    def __call__(self, x: Array) -> Array:
        """Values at x [...]."""
        piece = np.searchsorted(self.breaks, x, side="right")
        local = np.asarray(x) - self.origins[piece]
        value = np.zeros_like(local)
        for power in range(self.coefficients.shape[1] - 1, -1, -1):
            value = value * local + self.coefficients[piece, power]
        return np.asarray(value)

    def as_line(self) -> tuple[float, float] | None:
        """(slope, intercept) if all pieces lie on one straight line, else None."""
        if self.coefficients[:, 2:].any():
            return None
        slopes = self.coefficients[:, 1] if self.coefficients.shape[1] > 1 else np.zeros(1)
        slope = float(slopes[0])
        intercepts = self.coefficients[:, 0] - slope * self.origins
        scale = max(1.0, float(np.abs(self.origins).max()))
        if np.ptp(slopes) * scale > _LINE_TOLERANCE or np.ptp(intercepts) > _LINE_TOLERANCE:
            return None
        return (slope if abs(slope) > _NO_SLOPE else 0.0), float(intercepts[0])


@dataclass(frozen=True, kw_only=True)
class CoordinateFunction:
    """slopes . q[inputs] + constant, or pieces(q[inputs[0]]) when `pieces` is given."""

    inputs: tuple[int, ...] = ()
    """Indices of the coordinates it depends on."""
    slopes: tuple[float, ...] = ()
    """Of the affine form; empty with `pieces`."""
    constant: float = 0.0
    """Of the affine form; 0 with `pieces`."""
    pieces: Pieces | None = None
    """Of the non-linear form."""

    @property
    def is_constant(self) -> bool:
        return self.pieces is None and not any(self.slopes)

    def scaled(self, factor: float) -> CoordinateFunction:
        """The function times a number."""
        if self.pieces is None:
            slopes = tuple(factor * slope for slope in self.slopes)
            return CoordinateFunction(
                inputs=self.inputs, slopes=slopes, constant=factor * self.constant
            )
        pieces = Pieces(
            breaks=self.pieces.breaks,
            origins=self.pieces.origins,
            coefficients=self.pieces.coefficients * factor,
        )
        return CoordinateFunction(inputs=self.inputs, pieces=pieces)

    def __call__(self, coordinates: Array) -> Array:
        """Value [...] at coordinates [..., Q]."""
        if self.pieces is not None:
            return self.pieces(coordinates[..., self.inputs[0]])
        driven = coordinates[..., list(self.inputs)] @ np.array(self.slopes)
        return np.asarray(driven + self.constant)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        if self.pieces is None:
            return {"inputs": self.inputs, "slopes": self.slopes, "constant": self.constant}
        arrays = {name: getattr(self.pieces, name).tolist() for name in _PIECE_FIELDS}
        return {"inputs": self.inputs, "pieces": arrays}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CoordinateFunction:
        """Inverse of `to_json`."""
        inputs = tuple(int(index) for index in data["inputs"])
        if "pieces" in data:
            arrays = {name: np.array(data["pieces"][name], dtype=float) for name in _PIECE_FIELDS}
            return cls(inputs=inputs, pieces=Pieces(**arrays))
        return cls(inputs=inputs, slopes=tuple(data["slopes"]), constant=data["constant"])


_PIECE_FIELDS = ("breaks", "origins", "coefficients")


def from_pieces(pieces: Pieces, inputs: tuple[int, ...]) -> CoordinateFunction:
    """A function of one coordinate, in affine form if the pieces lie on one line."""
    line = pieces.as_line()
    if line is None:
        return CoordinateFunction(inputs=inputs, pieces=pieces)
    return CoordinateFunction(inputs=inputs, slopes=line[:1], constant=line[1])


def polynomial(descending: Sequence[float]) -> Pieces:
    """One piece from coefficients in descending powers (OpenSim's PolynomialFunction)."""
    ascending = np.array(descending[::-1], dtype=float)
    return Pieces(breaks=np.zeros(0), origins=np.zeros(1), coefficients=ascending[None])


def fit_pieces(function: Callable[[float], float], knots: Sequence[float], degree: int) -> Pieces:
    """The exact pieces of a spline that can only be evaluated.

    Between knots a polynomial is interpolated at Chebyshev points, in the lowest degree (at most
    `degree`) that reproduces the function at other points inside: at a repeated knot it may
    jump. Beyond each end one of degree (degree - 1) / 2 or 1 if more, as natural splines have,
    is interpolated over twice the knots' span and checked far outside. Raises InvalidInputError
    if the function is no such spline.
    """
    breaks = np.unique(np.array(knots, dtype=float))
    span = max(2 * float(np.ptp(breaks)), 1.0)
    edges = np.concatenate([[breaks[0] - span], breaks, [breaks[-1] + span]])
    outside = max((degree - 1) // 2, 1)
    fits = [
        _fit_interval(function, left, right, range(degree + 1)) for left, right in pairwise(breaks)
    ]
    first = _fit_interval(function, edges[0], edges[1], [outside])
    last = _fit_interval(function, edges[-2], edges[-1], [outside])
    fits = [first, *fits, last]
    coefficients = np.zeros((len(fits), max(len(fit) for fit in fits)))
    for row, fit in zip(coefficients, fits, strict=True):
        row[: len(fit)] = fit
    pieces = Pieces(breaks=breaks, origins=(edges[:-1] + edges[1:]) / 2, coefficients=coefficients)
    for reach in (5 * span, 1000 * span):
        far = np.array([breaks[0] - reach, breaks[-1] + reach])
        expected = np.array([function(x) for x in far])
        error = np.abs(pieces(far) - expected) / np.maximum(1.0, np.abs(expected))
        if not error.max() <= 1e-9:  # not finite, too
            raise InvalidInputError(
                "function beyond its end points", f"is off by {error.max():.2g}"
            )
    return pieces


def _fit_interval(
    function: Callable[[float], float], left: float, right: float, orders: Sequence[int]
) -> Array:
    """Ascending coefficients about the interval's middle, of the first order that fits."""
    middle, half = (left + right) / 2, (right - left) / 2
    checks = np.linspace(-0.98, 0.98, 9)
    expected = np.array([function(middle + half * t) for t in checks])
    error = np.inf
    for order in orders:
        nodes = np.cos(np.pi * (np.arange(order + 1) + 0.5) / (order + 1))
        values = np.array([function(middle + half * t) for t in nodes])
        fit = np.linalg.solve(np.vander(nodes, increasing=True), values)
        error = np.abs(np.polynomial.polynomial.polyval(checks, fit) - expected).max()
        if error <= _FIT_TOLERANCE * max(1.0, np.abs(expected).max()):
            return fit / half ** np.arange(order + 1)
    raise InvalidInputError(
        f"function on [{left:.6g}, {right:.6g}]",
        f"is no polynomial of degree {orders[-1]} (off by {error:.2g})",
    )
