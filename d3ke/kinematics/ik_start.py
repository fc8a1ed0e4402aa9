"""Where inverse kinematics starts: the root moved so that a posture's markers fit rigidly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from d3ke.kinematics.ik_system import MarkerSystem, Targets
from d3ke.rotations import multiply
from d3ke.skeleton import SkeletalModelLayer, Skeleton, root_coordinates_from_pose


class RootPlacement:
    """Moves the root joint of B postures to the best rigid fit of their markers (Kabsch).

    Skeletons without a root joint of six free coordinates stay where they are.
    """

    def __init__(self, skeleton: Skeleton, system: MarkerSystem) -> None:
        self._skeleton, self._system = skeleton, system
        self._root = skeleton.root_joint
        locked = skeleton.coordinate_locked
        names = skeleton.root_coordinates
        index = np.asarray(skeleton.index_of("coordinate", names)) if names else np.zeros(0, int)
        # Coordinates not in the solver's hands stay out of ours.
        self._movable = bool(names) and set(index) <= set(system.free.tolist())
        self._movable = self._movable and not locked[index].any() and _orthogonal(skeleton)
        self._index = torch.from_numpy(index)
        if self._movable:
            root = skeleton.bodies[int(skeleton.joint_children[self._root])]
            layer = SkeletalModelLayer(skeleton, bodies=[root], joints=[], markers=[])
            self._layer = layer.to(system.constants.float64.device)

    def __call__(self, coordinates: Tensor, targets: Targets) -> Tensor:
        """Coordinates [Q, B] with the root's replaced."""
        if not self._movable:
            return coordinates
        points = self._system.markers(coordinates, targets.scales)
        turn, shift = rigid_fits(points, targets.markers, targets.marker_weights)
        scales = None if targets.scales is None else targets.scales.permute(2, 0, 1)
        pose = self._layer(coordinates.T, scales)
        rotation = multiply(turn, pose.body_rotations[:, 0])
        position = (turn @ pose.body_positions[:, 0].unsqueeze(-1)).squeeze(-1) + shift
        placed = coordinates.clone()
        placed[self._index] = root_coordinates_from_pose(self._skeleton, rotation, position).T
        return placed


def rigid_fits(source: Tensor, target: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations [B, 3, 3] and shifts [B, 3] m that bring source [M, 3, B] closest to target.

    weights: [M, B] of the squared distances, each frame's sum 1.
    """
    shares = weights.unsqueeze(1)
    source_centre, target_centre = (shares * source).sum(0), (shares * target).sum(0)
    source, target = source - source_centre, target - target_centre
    covariance = torch.einsum("mb,mib,mjb->bij", weights, target, source)
    left, _, right = torch.linalg.svd(covariance)
    flip = torch.linalg.det(left @ right).sign()
    signs = torch.stack([torch.ones_like(flip), torch.ones_like(flip), flip], -1)
    turn = left @ (signs.unsqueeze(-1) * right)
    return turn, target_centre.T - (turn @ source_centre.T.unsqueeze(-1)).squeeze(-1)


def _orthogonal(skeleton: Skeleton) -> bool:
    axes = skeleton.axes[skeleton.root_joint, :3]
    return bool(np.abs(axes @ axes.T - np.eye(3)).max() < 1e-9)
