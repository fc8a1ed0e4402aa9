"""What the segments of a skeleton carry, in ground, and the adjoint of that.

The adjoint needs no walk back through the products of the tree: the gradients of all points that
a segment carries, down to the tips, are summed up as a spatial force (a moment about ground's
origin and a force). An angle's gradient is the moment about its axis and a slide's the force along
it, which is the product of the geometric Jacobian with the gradient (Featherstone, Rigid Body
Dynamics Algorithms, 4.5).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from d3ke.skeleton.folding import Folding
from d3ke.skeleton.joint_axes import JointAxes
from d3ke.skeleton.rows import Constant, RowTake, apply_rows, multiply_rows, over_batch
from d3ke.skeleton.tree import LocalFrames, SegmentTree


class Moves(NamedTuple):
    """What places S segments and what they carry: with K slides, P points, N bodies."""

    angles: Tensor
    """[3 S, *B] rad"""
    slides: Tensor | None
    """[K, *B] m"""
    offsets: Tensor
    """[2 S + P, 3, *B] m: joint origins in the inboard segments and in the outboard ones, points
    in theirs"""
    root: Tensor | None
    """[3, 3, *B] the root segment's rotation in place of its angles"""


_FEATURES = (1, 1, 2, 2)
"""Axes before the batch."""


class Carried(NamedTuple):
    """In ground: P points, which are the origins of the bodies, those of the joints' child frames
    and the markers, and the rotations of N bodies."""

    points: Tensor
    """[P, 3, *B] m"""
    body_rotations: Tensor
    """[N, 3, 3, *B]"""


class Kept(NamedTuple):
    """What the adjoint needs of the way there."""

    rotations: Tensor
    """[S, 3, 3, *B] of the segments"""
    positions: Tensor
    """[S, 3, *B] m"""
    joint_origins: Tensor
    """[S, 3, *B] m, in the inboard segment"""
    second_axes: Tensor
    """[S, 3, *B] in the inboard segment"""


