"""Fixed points of segments as linear functions of the bodies' scales (OpenSim's Model::scale)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from d3ke.skeleton.folding import Terms
from d3ke.skeleton.rows import Constant, RowSum, RowTake, apply_rows, over_batch


def loaded_offsets(rows: Sequence[Terms]) -> np.ndarray:
    """[rows, 3] m, with every scale 1: the model as loaded."""
    zero = np.zeros(3)
    return np.array([sum((m.sum(-1) for m in terms.values()), zero) for terms in rows])


class ScaledOffsets:
    """Positions [rows, 3, *B] m from scales [N, 3, *B]; `arrays` belong in a PackedConstants."""

    def __init__(self, rows: Sequence[Terms], ground: int) -> None:
        """`rows` as in `Folding`; terms of body `ground` do not scale."""
        scaled = [
            (row, body, scale_map)
            for row, terms in enumerate(rows)
            for body, scale_map in terms.items()
            if body != ground and scale_map.any()
        ]
        bodies = np.array([body for _, body, _ in scaled], dtype=np.int64)
        owners = np.array([row for row, _, _ in scaled], dtype=np.int64)
        fixed = [{b: m for b, m in terms.items() if b == ground} for terms in rows]
        self.arrays = {
            "offset_fixed": loaded_offsets(fixed).reshape(-1, 3),
            "offset_maps": np.array([m for _, _, m in scaled]).reshape(-1, 3, 3),
        }
        self._take_scales = RowTake("offset_bodies", bodies, ground)
        self._sum_terms = RowSum("offset_rows", owners, len(rows))
        self.arrays |= self._take_scales.arrays | self._sum_terms.arrays

    def __call__(self, constant: Constant, scales: Tensor) -> Tensor:
        rank = scales.ndim - 2
        chosen = self._take_scales(constant, scales)
        terms = apply_rows(over_batch(constant("offset_maps"), rank), chosen)
        return self._sum_terms(constant, terms) + over_batch(constant("offset_fixed"), rank)
