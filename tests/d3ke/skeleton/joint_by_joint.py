"""Forward kinematics the plain way: one joint after the other, as the paper's code does.

The oracle of the layer's tests and the yardstick of its benchmark. It shares nothing with the
layer but the Skeleton: no folding, no packing, no tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from d3ke.rotations import axis_angle_to_matrix
from d3ke.skeleton import Pose, Skeleton
from d3ke.skeleton.functions import CoordinateFunction
from d3ke.skeleton.skeleton import Coupler


class JointByJoint:
    """Positions and rotations of a skeleton's bodies, joints and markers."""

    def __init__(
        self,
        skeleton: Skeleton,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> None:
        self.skeleton = skeleton
        self.couplers = _drivers_first(skeleton.couplers)
        self.is_scaled_slot = skeleton.translation_weights.any(-1)
        names = ("parent_rotations", "parent_offset_maps", "child_rotations", "child_offset_maps")
        names += ("axes", "translation_weights", "marker_offset_maps")
        self.array = {
            name: torch.tensor(getattr(skeleton, name), dtype=dtype, device=device)
            for name in names
        }

    def __call__(self, coordinates: Tensor, scales: Tensor | None = None) -> Pose:
        """At coordinates [B, Q] rad or m and scales [B, N, 3]; without scales as loaded."""
        skeleton, array = self.skeleton, self.array
        is_scaled = scales is not None
        if scales is None:
            scales = coordinates.new_ones(len(coordinates), len(skeleton.bodies), 3)
        scales = torch.cat([scales, torch.ones_like(scales[:, :1])], 1)  # ground is body -1
        values = list(coordinates.unbind(-1))
        self._couple(values, scales if is_scaled else None)
        rotation, position = self._bodies(values, scales, is_scaled)

        def points(bodies: Sequence[int], maps: Tensor) -> Tensor:
            found = [
                position[body] + _at(rotation[body], offset_map, scales[:, body])
                for body, offset_map in zip(bodies, maps, strict=True)
            ]
            return torch.stack(found, 1)

        bodies = range(len(skeleton.bodies))
        return Pose(
            points(skeleton.joint_children.tolist(), array["child_offset_maps"]),
            points(skeleton.marker_bodies.tolist(), array["marker_offset_maps"]),
            torch.stack([rotation[body] for body in bodies], 1),
            torch.stack([position[body] for body in bodies], 1),
        )

    def _bodies(
        self, values: list[Tensor], scales: Tensor, is_scaled: bool
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Rotations [B, 3, 3] and positions [B, 3] of the bodies in ground, by body."""
        skeleton = self.skeleton
        still = torch.eye(3, dtype=scales.dtype, device=scales.device)
        rotation = {-1: still.expand(len(scales), 3, 3)}
        position = {-1: scales.new_zeros(len(scales), 3)}
        waiting = list(range(len(skeleton.joints)))
        while waiting:
            for joint in list(waiting):
                ends = int(skeleton.joint_parents[joint]), int(skeleton.joint_children[joint])
                if not any(end in rotation for end in ends):
                    continue
                waiting.remove(joint)
                turn, shift = self._joint(joint, values, scales, is_scaled)
                if ends[0] in rotation:
                    near, far = ends
                else:
                    far, near = ends
                    turn, shift = turn.mT, -(turn.mT @ shift[..., None])[..., 0]
                rotation[far] = rotation[near] @ turn
                position[far] = position[near] + (rotation[near] @ shift[..., None])[..., 0]
        return rotation, position

    def _couple(self, values: list[Tensor], scales: Tensor | None) -> None:
        for coupler in self.couplers:
            value = _evaluate(coupler.function, values)
            if scales is not None and any(coupler.scale_weights):
                weights = values[0].new_tensor(coupler.scale_weights)
                value = value * (scales[:, coupler.scale_body] * weights).sum(-1)
            values[coupler.dependent] = value

    def _joint(
        self, joint: int, values: list[Tensor], scales: Tensor, is_scaled: bool
    ) -> tuple[Tensor, Tensor]:
        """Child body in the parent body: rotation [B, 3, 3] and position [B, 3]."""
        skeleton, array = self.skeleton, self.array
        parent, child = int(skeleton.joint_parents[joint]), int(skeleton.joint_children[joint])
        functions, axes = skeleton.functions[joint], array["axes"][joint]
        turn = array["parent_rotations"][joint]
        for slot in range(3):
            turn = turn @ axis_angle_to_matrix(axes[slot], _evaluate(functions[slot], values))
        turn = turn @ array["child_rotations"][joint].T
        shift = scales[:, parent] @ array["parent_offset_maps"][joint].T
        for slot in range(3):
            if functions[3 + slot].is_constant and functions[3 + slot].constant == 0.0:
                continue
            along = array["parent_rotations"][joint] @ axes[3 + slot]
            amount = _evaluate(functions[3 + slot], values)
            if is_scaled and self.is_scaled_slot[joint, slot]:
                weights = array["translation_weights"][joint, slot]
                amount = amount * (scales[:, parent] * weights).sum(-1)
            shift = shift + amount[..., None] * along
        return turn, shift - _at(turn, array["child_offset_maps"][joint], scales[:, child])


def _drivers_first(couplers: Sequence[Coupler]) -> list[Coupler]:
    """Every coupler after those that determine its drivers."""
    ordered, waiting = [], list(couplers)
    while waiting:
        unknown = {coupler.dependent for coupler in waiting}
        ordered += [c for c in waiting if not unknown & set(c.function.inputs)]
        waiting = [c for c in waiting if unknown & set(c.function.inputs)]
    return ordered


def _at(rotation: Tensor, offset_map: Tensor, scale: Tensor) -> Tensor:
    return (rotation @ (scale @ offset_map.T)[..., None])[..., 0]


def _evaluate(function: CoordinateFunction, values: list[Tensor]) -> Tensor:
    if function.pieces is None:
        result = values[0].new_full(values[0].shape, function.constant)
        for index, slope in zip(function.inputs, function.slopes, strict=True):
            result = result + slope * values[index]
        return result
    pieces, x = function.pieces, values[function.inputs[0]].contiguous()
    piece = torch.searchsorted(x.new_tensor(pieces.breaks), x.detach(), right=True)
    local = x - x.new_tensor(pieces.origins)[piece]
    terms = x.new_tensor(pieces.coefficients)[piece]
    powers = torch.arange(terms.shape[-1], device=x.device)
    return (terms * local[..., None] ** powers).sum(-1)