class CarriedRows:
    """Points and body rotations from angles, slides and offsets; `arrays` belong in a
    PackedConstants."""

    def __init__(self, folding: Folding) -> None:
        self.tree = SegmentTree(folding)
        self._axes = JointAxes(folding)
        rows = [folding.body_segments, folding.joint_segments, folding.marker_segments]
        points = np.concatenate(rows)
        self._take_points = RowTake("points", points, self.tree.count)
        self._take_bodies = RowTake("bodies", folding.body_segments, self.tree.count)
        self._root = folding.root_segment
        self._root_parent = folding.segments[self._root].parent
        carried = folding.ancestry.astype(float)
        self.arrays: dict[str, np.ndarray] = {
            "body_rotations": folding.body_rotations,
            "carried": carried.T,
            "not_root": (np.arange(self.tree.count) != self._root).astype(float),
            "root_points": carried[points, self._root],
            "root_bodies": carried[folding.body_segments, self._root],
        }
        self.arrays |= self.tree.arrays | self._axes.arrays
        self.arrays |= self._take_points.arrays | self._take_bodies.arrays

    def __call__(self, constant: Constant, moves: Moves) -> Carried:
        return self._placed(constant, moves)[0]

    def compiled(self, constant: Constant, moves: Moves) -> Carried:
        """The same with the adjoint above, under torch.compile: first derivatives by autograd.

        That of `root` is exact where it is a rotation matrix.
        """
        both = list(zip(moves, _FEATURES, strict=True))
        batch = torch.broadcast_shapes(*(p.shape[f:] for p, f in both if p is not None))
        # Gradients come for the whole batch; autograd sums them where one was broadcast.
        whole = [
            part if part is None or not part.requires_grad else part.expand(*part.shape[:f], *batch)
            for part, f in both
        ]
        return Carried(*_WithAdjoint.apply(self, constant, *whole))

    def with_kept(self, constant: Constant, moves: Moves) -> tuple[Carried, Kept]:
        """The same, and what the adjoint needs."""
        carried, local, rotations, positions = self._placed(constant, moves)
        second = self._axes.second(constant, local)
        return carried, Kept(rotations, positions, local.joint_origins, second)

    def _placed(
        self, constant: Constant, moves: Moves
    ) -> tuple[Carried, LocalFrames, Tensor, Tensor]:
        """What is carried; segments in the inboard ones; their rotations and positions."""
        tree = self.tree
        local = tree.local_frames(constant, *moves)
        rotations, positions = tree.walk(constant, local.rotations, local.positions)
        carriers = self._take_points(constant, rotations)
        points = apply_rows(carriers, moves.offsets[2 * tree.count :])
        points = points + self._take_points(constant, positions)
        carriers = self._take_bodies(constant, rotations)
        fixed = over_batch(constant("body_rotations"), rotations.ndim - 3)
        carried = Carried(points, multiply_rows(carriers, fixed))
        return carried, local, rotations, positions

    def wrench(self, constant: Constant, carried: Carried, by: Carried) -> tuple[Tensor, Tensor]:
        """Moment about ground's origin and force, [S, 3, *B] each: the gradients `by` what is
        carried, summed over all that a segment carries."""
        moments = torch.linalg.cross(carried.points, by.points, dim=1)
        own = self._take_points.gradient(constant, torch.cat([moments, by.points], 1))
        spins = torch.linalg.cross(carried.body_rotations, by.body_rotations, dim=1).sum(2)
        spins = self._take_bodies.gradient(constant, spins)
        own = torch.cat([own[:, :3] + spins, own[:, 3:]], 1)
        carries = over_batch(constant("carried"), own.ndim - 1)
        return (carries * own.unsqueeze(0)).sum(1).split(3, 1)

    def by_angles(
        self, constant: Constant, kept: Kept, moment: Tensor, force: Tensor, has_root: bool
    ) -> Tensor:
        """[3 S, *B]; zero for the root's angles in whose place a rotation was given."""
        axes = self._axes.turning(constant, kept.second_axes, kept.rotations)
        torques = moment - torch.linalg.cross(self._origins(constant, kept), force, dim=1)
        angles = (axes.unflatten(0, (3, self.tree.count)) * torques).sum(2)
        if has_root:
            angles = angles * over_batch(constant("not_root"), angles.ndim - 2)
        return angles.flatten(0, 1)

    def by_slides(self, constant: Constant, kept: Kept, force: Tensor) -> Tensor:
        """[K, *B]"""
        along = self._axes.sliding(constant, kept.rotations)
        return (along * force.index_select(0, constant("slide_segments"))).sum(1)

    def by_offsets(self, constant: Constant, kept: Kept, force: Tensor, by: Tensor) -> Tensor:
        """[2 S + P, 3, *B], from forces and the gradient by the points."""
        turned = kept.rotations.transpose(1, 2)
        inboard = turned.index_select(0, constant("parents"))
        carriers = turned.index_select(0, constant("points_index"))
        origins = apply_rows(inboard, force), -apply_rows(turned, force)
        return torch.cat([*origins, apply_rows(carriers, by)])

    def by_root(
        self, constant: Constant, carried: Carried, kept: Kept, force: Tensor, by: Carried
    ) -> Tensor:
        """[3, 3, *B], in all nine directions."""
        root, rank = self._root, force.ndim - 2
        arms = carried.points - self._origins(constant, kept)[root]
        arms = arms * over_batch(constant("root_points"), rank + 1)
        turned = carried.body_rotations * over_batch(constant("root_bodies"), rank + 2)
        dyad = (by.points.unsqueeze(2) * arms.unsqueeze(1)).sum(0)
        dyad = dyad + multiply_rows(by.body_rotations, turned.transpose(1, 2)).sum(0)
        parent = kept.rotations[self._root_parent].transpose(0, 1)
        parts = parent.unsqueeze(0), dyad.unsqueeze(0), kept.rotations[root].unsqueeze(0)
        return multiply_rows(multiply_rows(parts[0], parts[1]), parts[2])[0]

    def _origins(self, constant: Constant, kept: Kept) -> Tensor:
        return self._axes.origins(constant, kept.joint_origins, kept.rotations, kept.positions)


class _WithAdjoint(torch.autograd.Function):
    """`CarriedRows` with its own adjoint."""

    @staticmethod
    def forward(
        ctx: Any, rows: CarriedRows, constant: Constant, *parts: Any
    ) -> tuple[Tensor, Tensor]:
        moves = Moves(*parts)
        carried, kept = rows.with_kept(constant, moves)
        ctx.save_for_backward(*carried, *kept)
        ctx.rows, ctx.constant, ctx.has_root = rows, constant, moves.root is not None
        return carried.points, carried.body_rotations

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        rows, constant, saved = ctx.rows, ctx.constant, ctx.saved_tensors
        carried, kept, by = Carried(*saved[:2]), Kept(*saved[2:]), Carried(*gradients)
        _, _, angles, slides, offsets, root = ctx.needs_input_grad
        moment, force = rows.wrench(constant, carried, by)
        return (
            None,
            None,
            rows.by_angles(constant, kept, moment, force, ctx.has_root) if angles else None,
            rows.by_slides(constant, kept, force) if slides else None,
            rows.by_offsets(constant, kept, force, by.points) if offsets else None,
            rows.by_root(constant, carried, kept, force, by) if root else None,
        )
