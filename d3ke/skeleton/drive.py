"""From coordinates to what moves the segments: joint angles and slides, couplers included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3ke.skeleton.couplings import Couplings, Node, affine_table, level_order, piece_table
from d3ke.skeleton.folding import Folding
from d3ke.skeleton.rows import Constant, RowTake, over_batch
from d3ke.skeleton.skeleton import GROUND, Skeleton

AffineTable = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sources [V, K], slopes [V, K] and constants [V] of V values."""


class Drive:
    """Angles [3 S, *B] rad and slides [K, *B] m from coordinates [Q, *B]; scales [N+1, 3, *B].

    Angles are the first axis of every segment, then the second, then the third. *Sources* are the
    coordinates followed by the values of the non-linear functions (nodes). `arrays` belong in a
    PackedConstants.
    """

    tables: dict[str, AffineTable]
    """What the sources are multiplied by: "angle", "slide", "coupled" and "level0" ... (the
    arguments of the nodes of each level)."""

    def __init__(
        self,
        skeleton: Skeleton,
        folding: Folding,
        columns: Mapping[int, int],
        fixed: np.ndarray,
        coupled: Sequence[int] = (),
    ) -> None:
        """Args:
        columns: coordinate -> row of the input; the others keep their value in `fixed` [Q].
        coupled: coordinates whose values `coupled_values` shall give, C.
        """
        count = len(skeleton.coordinates)
        held = {q: float(fixed[q]) for q in range(count) if q not in columns}
        couplings = Couplings(skeleton, held)
        angles = [s.angles[slot] for slot in range(3) for s in folding.segments]
        slides = [slide for segment in folding.segments for slide in segment.slides]
        driven_angles = [couplings.function(function) for function in angles]
        driven_slides = [couplings.function(slide.function) for slide in slides]
        driven_coupled = [couplings.coordinate(index) for index in coupled]
        self.arrays: dict[str, np.ndarray] = {}
        self.tables = {}
        self._takes: dict[str, list[RowTake]] = {}
        self._ground = len(skeleton.bodies)
        position = dict(columns)
        self.levels = level_order(couplings.nodes)
        for level, numbers in enumerate(self.levels):
            nodes = [couplings.nodes[number] for number in numbers]
            self._add_nodes(f"level{level}", nodes, position)
            for number in numbers:
                position[count + number] = len(position)
        self._add_affine("angle", affine_table(driven_angles, position), len(position))
        self._add_affine("slide", affine_table(driven_slides, position), len(position))
        self._add_factor("slide", [s.scale_body for s in slides], [s.weights for s in slides])
        self.slide_count = len(slides)
        self._add_affine("coupled", affine_table(driven_coupled, position), len(position))

    def _add_nodes(self, name: str, nodes: Sequence[Node], position: Mapping[int, int]) -> None:
        table = affine_table([node.argument for node in nodes], position)
        self._add_affine(name, table, len(position))
        breaks, origins, coefficients = piece_table([node.pieces for node in nodes])
        self.arrays[f"{name}_breaks"] = breaks
        self.arrays[f"{name}_origins"] = origins.reshape(-1)
        # [D+1, F pieces]: one power of all functions is one gather.
        powers = np.moveaxis(coefficients, -1, 0)
        self.arrays[f"{name}_coefficients"] = powers.reshape(len(powers), -1)
        rows = np.arange(len(nodes)) * origins.shape[1]
        self.arrays[f"{name}_first_piece"] = rows.astype(np.int64)
        self._add_factor(name, [n.scale_body for n in nodes], [n.weights for n in nodes])

    def _add_affine(self, name: str, table: AffineTable, source_count: int) -> None:
        sources, slopes, constants = self.tables.setdefault(name, table)
        self.arrays[f"{name}_constants"] = constants
        self._takes[name] = []
        for column in np.flatnonzero(slopes.any(0)):
            term = f"{name}_{len(self._takes[name])}"
            take = RowTake(term, sources[:, column], source_count, slopes[:, column] != 0.0)
            self.arrays |= take.arrays | {f"{term}_slopes": slopes[:, column]}
            self._takes[name].append(take)

    def _add_factor(self, name: str, bodies: Sequence[int], weights: Sequence[Any]) -> None:
        rows = [self._ground if body == GROUND else body for body in bodies]
        self.arrays[f"{name}_scale_bodies"] = np.array(rows, dtype=np.int64)
        stacked = np.array(weights, dtype=float).reshape(-1, 3)
        self.arrays[f"{name}_weights"] = stacked
        # Unscaled: a factor of one.
        self.arrays[f"{name}_unscaled"] = (~stacked.any(-1)).astype(float)

    def __call__(
        self, constant: Constant, coordinates: Tensor, scales: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        sources = self.sources(constant, coordinates, scales)
        return self.angles(constant, sources), self.slides(constant, sources, scales)

    def angles(self, constant: Constant, sources: Tensor) -> Tensor:
        """[3 S, *B] rad."""
        return self._affine(constant, "angle", sources)

    def slides(self, constant: Constant, sources: Tensor, scales: Tensor | None) -> Tensor | None:
        """[K, *B] m, or None if nothing slides."""
        if not self.slide_count:
            return None
        slides = self._affine(constant, "slide", sources)
        return slides if scales is None else slides * self.factor(constant, "slide", scales)

    def coupled_values(self, constant: Constant, sources: Tensor) -> Tensor:
        """[C, *B] rad or m: the coordinates asked for as `coupled`."""
        return self._affine(constant, "coupled", sources)

    def _affine(self, constant: Constant, name: str, sources: Tensor) -> Tensor:
        rank = sources.ndim - 1
        value = over_batch(constant(f"{name}_constants"), rank)
        for term, take in enumerate(self._takes[name]):
            slopes = over_batch(constant(f"{name}_{term}_slopes"), rank)
            value = value + take(constant, sources) * slopes
        return value

    def factor(self, constant: Constant, name: str, scales: Tensor) -> Tensor:
        """What scales multiply each slide ("slide") or node ("level0" ...) by, [rows, *B]."""
        rank = scales.ndim - 2
        chosen = scales.index_select(0, constant(f"{name}_scale_bodies"))
        factor = (chosen * over_batch(constant(f"{name}_weights"), rank)).sum(1)
        return factor + over_batch(constant(f"{name}_unscaled"), rank)

    def sources(self, constant: Constant, coordinates: Tensor, scales: Tensor | None) -> Tensor:
        """Coordinates followed by the values of the nodes, level by level."""
        sources = coordinates
        for level in range(len(self.levels)):
            name = f"level{level}"
            x = self._affine(constant, name, sources)
            value = torch.zeros_like(x)
            for power, local in self._pieces(constant, name, x):
                value = value * local + power
            if scales is not None:
                value = value * self.factor(constant, name, scales)
            batch = torch.broadcast_shapes(value.shape[1:], sources.shape[1:])
            sources = torch.cat([sources.expand(-1, *batch), value.expand(-1, *batch)])
        return sources

    def node_slopes(self, constant: Constant, level: int, sources: Tensor) -> Tensor:
        """Derivative of a level's unscaled nodes by their arguments, [nodes, *B]."""
        name = f"level{level}"
        x = self._affine(constant, name, sources)
        value, slope = torch.zeros_like(x), torch.zeros_like(x)
        for power, local in self._pieces(constant, name, x):
            slope = slope * local + value
            value = value * local + power
        return slope

    def _pieces(self, constant: Constant, name: str, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The coefficient of each power, highest first, with the local argument, at x [F, *B]."""
        rank = x.ndim - 1
        piece = (x.unsqueeze(1) >= over_batch(constant(f"{name}_breaks"), rank)).sum(1)
        piece = piece + over_batch(constant(f"{name}_first_piece"), rank)
        local = x - constant(f"{name}_origins")[piece]
        for power in reversed(constant(f"{name}_coefficients").unbind(0)):
            yield power[piece], local
