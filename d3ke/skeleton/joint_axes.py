"""Where in ground the axes are that the segments of a skeleton turn about and slide along."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from d3ke.skeleton.folding import Folding
from d3ke.skeleton.rows import Constant, apply_rows, over_batch
from d3ke.skeleton.tree import LocalFrames


class JointAxes:
    """The axes of S segments; a point that one of them carries moves by axis x (point - origin)
    per rad of an angle and by axis per metre of a slide.

    `arrays` belong in a PackedConstants, beside those of the `SegmentTree`.
    """

    def __init__(self, folding: Folding) -> None:
        segments = folding.segments
        slides = [slide for segment in segments for slide in segment.slides]
        carriers = [s.segment if s.outboard else segments[s.segment].parent for s in slides]
        self.arrays: dict[str, np.ndarray] = {
            "parents": folding.parents,
            "axes": np.array([s.axes for s in segments]).swapaxes(0, 1).copy(),
            "slide_signs": np.array([-1.0 if s.outboard else 1.0 for s in slides]),
            "slide_segments": np.array([s.segment for s in slides], dtype=np.int64),
            "slide_carriers": np.array(carriers, dtype=np.int64),
        }

    def second(self, constant: Constant, local: LocalFrames) -> Tensor:
        """[S, 3, *B] the second rotation axis of each segment, in the inboard one."""
        axes = over_batch(constant("axes")[1], local.first_turns.ndim - 3)
        return apply_rows(local.first_turns, axes)

    def turning(self, constant: Constant, second: Tensor, rotations: Tensor) -> Tensor:
        """[3 S, 3, *B] the rotation axes: the first of every segment, the second, the third."""
        inboard = rotations.index_select(0, constant("parents"))
        first, _, third = over_batch(constant("axes"), rotations.ndim - 3).unbind(0)
        turned = apply_rows(inboard, first), apply_rows(inboard, second)
        return torch.cat([*turned, apply_rows(rotations, third)])

    def origins(
        self, constant: Constant, joint_origins: Tensor, rotations: Tensor, positions: Tensor
    ) -> Tensor:
        """[S, 3, *B] m: the points that the segments turn about."""
        inboard = rotations.index_select(0, constant("parents"))
        origins = positions.index_select(0, constant("parents"))
        return origins + apply_rows(inboard, joint_origins)

    def sliding(self, constant: Constant, rotations: Tensor) -> Tensor:
        """[K, 3, *B] the directions of the K slides."""
        carriers = rotations.index_select(0, constant("slide_carriers"))
        signed = constant("slide_directions") * constant("slide_signs").unsqueeze(-1)
        return apply_rows(carriers, over_batch(signed, rotations.ndim - 3))
