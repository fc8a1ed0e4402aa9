"""Coordinates resolved to what drives them: couplers folded into the joints' axes.

Affine couplers, chained or not, vanish into the coefficients of the axes they drive. What is
non-linear becomes a *node*: one value computed at run time and appended to the coordinates, so
that every joint axis is an affine combination of coordinates and nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d3ke.errors import InvalidInputError
from d3ke.skeleton.functions import CoordinateFunction, Pieces
from d3ke.skeleton.skeleton import GROUND, Skeleton

Array = NDArray[np.float64]

_IDENTITY = Pieces(breaks=np.zeros(0), origins=np.zeros(1), coefficients=np.array([[0.0, 1.0]]))


@dataclass(frozen=True, kw_only=True)
class Affine:
    """constant + sum of coefficient x source, over coordinates and nodes."""

    terms: dict[int, float]
    """Source index -> coefficient; node n is source Q + n."""
    constant: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Node:
    """A non-linear value: pieces(argument) x (weights . scale of a body, or 1)."""

    level: int
    """All sources of the argument lie below this level; coordinates are level 0."""
    argument: Affine
    pieces: Pieces
    scale_body: int = GROUND
    weights: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Couplings:
    """Resolves functions of a skeleton's coordinates; `nodes` grows as they need them."""

    def __init__(self, skeleton: Skeleton, held: Mapping[int, float] | None = None) -> None:
        """`held`: coordinates that keep a value, unless a coupler determines them."""
        self.held = {} if held is None else held
        self.count = len(skeleton.coordinates)
        self.names = skeleton.coordinates
        self.couplers = {coupler.dependent: coupler for coupler in skeleton.couplers}
        self.nodes: list[Node] = []
        self._resolved: dict[int, Affine] = {}
        self._open: set[int] = set()
        self._splines: dict[tuple[int, int], Affine] = {}

    def coordinate(self, index: int) -> Affine:
        """A coordinate in terms of free coordinates and nodes."""
        if index not in self.couplers:
            if index in self.held:
                return Affine(terms={}, constant=self.held[index])
            return Affine(terms={index: 1.0})
        if index in self._open:
            raise InvalidInputError(
                f"coordinate {self.names[index]!r}", "its couplers form a circle"
            )
        if index not in self._resolved:
            self._open.add(index)
            self._resolved[index] = self._coupled(index)
            self._open.remove(index)
        return self._resolved[index]

    def _coupled(self, index: int) -> Affine:
        coupler = self.couplers[index]
        value = self.function(coupler.function)
        if not any(coupler.scale_weights):
            return value
        return self._node(value, _IDENTITY, coupler.scale_body, coupler.scale_weights)

    def function(self, function: CoordinateFunction) -> Affine:
        """A function in terms of free coordinates and nodes."""
        if function.pieces is not None:
            key = (id(function.pieces), function.inputs[0])
            if key not in self._splines:
                argument = self.coordinate(function.inputs[0])
                self._splines[key] = self._node(argument, function.pieces)
            return self._splines[key]
        terms: dict[int, float] = {}
        constant = function.constant
        for index, slope in zip(function.inputs, function.slopes, strict=True):
            driver = self.coordinate(index)
            constant += slope * driver.constant
            for source, coefficient in driver.terms.items():
                terms[source] = terms.get(source, 0.0) + slope * coefficient
        return Affine(terms=terms, constant=constant)

    def _node(
        self,
        argument: Affine,
        pieces: Pieces,
        scale_body: int = GROUND,
        weights: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Affine:
        below = [self.nodes[s - self.count].level for s in argument.terms if s >= self.count]
        node = Node(
            level=1 + max(below, default=0),
            argument=argument,
            pieces=pieces,
            scale_body=scale_body,
            weights=weights,
        )
        self.nodes.append(node)
        return Affine(terms={self.count + len(self.nodes) - 1: 1.0})


def level_order(nodes: Sequence[Node]) -> list[list[int]]:
    """Node numbers by level, lowest first."""
    levels = sorted({node.level for node in nodes})
    return [[n for n, node in enumerate(nodes) if node.level == level] for level in levels]


def affine_table(
    values: Sequence[Affine], position: Mapping[int, int]
) -> tuple[NDArray[np.int64], Array, Array]:
    """(sources [V, K], coefficients [V, K], constants [V]); K the most terms of any value.

    `position` says where each source stands in the array they are gathered from.
    """
    width = max((len(value.terms) for value in values), default=0)
    sources = np.zeros((len(values), max(width, 1)), dtype=np.int64)
    coefficients = np.zeros((len(values), max(width, 1)))
    for row, value in enumerate(values):
        for column, (source, coefficient) in enumerate(sorted(value.terms.items())):
            sources[row, column] = position[source]
            coefficients[row, column] = coefficient
    return sources, coefficients, np.array([value.constant for value in values], dtype=float)


def piece_table(pieces: Sequence[Pieces]) -> tuple[Array, Array, Array]:
    """Pieces padded to common shapes: breaks [F, K] (with infinity), origins [F, K+1] and
    coefficients [F, K+1, D+1]."""
    count = max(len(piece.breaks) for piece in pieces)
    order = max(piece.coefficients.shape[1] for piece in pieces)
    breaks = np.full((len(pieces), count), np.inf)
    origins = np.zeros((len(pieces), count + 1))
    coefficients = np.zeros((len(pieces), count + 1, order))
    for row, piece in enumerate(pieces):
        own = len(piece.breaks)
        breaks[row, :own] = piece.breaks
        origins[row, : own + 1] = piece.origins
        coefficients[row, : own + 1, : piece.coefficients.shape[1]] = piece.coefficients
    return breaks, origins, coefficients
