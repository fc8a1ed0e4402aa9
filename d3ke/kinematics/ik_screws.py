"""How coordinates move segments, and what that makes of what the segments carry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3ke.arrays import IntArray
from d3ke.kinematics.ik_coefficients import Coefficients, NodeDerivatives
from d3ke.skeleton.drive import Drive
from d3ke.skeleton.folding import Folding
from d3ke.skeleton.joint_axes import JointAxes
from d3ke.skeleton.rows import Constant, RowSum, apply_rows
from d3ke.skeleton.tree import LocalFrames

WEIGHT, FIRST, SECOND = slice(0, 1), slice(1, 4), slice(4, 10)
FORCE, DYAD = slice(10, 13), slice(13, 22)
"""Where a segment's 22 carried numbers are: sum of weights; first moments; inertia about ground's
origin (xx, yy, zz, xy, xz, yz); residual force; sum of its products with the points (rows: the
point's x, y, z; columns: the force's)."""


class CoordinateScrews:
    """Screws (w, v) of pairs of a segment and a coordinate that moves it: a point x of the segment,
    or of one that it carries, moves by w x x + v.

    The first F pairs belong to the F free coordinates in order, which must be from the root
    outwards (`from_root_outwards`); a coordinate that moves several segments (by couplers) has
    more behind. `arrays` belong in a PackedConstants.
    """

    def __init__(self, drive: Drive, folding: Folding, nodes: NodeDerivatives) -> None:
        self._angles = Coefficients("angle", drive, nodes)
        self._slides = Coefficients("slide", drive, nodes)
        self._axes = JointAxes(folding)
        self._count = len(folding.segments)
        self._free_count = nodes.free_count
        segments, coordinates, ranks = _driven(self._angles, self._slides, folding)
        pairs = _pairs(segments, coordinates, self._free_count)
        number = {pair: index for index, pair in enumerate(pairs)}
        owners = [
            number[pair] for pair in zip(segments.tolist(), coordinates.tolist(), strict=True)
        ]
        self._sum_pairs = RowSum("pairs", np.array(owners, dtype=np.int64), len(pairs))
        pair_segments = np.array([segment for segment, _ in pairs], dtype=np.int64)
        moved = folding.ancestry[np.ix_(pair_segments, pair_segments)]
        below = moved & _outwards(np.array(owners, dtype=np.int64), 5 * segments + ranks)
        extra = pairs[self._free_count :]
        self._extra = len(extra)
        places, entries = _extra_entries(pairs, self._free_count)
        self.arrays: dict[str, Any] = {
            "pair_segments": pair_segments,
            "moved_below": np.tril(moved[: self._free_count, : self._free_count]).astype(float),
            "below": below.astype(float),
            "strictly_below": (below & ~np.eye(len(pairs), dtype=bool)).astype(float),
            "extra_coordinates": np.array([f for _, f in extra], dtype=np.int64),
            "extra_places": places,
            "extra_entries": entries,
        }
        self.arrays |= self._sum_pairs.arrays | self._angles.arrays | self._slides.arrays
        self.arrays |= self._axes.arrays

    def __call__(
        self,
        constant: Constant,
        local: LocalFrames,
        rotations: Tensor,
        positions: Tensor,
        nodes: Tensor | None,
        scales: Tensor | None,
    ) -> Tensor:
        """[P, 6, B], ground frame, about its origin."""
        second = self._axes.second(constant, local)
        axes = self._axes.turning(constant, second, rotations)
        origins = self._axes.origins(constant, local.joint_origins, rotations, positions)
        chosen = constant("angle_entry_values")
        turning = axes.index_select(0, chosen)
        centers = origins.index_select(0, chosen % self._count)
        screws = torch.cat([turning, torch.linalg.cross(centers, turning, dim=1)], 1)
        screws = screws * self._angles(constant, nodes, scales).unsqueeze(1)
        if len(self._slides.values):
            screws = torch.cat([screws, self._sliding(constant, rotations, nodes, scales)])
        return self._sum_pairs(constant, screws)

    def _sliding(
        self, constant: Constant, rotations: Tensor, nodes: Tensor | None, scales: Tensor | None
    ) -> Tensor:
        along = self._axes.sliding(constant, rotations)
        along = along.index_select(0, constant("slide_entry_values"))
        along = along * self._slides(constant, nodes, scales).unsqueeze(1)
        return torch.cat([torch.zeros_like(along), along], 1)

    def reduce(
        self, constant: Constant, screws: Tensor, carried: Tensor, curvature: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """J'Wr [B, F] and the lower triangle of J'WJ [B, F, F], zero above the diagonal.

        From screws [P, 6, B] and what each segment and all it carries hold [S, 22, B]. To J'WJ
        comes the share `curvature` [B] of the residuals' second derivatives, sum w r d2p: those of
        turns about and slides along axes, not those of the functions that drive them.
        """
        count = self._free_count
        held = carried.index_select(0, constant("pair_segments"))
        turning, moving = screws[:, :3], screws[:, 3:]
        work = turning * _moment(held[:, DYAD]) + moving * held[:, FORCE]
        gradient = work.sum(1).T.contiguous()
        momentum = _momentum(held, screws)
        if curvature is not None:
            # d2p by an outer and an inner coordinate is w_outer x (w_inner x p + v_inner).
            momentum[:, :3] += curvature * _swing(held, screws)
        pushed = momentum.permute(2, 0, 1).contiguous()
        along = screws.permute(2, 1, 0).contiguous()
        # Row p, column q: where q moves what p moves. Rows are sorted from the root outwards, so
        # below the diagonal that is all there is.
        hessian = torch.bmm(pushed[:, :count], along[..., :count])
        hessian *= constant("moved_below")
        if self._extra:
            gradient[:, :count].index_add_(
                1, constant("extra_coordinates"), gradient[:, count:].contiguous()
            )
            more = self._extra_pairs(constant, pushed, along)
            hessian.flatten(1).index_add_(1, constant("extra_places"), more)
        return gradient[:, :count], hessian

    def _extra_pairs(self, constant: Constant, pushed: Tensor, along: Tensor) -> Tensor:
        """[B, E] what the pairs beyond the first of a coordinate add to `extra_places`."""
        count = self._free_count
        rows = torch.bmm(pushed[:, count:], along) * constant("below")[count:]
        columns = torch.bmm(pushed, along[..., count:]) * constant("strictly_below")[:, count:]
        found = rows + columns.mT
        return found.flatten(1).index_select(1, constant("extra_entries"))


def _driven(
    angles: Coefficients, slides: Coefficients, folding: Folding
) -> tuple[IntArray, IntArray, IntArray]:
    """Of every entry, angles first: segment, free coordinate, and how far from the root it acts
    among the segment's axes (slides of the inboard side, three angles, slides of the other)."""
    count = len(folding.segments)
    sliding = [slide for segment in folding.segments for slide in segment.slides]
    slide_segments = np.array([slide.segment for slide in sliding], dtype=np.int64)
    slide_ranks = np.array([4 if slide.outboard else 0 for slide in sliding], dtype=np.int64)
    return (
        np.concatenate([angles.values % count, slide_segments[slides.values]]),
        np.concatenate([angles.coordinates, slides.coordinates]),
        np.concatenate([1 + angles.values // count, slide_ranks[slides.values]]),
    )


def from_root_outwards(drive: Drive, folding: Folding, nodes: NodeDerivatives) -> IntArray:
    """[F] order of the free coordinates by the first axis that each moves."""
    tables = Coefficients("angle", drive, nodes), Coefficients("slide", drive, nodes)
    segments, coordinates, ranks = _driven(*tables, folding)
    first = np.zeros(nodes.free_count, dtype=np.int64)
    places = 5 * segments + ranks
    # Descending, so that the smallest place of a coordinate is written last.
    order = np.argsort(-places, kind="stable")
    first[coordinates[order]] = places[order]
    return np.argsort(first, kind="stable")


def _pairs(segments: IntArray, coordinates: IntArray, free_count: int) -> list[tuple[int, int]]:
    """(segment, coordinate): the first of each coordinate in order, then the others.

    A coordinate that moves nothing is paired with ground.
    """
    of_coordinate: list[list[int]] = [[] for _ in range(free_count)]
    for segment, coordinate in zip(segments.tolist(), coordinates.tolist(), strict=True):
        if segment not in of_coordinate[coordinate]:
            of_coordinate[coordinate].append(segment)
    first = [(min(found, default=0), f) for f, found in enumerate(of_coordinate)]
    more = [(s, f) for f, found in enumerate(of_coordinate) for s in sorted(found)[1:]]
    return first + more


def _moment(dyad: Tensor) -> Tensor:
    """[P, 3, B] of the force about ground's origin, from the sum of points times forces."""
    _, xy, xz, yx, _, yz, zx, zy, _ = dyad.unbind(1)
    return torch.stack([yz - zy, zx - xz, xy - yx], 1)


def _swing(held: Tensor, screws: Tensor) -> Tensor:
    """[P, 3, B] sum of (w x p + v) x f over the points p and forces f that are carried."""
    turning, moving = screws[:, :3], screws[:, 3:]
    dyad = held[:, DYAD].unflatten(1, (3, 3))
    trace = dyad[:, 0, 0] + dyad[:, 1, 1] + dyad[:, 2, 2]
    spread = apply_rows(dyad, turning) - trace.unsqueeze(1) * turning
    return spread + torch.linalg.cross(moving, held[:, FORCE], dim=1)


def _outwards(owners: IntArray, places: IntArray) -> np.ndarray:
    """[P, P] True where the row's pair comes after the column's on the way from the root, or is
    the same; from the pair and the place on that way of every entry."""
    first = np.zeros(owners.max(initial=-1) + 1, dtype=np.int64)
    order = np.argsort(-places, kind="stable")
    first[owners[order]] = places[order]
    number = np.arange(len(first))
    later = first[:, None] > first[None]
    return later | ((first[:, None] == first[None]) & (number[:, None] >= number[None]))


def _extra_entries(pairs: list[tuple[int, int]], count: int) -> tuple[IntArray, IntArray]:
    """Where extra pairs add to a Hessian [F, F] (flat, lower triangle), and where what they add
    is found in an array [extra pairs, pairs] (flat)."""
    places, entries = [], []
    for row, (_, f) in enumerate(pairs[count:]):
        for column, (_, g) in enumerate(pairs):
            # Two extra pairs meet twice; with the first of its own coordinate one counts twice.
            times = 2 if column == f else int(column < count or g <= f)
            places += times * [max(f, g) * count + min(f, g)]
            entries += times * [row * len(pairs) + column]
    return np.array(places, dtype=np.int64), np.array(entries, dtype=np.int64)


def _momentum(held: Tensor, screws: Tensor) -> Tensor:
    """Spatial inertias in [P, 22, B] times screws [P, 6, B]: moment, then force."""
    turning, moving = screws[:, :3], screws[:, 3:]
    weight, first = held[:, WEIGHT], held[:, FIRST]
    xx, yy, zz, xy, xz, yz = held[:, SECOND].unbind(1)
    x, y, z = turning.unbind(1)
    spun = torch.stack(
        [xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z], 1
    )
    moment = spun + torch.linalg.cross(first, moving, dim=1)
    force = weight * moving - torch.linalg.cross(first, turning, dim=1)
    return torch.cat([moment, force], 1)
