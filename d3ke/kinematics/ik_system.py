"""The least-squares problem of inverse kinematics and its normal equations, for a batch of frames.

The Jacobian of marker m by a coordinate is that of a screw: w x p_m + v for the segments the
coordinate moves. Instead of forming it, everything a segment carries is summed up the tree once:
the markers' weights as a spatial inertia (10 numbers), their residuals as a force and its products
with the points (12), as in the composite-rigid-body algorithm (Featherstone, Rigid Body Dynamics
Algorithms, 6.2). Entries of J'WJ and J'Wr are then products of six numbers, whatever the number of
markers, and so are those of the residuals' second derivatives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from d3ke.arrays import FloatArray, IntArray
from d3ke.kinematics.ik_coefficients import Coefficients, NodeDerivatives
from d3ke.kinematics.ik_screws import CoordinateScrews, from_root_outwards
from d3ke.skeleton import Skeleton
from d3ke.skeleton.constants import PackedConstants
from d3ke.skeleton.drive import Drive
from d3ke.skeleton.folding import fold
from d3ke.skeleton.layer import offset_rows, with_unit_weights
from d3ke.skeleton.offsets import ScaledOffsets, loaded_offsets
from d3ke.skeleton.rows import Constant, RowSum, RowTake, apply_rows, over_batch
from d3ke.skeleton.tree import LocalFrames, SegmentTree


class Targets(NamedTuple):
    """What the frames shall follow."""

    markers: Tensor
    """[M, 3, B] m, ground frame; anything finite where not measured."""
    marker_weights: Tensor
    """[M, B] 0 where not measured; each frame's sum is 1."""
    task_values: Tensor
    """[Q, B] rad or m, what coordinate tasks aim at."""
    scales: Tensor | None
    """[N, 3, B] or [N, 3, 1] factors on the model as loaded."""

    def frames(self, index: Tensor | slice) -> Targets:
        """Those of some frames."""
        scales = self.scales
        if scales is not None and scales.shape[-1] > 1:
            scales = scales[..., index]
        return Targets(
            self.markers[..., index],
            self.marker_weights[:, index],
            self.task_values[:, index],
            scales,
        )


class NormalEquations(NamedTuple):
    """At coordinates of B frames, by the F free coordinates."""

    cost: Tensor
    """[B] m^2: weighted mean of squared marker distances + coordinate tasks."""
    gradient: Tensor
    """[B, F] half the cost's."""
    hessian: Tensor
    """[B, F, F] half the cost's, as Gauss-Newton has it or with curvature; lower triangle, zero
    above."""


