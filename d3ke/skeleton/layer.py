"""The skeletal-model layer: OpenSim's forward kinematics as a differentiable PyTorch module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from d3ke.errors import InvalidInputError
from d3ke.skeleton.carried import Carried, CarriedRows, Moves
from d3ke.skeleton.constants import PackedConstants
from d3ke.skeleton.drive import Drive
from d3ke.skeleton.folding import Folding, Terms, fold
from d3ke.skeleton.layer_checks import can_look, check_shapes, check_values
from d3ke.skeleton.offsets import ScaledOffsets, loaded_offsets
from d3ke.skeleton.rows import (
    batch_first,
    batch_last,
    over_batch,
)
from d3ke.skeleton.skeleton import Skeleton


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
    state; the constants are kept exact whatever the module is cast to, and the result has the
    dtype of the coordinates (float32 for bfloat16 and float16). The tree is walked by pointer
    doubling: log2(depth) products over all joints at once. Nothing in it is a matrix
    multiplication kernel, so TF32 and autocast do not touch the positions. Eager, it can be
    differentiated in any mode and any number of times; under torch.compile it has an adjoint of
    its own (`CarriedRows`).
    """

    def __init__(
        self,
        skeleton: Skeleton,
        *,
        coordinates: Sequence[str] | None = None,
        bodies: Sequence[str] | None = None,
        joints: Sequence[str] | None = None,
        markers: Sequence[str] | None = None,
        check_values: bool = True,
    ) -> None:
        """All of a skeleton, or a selection of it by names.

        Args:
            skeleton: the compiled model.
            coordinates: the columns `forward` takes, in this order; the others keep their
                default value (couplers still hold).
            bodies, joints, markers: the rows of the pose, in this order. Segments that none of
                them needs are not computed. `scales` are always those of all bodies.
            check_values: raise for input that is not finite and factors that are not positive.
                Not while torch.compile, a CUDA graph or torch.func records what is done (there
                NaN in is NaN out); on a GPU the check waits for the values.

        Raises:
            UnknownNameError: a name that the skeleton lacks.
            UnsupportedModelError: bodies in a closed loop or without a joint.
        """
        super().__init__()
        self.coordinates = _chosen(coordinates, skeleton.coordinates)
        self.bodies = _chosen(bodies, skeleton.bodies)
        self.joints = _chosen(joints, skeleton.joints)
        self.markers = _chosen(markers, skeleton.markers)
        self.coordinate_count = len(self.coordinates)
        self.scaled_bodies = skeleton.bodies
        self.scaled_count = len(skeleton.bodies)
        self._check_values = check_values
        rows = (
            skeleton.index_of("body", self.bodies),
            skeleton.index_of("joint", self.joints),
            skeleton.index_of("marker", self.markers),
        )
        folding = fold(skeleton).selected(*rows)
        loaded = fold(with_unit_weights(skeleton)).selected(*rows)
        index = skeleton.index_of("coordinate", self.coordinates)
        columns = {int(coordinate): column for column, coordinate in enumerate(index)}
        self._drive = Drive(skeleton, folding, columns, skeleton.coordinate_defaults)
        self._offsets = ScaledOffsets(offset_rows(folding), len(skeleton.bodies))
        self._rows = CarriedRows(folding)
        self._has_root = folding.root_segment >= 0
        self.constants = PackedConstants(
            {"loaded_offsets": loaded_offsets(offset_rows(loaded))}
            | self._rows.arrays
            | self._drive.arrays
            | self._offsets.arrays
        )

    def forward(
        self,
        coordinates: Float[Tensor, "*#batch {self.coordinate_count}"],
        scales: Float[Tensor, "*#batch {self.scaled_count} 3"] | None = None,
        root_rotation: Float[Tensor, "*#batch 3 3"] | None = None,
    ) -> Pose:
        """The pose at coordinates [rad or m]; batch dimensions broadcast.

        `scales` are factors on the model as loaded, per body and axis (1 = unchanged); they act
        as OpenSim's Model::scale on joint offsets, translation functions and markers.
        `root_rotation` is the root body's orientation and replaces the root joint's rotational
        coordinates; its translational coordinates still count. Values of coupled coordinates
        are ignored: their drivers determine them.

        Raises InvalidInputError for shapes that do not fit, and see `check_values`.
        """
        arguments = coordinates, scales, root_rotation
        if self._check_values and can_look():
            self._batch(*arguments)
            check_values(*arguments, self.coordinates, self.scaled_bodies)
        batch = self._batch(coordinates, scales, root_rotation)
        dtype = torch.promote_types(coordinates.dtype, torch.float32)
        constant = self.constants(dtype)
        parts = [(coordinates, 1), (scales, 2), (root_rotation, 2)]
        given = [(part, features) for part, features in parts if part is not None]
        rank = max(part.ndim - features for part, features in given)
        sources = batch_last(coordinates.to(dtype), 1, rank)
        if scales is None:
            padded, offsets = None, over_batch(constant("loaded_offsets"), rank)
        else:
            factors = batch_last(scales.to(dtype), 2, rank)
            padded = torch.cat([factors, torch.ones_like(factors[:1])])
            offsets = self._offsets(constant, factors)
        angles, slides = self._drive(constant, sources, padded)
        root = None if root_rotation is None else self._root_rows(root_rotation.to(dtype), rank)
        by_autograd = not (torch.compiler.is_compiling() and torch.is_grad_enabled())
        carry = self._rows if by_autograd else self._rows.compiled
        return self._pose(carry(constant, Moves(angles, slides, offsets, root)), batch)

    def _batch(self, coordinates: Any, scales: Any, root_rotation: Any) -> torch.Size:
        """The batch shape of the result, of whatever was given."""
        return check_shapes(
            [
                ("coordinates", coordinates, (self.coordinate_count,)),
                ("scales", scales, (self.scaled_count, 3)),
                ("root rotations", root_rotation, (3, 3)),
            ]
        )

    def _root_rows(self, root_rotation: Tensor, batch_rank: int) -> Tensor:
        if not self._has_root:
            raise InvalidInputError(
                "root_rotation", "the skeleton has no root joint of six coordinates"
            )
        return batch_last(root_rotation, 2, batch_rank)

    def _pose(self, carried: Carried, batch: torch.Size) -> Pose:
        points = batch_first(carried.points.expand(-1, -1, *batch), 2)
        sizes = [len(self.bodies), len(self.joints), len(self.markers)]
        bodies, joints, markers = points.split(sizes, -2)
        turned = batch_first(carried.body_rotations.expand(-1, -1, -1, *batch), 3)
        return Pose(joints, markers, turned, bodies)


def _chosen(names: Sequence[str] | None, every: tuple[str, ...]) -> tuple[str, ...]:
    return every if names is None else tuple(names)


def offset_rows(folding: Folding) -> list[Terms]:
    """Joint origins in the inboard segments, in the outboard ones, bodies, joints, markers."""
    return [
        *(segment.inboard for segment in folding.segments),
        *(segment.outboard for segment in folding.segments),
        *folding.body_points,
        *folding.joint_points,
        *folding.marker_points,
    ]


def with_unit_weights(skeleton: Skeleton) -> Skeleton:
    """The model as loaded: Model::scale multiplies a constant translation along an oblique axis
    by more than one even for unit scales, hence weights that sum to one."""
    sums = skeleton.translation_weights.sum(-1, keepdims=True)
    weights = skeleton.translation_weights / np.where(sums > 0, sums, 1.0)
    return replace(skeleton, translation_weights=weights)
