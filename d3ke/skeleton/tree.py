"""The segments of a skeleton in ground: local transforms and the walk along the tree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from d3ke.skeleton.folding import Folding
from d3ke.skeleton.rows import (
    Constant,
    RowSum,
    RowTake,
    apply_rows,
    multiply_rows,
    over_batch,
)


class LocalFrames(NamedTuple):
    """Every segment in its parent."""

    first_turns: Tensor
    """[S, 3, 3, *B] rotation by the first of the three axes alone."""
    rotations: Tensor
    """[S, 3, 3, *B]"""
    joint_origins: Tensor
    """[S, 3, *B] m, the point the segment turns about, in the parent."""
    positions: Tensor
    """[S, 3, *B] m"""


class SegmentTree:
    """Forward kinematics of S segments (paper, equations 4 to 12).

    `arrays` belong in a PackedConstants; the methods take its arrays by name.
    """

    def __init__(self, folding: Folding) -> None:
        segments = folding.segments
        self.count, self._root = len(segments), folding.root_segment
        self._has_outboard = any(m.any() for s in segments for m in s.outboard.values())
        # [axis, (1, sin, cos), S, 3, 3]
        terms = np.moveaxis(np.array([s.rotation_terms for s in segments]), 0, 2)
        self.arrays = {"rotation_terms": terms}
        self._steps: list[tuple[int, RowTake]] = []
        self._add_walk(folding)
        self._add_slides(folding)

    def _add_walk(self, folding: Folding) -> None:
        """Per step: the ancestor at twice the distance of the step before, for the rows (sorted
        by depth) that have not arrived at ground yet."""
        ancestors, reach = folding.parents, 1
        while (waiting := np.flatnonzero(folding.depths > reach)).size:
            start = int(waiting[0])
            take = RowTake(f"ancestors{len(self._steps)}", ancestors[start:], self.count)
            self._steps.append((start, take))
            self.arrays |= take.arrays
            ancestors, reach = ancestors[ancestors], 2 * reach

    def _add_slides(self, folding: Folding) -> None:
        slides = [slide for segment in folding.segments for slide in segment.slides]
        self._slides_inboard = any(not slide.outboard for slide in slides)
        self._slides_outboard = any(slide.outboard for slide in slides)
        segments = np.array([slide.segment for slide in slides], dtype=np.int64)
        outboard = np.array([slide.outboard for slide in slides], dtype=bool)
        self.arrays["slide_directions"] = np.array([s.direction for s in slides]).reshape(-1, 3)
        self._sum_inboard = RowSum("slides_inboard", segments, self.count, ~outboard)
        self._sum_outboard = RowSum("slides_outboard", segments, self.count, outboard)
        self.arrays |= self._sum_inboard.arrays | self._sum_outboard.arrays

    def local_frames(
        self,
        constant: Constant,
        angles: Tensor,
        slides: Tensor | None,
        offsets: Tensor,
        root_rotation: Tensor | None = None,
    ) -> LocalFrames:
        """Angles [3 S, *B] rad, slides [K, *B] m, offsets [2 S, 3, *B] m: joint origins in the
        inboard and the outboard segments; root_rotation [3, 3, *B] replaces the root's angles."""
        about = angles.unflatten(0, (3, self.count))[:, :, None, None]
        terms = over_batch(constant("rotation_terms"), angles.ndim - 1)
        turns = terms[:, 0] + torch.sin(about) * terms[:, 1] + torch.cos(about) * terms[:, 2]
        rotations = multiply_rows(multiply_rows(turns[0], turns[1]), turns[2])
        if root_rotation is not None:
            rotations = self._with_root(rotations, root_rotation)
        inboard, outboard = offsets[: self.count], offsets[self.count : 2 * self.count]
        if slides is not None:
            directions = over_batch(constant("slide_directions"), slides.ndim - 1)
            moves = slides.unsqueeze(1) * directions
            if self._slides_inboard:
                inboard = inboard + self._sum_inboard(constant, moves)
            if self._slides_outboard:
                outboard = outboard + self._sum_outboard(constant, moves)
        positions = inboard
        if self._has_outboard or (slides is not None and self._slides_outboard):
            positions = inboard - apply_rows(rotations, outboard)
        return LocalFrames(turns[0], rotations, inboard, positions)

    def _with_root(self, rotations: Tensor, root: Tensor) -> Tensor:
        batch = torch.broadcast_shapes(rotations.shape[3:], root.shape[2:])
        before, after = rotations[: self._root], rotations[self._root + 1 :]
        parts = [before, root.unsqueeze(0), after]
        return torch.cat([part.expand(-1, -1, -1, *batch) for part in parts])

    def walk(
        self, constant: Constant, rotations: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """From parent frames to ground: after k steps each segment sits in its 2^k-th ancestor."""
        batch = torch.broadcast_shapes(rotations.shape[3:], positions.shape[2:])
        rotations = rotations.expand(-1, -1, -1, *batch)
        positions = positions.expand(-1, -1, *batch)
        for start, take in self._steps:
            outer = take(constant, rotations)
            moved = take(constant, positions) + apply_rows(outer, positions[start:])
            positions = torch.cat([positions[:start], moved])
            rotations = torch.cat([rotations[:start], multiply_rows(outer, rotations[start:])])
        return rotations, positions
