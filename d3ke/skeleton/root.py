"""Root coordinates from a wanted pose of the root body."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from d3ke.errors import InvalidInputError
from d3ke.rotations import apply, matrix_to_euler, multiply
from d3ke.skeleton.functions import CoordinateFunction
from d3ke.skeleton.skeleton import Skeleton


def root_coordinates_from_pose(
    skeleton: Skeleton,
    rotation: Float[Tensor, "*batch 3 3"],
    position: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch 6"]:
    """Values of `skeleton.root_coordinates` [rad, m] that give the root body this pose in ground.

    The inverse of the root joint, model as loaded (the built-in root joint does not depend on
    scales). Its three rotation axes must be orthogonal. Angles lie in (-pi, pi], the second in
    [-pi/2, pi/2]. Raises InvalidInputError for a skeleton without such a joint.
    """
    joint = skeleton.root_joint
    if joint < 0:
        raise InvalidInputError(
            f"skeleton {skeleton.name!r}", "has no root joint of six coordinates"
        )

    def tensor(array: np.ndarray) -> Tensor:
        return torch.tensor(array, dtype=rotation.dtype, device=rotation.device)

    before = tensor(skeleton.parent_rotations[joint])
    after = tensor(skeleton.child_rotations[joint])
    inner = multiply(multiply(before.T, rotation), after)
    angles = _angles_about(tensor(_axes_frame(skeleton)), inner)
    offset = tensor(skeleton.parent_offset_maps[joint].sum(-1))
    child = tensor(skeleton.child_offset_maps[joint].sum(-1))
    moved = position - offset + apply(rotation, child)
    directions = skeleton.parent_rotations[joint] @ skeleton.axes[joint, 3:].T
    slides = apply(tensor(np.linalg.inv(directions)), moved)
    slopes, constants = _slopes(skeleton.functions[joint])
    return (torch.cat([angles, slides], -1) - tensor(constants)) / tensor(slopes)


def _axes_frame(skeleton: Skeleton) -> np.ndarray:
    """[3, 3] the joint's rotation axes as columns."""
    axes = skeleton.axes[skeleton.root_joint, :3]
    if np.abs(axes @ axes.T - np.eye(3)).max() > 1e-9:
        raise InvalidInputError(
            f"root joint {skeleton.joints[skeleton.root_joint]!r}",
            "its rotation axes are not orthogonal",
        )
    return np.asarray(axes.T)


def _angles_about(frame: Tensor, rotation: Tensor) -> Tensor:
    """Angles t with rotation = G(a1, t1) G(a2, t2) G(a3, t3), axes the columns of `frame`."""
    handedness = torch.linalg.det(frame).round()
    # A left-handed set is the right-handed one with the third axis, and its angle, reversed.
    signs = torch.stack([torch.ones_like(handedness), torch.ones_like(handedness), handedness])
    basis = frame * signs
    return matrix_to_euler(multiply(multiply(basis.T, rotation), basis), "XYZ") * signs


def _slopes(functions: tuple[CoordinateFunction, ...]) -> tuple[np.ndarray, np.ndarray]:
    slopes = np.array([function.slopes[0] for function in functions])
    return slopes, np.array([function.constant for function in functions])