class MarkerSystem(nn.Module):
    """Cost, gradient and Gauss-Newton Hessian of marker distances and coordinate tasks.

    The cost is OpenSim's: sum w |p - o|^2 / sum w + sum c (q - v)^2 (see `ik_opensim`).
    """

    def __init__(self, skeleton: Skeleton, free: IntArray, task_weights: FloatArray) -> None:
        """Args:
        skeleton: with exactly the markers to follow, M.
        free: [F] coordinates to solve for; none of them coupled. `self.free` has their order.
        task_weights: [Q] of coordinate tasks, m^2/rad^2 or m^2/m^2; 0 = no task.
        """
        super().__init__()
        selection: tuple[IntArray, ...] = (
            np.zeros(0, dtype=np.int64),
            np.zeros(0, dtype=np.int64),
            np.arange(len(skeleton.markers)),
        )
        folding = fold(skeleton).selected(*selection)
        loaded = fold(with_unit_weights(skeleton)).selected(*selection)
        count = len(skeleton.coordinates)
        self.coupled = [coupler.dependent for coupler in skeleton.couplers]
        columns = {q: q for q in range(count)}
        self._drive = Drive(skeleton, folding, columns, skeleton.coordinate_defaults, self.coupled)
        self._tree = SegmentTree(folding)
        self._offsets = ScaledOffsets(offset_rows(folding), len(skeleton.bodies))
        given = NodeDerivatives(self._drive, free, count)
        self.free = free[from_root_outwards(self._drive, folding, given)]
        self._nodes = NodeDerivatives(self._drive, self.free, count)
        self._screws = CoordinateScrews(self._drive, folding, self._nodes)
        self._coupled_slopes = Coefficients("coupled", self._drive, self._nodes)
        self._take_markers = RowTake("markers", folding.marker_segments, self._tree.count)
        self._sum_markers = RowSum("markers_of", folding.marker_segments, self._tree.count)
        self.has_tasks = bool(task_weights[free].any())
        self.has_coupled_tasks = bool(task_weights[self.coupled].any())
        parts = (self._tree, self._drive, self._offsets, self._nodes, self._screws)
        more = (self._coupled_slopes, self._take_markers, self._sum_markers)
        arrays = {
            "loaded_offsets": loaded_offsets(offset_rows(loaded)),
            "free": self.free,
            "coupled_index": np.array(self.coupled, dtype=np.int64),
            "carried": folding.ancestry.T.astype(float),
            "task_weights": task_weights,
            "coupled_entry_place": self._coupled_slopes.values * len(free)
            + self._coupled_slopes.coordinates,
        }
        for part in (*parts, *more):
            arrays |= part.arrays
        self.constants = PackedConstants(arrays)
        self._named: dict[tuple[torch.dtype, torch.device], Constant] = {}

    def markers(self, coordinates: Tensor, scales: Tensor | None = None) -> Tensor:
        """[M, 3, B] m, ground frame, at coordinates [Q, B] (coupled ones are ignored)."""
        return self._pose(self._constant(coordinates), coordinates, scales).points

    def complete(self, coordinates: Tensor, scales: Tensor | None = None) -> Tensor:
        """Coordinates [Q, B] with the coupled ones as their drivers determine them."""
        if not self.coupled:
            return coordinates
        constant = self._constant(coordinates)
        padded, _ = self._scaled(constant, scales)
        sources = self._drive.sources(constant, coordinates, padded)
        complete = coordinates.clone()
        values = self._drive.coupled_values(constant, sources)
        complete[self.coupled] = values.expand(-1, coordinates.shape[1])
        return complete

    def cost(self, coordinates: Tensor, targets: Targets) -> Tensor:
        """[B] m^2 at coordinates [Q, B]: the normal equations' cost, for a fraction of the work."""
        constant = self._constant(coordinates)
        pose = self._pose(constant, coordinates, targets.scales)
        residuals = pose.points - targets.markers
        cost = (targets.marker_weights * residuals.square().sum(1)).sum(0)
        if self.has_tasks:
            weights, away = self._tasks(constant, coordinates, targets)
            cost = cost + (weights * away.square()).sum(1)
        if self.has_coupled_tasks:
            weights, away = self._coupled_tasks(constant, pose.sources, targets)
            cost = cost + (weights.unsqueeze(-1) * away.square()).sum(0)
        return cost

    def forward(
        self, coordinates: Tensor, targets: Targets, curvature: Tensor | None = None
    ) -> NormalEquations:
        """The normal equations at coordinates [Q, B] rad or m.

        `curvature` [B]: how much of the residuals' second derivatives the Hessian contains; 0 or
        None is Gauss-Newton's, 1 Newton's own (but for functions that drive axes or couple).
        """
        constant = self._constant(coordinates)
        pose = self._pose(constant, coordinates, targets.scales)
        sources, scales, points = pose.sources, pose.scales, pose.points
        nodes = self._nodes(constant, sources, scales)
        screws = self._screws(constant, pose.local, pose.rotations, pose.positions, nodes, scales)
        residuals = points - targets.markers
        pulls = targets.marker_weights.unsqueeze(1) * residuals
        cost = (pulls * residuals).sum((0, 1))
        segments = self._sum_markers(constant, _carried(points, targets.marker_weights, pulls))
        # Each segment with all that it carries.
        carried = (constant("carried") @ segments.flatten(1)).view_as(segments)
        gradient, hessian = self._screws.reduce(constant, screws, carried, curvature)
        system = NormalEquations(cost, gradient, hessian)
        if self.has_tasks:
            system = self._add_tasks(constant, system, coordinates, targets)
        if self.has_coupled_tasks:
            slopes = self._coupled_slopes(constant, nodes, scales)
            system = self._add_coupled_tasks(constant, system, sources, slopes, targets)
        return system

    def _tasks(
        self, constant: Constant, coordinates: Tensor, targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """Weights [F] of the free coordinates' tasks and how far off these are [B, F]."""
        free = constant("free")
        away = (coordinates - targets.task_values).index_select(0, free).T
        return constant("task_weights").index_select(0, free), away

    def _coupled_tasks(
        self, constant: Constant, sources: Tensor, targets: Targets
    ) -> tuple[Tensor, Tensor]:
        """Weights [C] of the coupled coordinates' tasks and how far off these are [C, B]."""
        index = constant("coupled_index")
        values = self._drive.coupled_values(constant, sources)
        away = (values - targets.task_values.index_select(0, index)).expand(-1, sources.shape[1])
        return constant("task_weights").index_select(0, index), away

    def _add_tasks(
        self, constant: Constant, system: NormalEquations, coordinates: Tensor, targets: Targets
    ) -> NormalEquations:
        weights, away = self._tasks(constant, coordinates, targets)
        cost = system.cost + (weights * away.square()).sum(1)
        system.hessian.diagonal(dim1=-2, dim2=-1).add_(weights)
        return NormalEquations(cost, system.gradient + weights * away, system.hessian)

    def _add_coupled_tasks(
        self,
        constant: Constant,
        system: NormalEquations,
        sources: Tensor,
        slopes: Tensor,
        targets: Targets,
    ) -> NormalEquations:
        weights, away = self._coupled_tasks(constant, sources, targets)
        count, batch = away.shape
        jacobian = slopes.new_zeros(count * len(self.free), batch)
        jacobian.index_add_(
            0, constant("coupled_entry_place"), slopes.expand(-1, batch).contiguous()
        )
        jacobian = jacobian.unflatten(0, (count, len(self.free))).permute(2, 0, 1)
        weighted = weights.unsqueeze(-1) * jacobian
        cost = system.cost + (weights.unsqueeze(-1) * away.square()).sum(0)
        gradient = system.gradient + torch.einsum("bcf,cb->bf", weighted, away)
        return NormalEquations(cost, gradient, system.hessian + (weighted.mT @ jacobian).tril())

    def _constant(self, like: Tensor) -> Constant:
        """The arrays by name. Some hundred views, kept from call to call for their time counts."""
        key = like.dtype, like.device
        if key not in self._named:
            self._named[key] = self.constants.every(like.dtype).__getitem__
        return self._named[key]

    def _scaled(self, constant: Constant, scales: Tensor | None) -> tuple[Tensor | None, Tensor]:
        if scales is None:
            return None, over_batch(constant("loaded_offsets"), 1)
        return torch.cat([scales, torch.ones_like(scales[:1])]), self._offsets(constant, scales)

    def _pose(self, constant: Constant, coordinates: Tensor, scales: Tensor | None) -> _Pose:
        padded, offsets = self._scaled(constant, scales)
        sources = self._drive.sources(constant, coordinates, padded)
        angles = self._drive.angles(constant, sources)
        slides = self._drive.slides(constant, sources, padded)
        local = self._tree.local_frames(constant, angles, slides, offsets)
        rotations, positions = self._tree.walk(constant, local.rotations, local.positions)
        carriers = self._take_markers(constant, rotations)
        turned = apply_rows(carriers, offsets[2 * self._tree.count :])
        points = turned + self._take_markers(constant, positions)
        return _Pose(sources, padded, local, rotations, positions, points)


class _Pose(NamedTuple):
    sources: Tensor
    """[Q + nodes, B]; see `Drive`."""
    scales: Tensor | None
    """[N+1, 3, B], ground last."""
    local: LocalFrames
    rotations: Tensor
    """[S, 3, 3, B]"""
    positions: Tensor
    """[S, 3, B] m"""
    points: Tensor
    """[M, 3, B] m"""


def _carried(points: Tensor, weights: Tensor, pulls: Tensor) -> Tensor:
    """[M, 22, B] what each marker adds to its segment; see `ik_screws`."""
    x, y, z = points.unbind(1)
    weighted = weights.unsqueeze(1) * points
    wx, wy, wz = weighted.unbind(1)
    second = [wy * y + wz * z, wx * x + wz * z, wx * x + wy * y, -wx * y, -wx * z, -wy * z]
    dyads = (points.unsqueeze(2) * pulls.unsqueeze(1)).flatten(1, 2)
    return torch.cat([weights.unsqueeze(1), weighted, torch.stack(second, 1), pulls, dyads], 1)
