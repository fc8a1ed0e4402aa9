"""Derivatives of what coordinates drive: joint axes and coupled coordinates."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from d3ke.arrays import IntArray
from d3ke.skeleton.drive import Drive
from d3ke.skeleton.rows import Constant


class NodeDerivatives:
    """Derivatives of a drive's non-linear functions (nodes) by F free coordinates.

    `arrays` belong in a PackedConstants.
    """

    def __init__(self, drive: Drive, free: IntArray, coordinate_count: int) -> None:
        """The drive's inputs are all coordinates, in order."""
        self._drive = drive
        column = {int(coordinate): f for f, coordinate in enumerate(free)}
        self.coordinate_count, self.free_count, self.column = coordinate_count, len(free), column
        self.arrays: dict[str, np.ndarray] = {}
        self.support: list[set[int]] = []
        """Per node: the free coordinates it depends on."""
        for level in range(len(drive.levels)):
            sources, slopes, _ = drive.tables[f"level{level}"]
            before = len(self.support)
            direct = np.zeros((len(sources), self.free_count))
            through = np.zeros((len(sources), before))
            for node, (row, weights) in enumerate(zip(sources, slopes, strict=True)):
                self.support.append(set())
                for source, slope in zip(row.tolist(), weights.tolist(), strict=True):
                    if slope == 0.0:
                        continue
                    if source in column:
                        direct[node, column[source]] += slope
                        self.support[-1].add(column[source])
                    elif source >= coordinate_count:
                        through[node, source - coordinate_count] += slope
                        self.support[-1] |= self.support[source - coordinate_count]
            self.arrays[f"level{level}_direct"] = direct
            self.arrays[f"level{level}_through"] = through

    def __call__(self, constant: Constant, sources: Tensor, scales: Tensor | None) -> Tensor | None:
        """[nodes, F, B], or None without nodes."""
        found: list[Tensor] = []
        for level in range(len(self._drive.levels)):
            argument = constant(f"level{level}_direct").unsqueeze(-1)
            if found:
                through = constant(f"level{level}_through")
                argument = argument + torch.einsum("np,pfb->nfb", through, torch.cat(found))
            slope = self._drive.node_slopes(constant, level, sources)
            if scales is not None:
                slope = slope * self._drive.factor(constant, f"level{level}", scales)
            found.append(slope.unsqueeze(1) * argument)
        return torch.cat(found) if found else None


class Coefficients:
    """The non-zero derivatives of the values of one table of a drive, E entries."""

    def __init__(self, name: str, drive: Drive, nodes: NodeDerivatives) -> None:
        """`name`: a key of `Drive.tables`."""
        self._name, self._drive = name, drive
        entries: list[tuple[int, int, float, int]] = []
        sources, slopes, _ = drive.tables[name]
        for value, (row, weights) in enumerate(zip(sources, slopes, strict=True)):
            for source, slope in zip(row.tolist(), weights.tolist(), strict=True):
                if slope == 0.0:
                    continue
                if source in nodes.column:
                    entries.append((value, nodes.column[source], slope, 0))
                elif source >= nodes.coordinate_count:
                    node = source - nodes.coordinate_count
                    for free in sorted(nodes.support[node]):
                        entries.append((value, free, slope, 1 + node * nodes.free_count + free))
        self.values = np.array([value for value, _, _, _ in entries], dtype=np.int64)
        """[E] row of the table."""
        self.coordinates = np.array([free for _, free, _, _ in entries], dtype=np.int64)
        """[E] index among the free coordinates."""
        where = np.array([place for _, _, _, place in entries], dtype=np.int64)
        self._through_nodes = bool(where.any())
        self.arrays = {
            f"{name}_entry_slopes": np.array([slope for _, _, slope, _ in entries], dtype=float),
            f"{name}_entry_nodes": where,
            f"{name}_entry_values": self.values,
        }

    def __call__(self, constant: Constant, nodes: Tensor | None, scales: Tensor | None) -> Tensor:
        """[E, B] or [E, 1]; `nodes` from `NodeDerivatives`."""
        name = self._name
        result = constant(f"{name}_entry_slopes").unsqueeze(-1)
        if self._through_nodes and nodes is not None:
            flat = nodes.flatten(0, 1)
            flat = torch.cat([torch.ones_like(flat[:1]), flat])
            result = result * flat.index_select(0, constant(f"{name}_entry_nodes"))
        if name == "slide" and scales is not None and self._drive.slide_count:
            factor = self._drive.factor(constant, name, scales)
            result = result * factor.index_select(0, constant(f"{name}_entry_values"))
        return result
