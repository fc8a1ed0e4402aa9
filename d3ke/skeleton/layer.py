"""The skeletal-model layer: OpenSim's forward kinematics as a differentiable PyTorch module."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from d3ke.errors import InvalidInputError
from d3ke.rotations import apply, multiply
from d3ke.skeleton.couplings import Couplings, affine_table, level_order, piece_table
from d3ke.skeleton.folding import Folding, fold
from d3ke.skeleton.skeleton import GROUND, Skeleton


class Pose(NamedTuple):
    """Where everything is, in ground (or in the frame of `root_rotation`)."""

    joint_centers: Float[Tensor, "*batch J 3"]
    """Origin of each joint's child frame [m]."""
    markers: Float[Tensor, "*batch M 3"]
    """[m]"""
    body_rotations: Float[Tensor, "*batch N 3 3"]
    body_positions: Float[Tensor, "*batch N 3"]
    """[m]"""


class SkeletalModelLayer(nn.Module):
    """Positions and rotations of a skeleton's bodies, joints and markers (paper, eq. 3 to 12).

    Equals OpenSim's kinematics and Model::scale exactly. It has no parameters and stores no
    state; the constants are kept in float64 whatever the module is cast to, and the result has
    the dtype of the coordinates (float32 for bfloat16 and float16). The tree is walked by
    pointer doubling: log2(depth) products over all joints at once. Nothing in it is a matrix
    multiplication kernel, so TF32 and autocast do not touch the positions.
    """

    constants: Tensor
    ancestors: Tensor
    weld_ancestors: Tensor
    link_parents: Tensor
    inboard_bodies: Tensor
    outboard_bodies: Tensor
    point_bodies: Tensor
    body_segments: Tensor
    point_segments: Tensor
    root_mask: Tensor

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.coordinate_count = len(skeleton.coordinates)
        self.body_count = len(skeleton.bodies)
        self.joint_count = len(skeleton.joints)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._packed: list[Tensor] = []
        folding = fold(skeleton)
        self._has_root = folding.root_segment >= 0
        self._add_geometry(folding)
        self._add_drive(skeleton, folding)
        self.register_buffer("constants", torch.zeros(0), persistent=False)
        self.constants = torch.cat(self._packed)
        self._packed = []
        self._add_loaded_offsets(skeleton)

    def _constant(self, name: str, array: np.ndarray) -> None:
        """Append to the one buffer of numbers: casting it takes a single kernel per call."""
        self._shapes[name] = array.shape
        self._packed.append(torch.from_numpy(np.array(array, dtype=np.float64).reshape(-1)))

    def _index(self, name: str, array: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.array(array, dtype=np.int64)), False)

    def _add_geometry(self, folding: Folding) -> None:
        for name in (
            "rotation_terms",
            "body_rotations",
            "link_parent_maps",
            "link_own_maps",
            "inboard_maps",
            "outboard_maps",
            "point_maps",
        ):
            self._constant(name, getattr(folding, name))
        for name in ("link_parents", "inboard_bodies", "outboard_bodies", "point_bodies"):
            self._index(name, getattr(folding, name))
        self._index("body_segments", folding.body_segments[:-1])
        self._index("point_segments", folding.body_segments[folding.point_bodies])
        self._index("ancestors", _doublings(folding.segment_parents, folding.depth))
        self._index("weld_ancestors", _doublings(folding.link_bodies, folding.weld_depth))
        is_root = np.arange(len(folding.segment_parents)) == folding.root_segment
        self.register_buffer("root_mask", torch.from_numpy(is_root)[:, None, None], False)

    def _add_drive(self, skeleton: Skeleton, folding: Folding) -> None:
        couplings = Couplings(skeleton)
        segments = len(folding.segment_parents)
        angles = [couplings.function(f) for joint in folding.angle_functions for f in joint]
        slides = [couplings.function(slide.function) for slide in folding.slides]
        levels = level_order(couplings.nodes)
        sources = range(self.coordinate_count)
        position = {source: source for source in sources}
        for number, nodes in enumerate(levels):
            arguments = [couplings.nodes[n].argument for n in nodes]
            self._add_affine(f"argument{number}", *affine_table(arguments, position))
            table = piece_table([couplings.nodes[n].pieces for n in nodes])
            for name, array in zip(("breaks", "origins", "coefficients"), table, strict=True):
                self._constant(f"{name}{number}", array)
            bodies = [couplings.nodes[n].scale_body for n in nodes]
            weights = np.array([couplings.nodes[n].weights for n in nodes])
            self._add_factor(f"node{number}", bodies, weights)
            for n in nodes:
                position[self.coordinate_count + n] = len(position)
        self._level_count = len(levels)
        self._add_affine("angle", *affine_table(angles, position))
        self._add_affine("slide", *affine_table(slides, position))
        self._slide_count = len(slides)
        self._add_factor(
            "slide",
            [slide.scale_body for slide in folding.slides],
            np.array([slide.weights for slide in folding.slides]).reshape(-1, 3),
        )
        # A slide's column in [segments x 3] directions, for the sums over slides of a segment.
        directions = np.zeros((2, len(slides), segments, 3))
        for row, slide in enumerate(folding.slides):
            directions[int(slide.outboard), row, slide.segment] = slide.direction
        self._constant("slide_directions", directions)
        self._any_outboard = any(slide.outboard for slide in folding.slides)

    def _add_affine(
        self, name: str, sources: np.ndarray, coefficients: np.ndarray, constants: np.ndarray
    ) -> None:
        self._index(f"{name}_sources", sources)
        self._constant(f"{name}_slopes", coefficients)
        self._constant(f"{name}_constants", constants)

    def _add_factor(self, name: str, bodies: list[int], weights: np.ndarray) -> None:
        ground = self.body_count
        self._index(
            f"{name}_scale_bodies", np.array([ground if b == GROUND else b for b in bodies])
        )
        self._constant(f"{name}_weights", weights)
        # Unscaled: a factor of one, through the ground's scale.
        self._constant(f"{name}_unscaled", (~weights.any(-1)).astype(float))

    def _add_loaded_offsets(self, skeleton: Skeleton) -> None:
        """Offsets of the model as loaded, worked out once."""
        # Model::scale multiplies a constant translation along an oblique axis by more than one
        # even for unit scales; as loaded it is unchanged, hence weights that sum to one.
        sums = skeleton.translation_weights.sum(-1, keepdims=True)
        weights = skeleton.translation_weights / np.where(sums > 0, sums, 1.0)
        folding = fold(replace(skeleton, translation_weights=weights))
        stored = {name: torch.from_numpy(getattr(folding, name)) for name in _MAP_FIELDS}
        ones = torch.ones(self.body_count + 1, 3, dtype=torch.float64)
        offsets = self._offsets(stored.__getitem__, ones)
        self._packed = [self.constants]
        for name, offset in zip(_OFFSET_NAMES, offsets, strict=True):
            self._constant(name, offset.numpy())
        self.constants = torch.cat(self._packed)
        self._packed = []

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SkeletalModelLayer:
        """Follow the module to another device, but never to another precision."""
        exact = self.constants
        super()._apply(fn, recurse)
        self.constants = exact.to(self.constants.device)
        return self

    def forward(
        self,
        coordinates: Float[Tensor, "*#batch {self.coordinate_count}"],
        scales: Float[Tensor, "*#batch {self.body_count} 3"] | None = None,
        root_rotation: Float[Tensor, "*#batch 3 3"] | None = None,
    ) -> Pose:
        """The pose at coordinates [rad or m]; batch dimensions broadcast.

        `scales` are factors on the model as loaded, per body and axis (1 = unchanged); they act
        as OpenSim's Model::scale on joint offsets, translation functions and markers.
        `root_rotation` is the root body's orientation and replaces the root joint's rotational
        coordinates; its translational coordinates still count. Values of coupled coordinates
        are ignored: their drivers determine them.
        """
        dtype = torch.promote_types(coordinates.dtype, torch.float32)
        constant = self._unpack(dtype)
        sources = coordinates.to(dtype)
        if scales is None:
            inboard, outboard, points = (constant(name) for name in _OFFSET_NAMES)
            padded = None
        else:
            padded = torch.cat([scales.to(dtype), torch.ones_like(scales[..., :1, :])], -2)
            padded = padded.to(dtype)
            inboard, outboard, points = self._offsets(constant, padded)
        sources = self._append_nodes(constant, sources, padded)
        rotation = self._segment_rotations(constant, sources, root_rotation)
        position = self._segment_positions(constant, sources, padded, inboard, outboard, rotation)
        rotation, position = self._walk(rotation, position)
        return self._pose(constant, rotation, position, points)

    def _unpack(self, dtype: torch.dtype) -> Callable[[str], Tensor]:
        """The named constants, in `dtype`."""
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        parts = self.constants.to(dtype).split(sizes)
        named = {
            name: part.view(shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }
        return named.__getitem__

    def _offsets(
        self, constant: Callable[[str], Tensor], scales: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Joint origins in the inboard and outboard segments and points, [..., rows, 3]."""
        bodies = apply(constant("link_parent_maps"), scales.index_select(-2, self.link_parents))
        bodies = bodies + apply(constant("link_own_maps"), scales)
        for ancestor in self.weld_ancestors:
            bodies = bodies + bodies.index_select(-2, ancestor)
        inboard = apply(constant("inboard_maps"), scales.index_select(-2, self.inboard_bodies))
        inboard = inboard + bodies.index_select(-2, self.inboard_bodies)
        outboard = apply(constant("outboard_maps"), scales.index_select(-2, self.outboard_bodies))
        points = apply(constant("point_maps"), scales.index_select(-2, self.point_bodies))
        return inboard, outboard, points + bodies.index_select(-2, self.point_bodies)

    def _affine(self, constant: Callable[[str], Tensor], name: str, sources: Tensor) -> Tensor:
        chosen = getattr(self, f"{name}_sources")
        gathered = sources.index_select(-1, chosen.flatten()).unflatten(-1, chosen.shape)
        driven = (gathered * constant(f"{name}_slopes")).sum(-1)
        return driven + constant(f"{name}_constants")

    def _factor(self, constant: Callable[[str], Tensor], name: str, scales: Tensor) -> Tensor:
        chosen = scales.index_select(-2, getattr(self, f"{name}_scale_bodies"))
        return (chosen * constant(f"{name}_weights")).sum(-1) + constant(f"{name}_unscaled")

    def _append_nodes(
        self, constant: Callable[[str], Tensor], sources: Tensor, scales: Tensor | None
    ) -> Tensor:
        """Coordinates followed by the values of the non-linear functions, level by level."""
        for level in range(self._level_count):
            x = self._affine(constant, f"argument{level}", sources)
            breaks, origins = constant(f"breaks{level}"), constant(f"origins{level}")
            piece = (x.unsqueeze(-1) >= breaks).sum(-1)
            row = torch.arange(origins.shape[0], device=x.device)
            local = x - origins[row, piece]
            terms = constant(f"coefficients{level}")[row, piece]
            value = torch.zeros_like(local)
            for power in range(terms.shape[-1] - 1, -1, -1):
                value = value * local + terms[..., power]
            if scales is not None:
                value = value * self._factor(constant, f"node{level}", scales)
            batch = torch.broadcast_shapes(value.shape[:-1], sources.shape[:-1])
            sources = torch.cat([sources.expand(*batch, -1), value.expand(*batch, -1)], -1)
        return sources

    def _segment_rotations(
        self, constant: Callable[[str], Tensor], sources: Tensor, root_rotation: Tensor | None
    ) -> Tensor:
        """Rotation of every segment in its parent, [..., S, 3, 3]."""
        angles = self._affine(constant, "angle", sources)
        angles = nn.functional.pad(angles, (0, 3))  # ground does not turn
        angles = angles.unflatten(-1, (-1, 3))[..., None, None]
        fixed, sine, cosine = constant("rotation_terms").unbind(2)
        turns = fixed + torch.sin(angles) * sine + torch.cos(angles) * cosine
        first, second, third = turns.unbind(-3)
        rotation = multiply(multiply(first, second), third)
        if root_rotation is None:
            return rotation
        if not self._has_root:
            raise InvalidInputError(
                "root_rotation", "the skeleton has no root joint of six coordinates"
            )
        root = root_rotation.to(rotation.dtype).unsqueeze(-3)
        return torch.where(self.root_mask, root, rotation)

    def _segment_positions(
        self,
        constant: Callable[[str], Tensor],
        sources: Tensor,
        scales: Tensor | None,
        inboard: Tensor,
        outboard: Tensor,
        rotation: Tensor,
    ) -> Tensor:
        """Origin of every segment in its parent, [..., S, 3]."""
        if self._slide_count:
            slides = self._affine(constant, "slide", sources)
            if scales is not None:
                slides = slides * self._factor(constant, "slide", scales)
            slides = slides[..., None, None]
            directions = constant("slide_directions")
            inboard = inboard + (slides * directions[0]).sum(-3)
            if self._any_outboard:
                outboard = outboard + (slides * directions[1]).sum(-3)
        return inboard - apply(rotation, outboard)

    def _walk(self, rotation: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """From parent frames to ground: after k steps each segment sits in its 2^k-th ancestor."""
        for ancestor in self.ancestors:
            outer = rotation.index_select(-3, ancestor)
            position = position.index_select(-2, ancestor) + apply(outer, position)
            rotation = multiply(outer, rotation)
        return rotation, position

    def _pose(
        self,
        constant: Callable[[str], Tensor],
        rotation: Tensor,
        position: Tensor,
        points: Tensor,
    ) -> Pose:
        turned = apply(rotation.index_select(-3, self.point_segments), points)
        placed = turned + position.index_select(-2, self.point_segments)
        split = [self.body_count, self.joint_count]
        bodies, joints, markers = placed.split([*split, placed.shape[-2] - sum(split)], -2)
        body_rotations = rotation.index_select(-3, self.body_segments)
        body_rotations = multiply(body_rotations, constant("body_rotations")[:-1])
        return Pose(joints, markers, body_rotations, bodies)


_MAP_FIELDS = ("link_parent_maps", "link_own_maps", "inboard_maps", "outboard_maps", "point_maps")
_OFFSET_NAMES = ("loaded_inboard", "loaded_outboard", "loaded_points")


def _doublings(parents: np.ndarray, depth: int) -> np.ndarray:
    """[ceil(log2(depth)), rows]: the 1st, 2nd, 4th, ... ancestor of each row."""
    steps = []
    ancestors = parents
    reach = 1
    while reach < depth + 1:
        steps.append(ancestors)
        ancestors, reach = ancestors[ancestors], 2 * reach
    return np.array(steps, dtype=np.int64).reshape(len(steps), len(parents))
