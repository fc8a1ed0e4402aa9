"""Rotations in 3D as pure PyTorch functions.

Matrices act on column vectors. Euler angles are body-fixed (intrinsic): sequence "ZXY" means
R = Rz(a) Rx(b) Ry(c), the pelvis of the built-in model; "XYZ" is OpenSim's frame orientation.
All functions keep dtype, device and batch shape and use no matrix-multiply kernels, so reduced
matmul precision (TF32, autocast) never degrades a rotation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from d3ke.errors import UnknownNameError

EULER_SEQUENCES = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")


def multiply(left: Float[Tensor, "... 3 3"], right: Float[Tensor, "... 3 3"]) -> Tensor:
    """Product of 3x3 matrices, batch dimensions broadcast: [..., 3, 3]."""
    return (
        left[..., :, 0:1] * right[..., 0:1, :]
        + left[..., :, 1:2] * right[..., 1:2, :]
        + left[..., :, 2:3] * right[..., 2:3, :]
    )


def apply(matrix: Float[Tensor, "... 3 3"], vector: Float[Tensor, "... 3"]) -> Tensor:
    """Matrix times vector, batch dimensions broadcast: [..., 3]."""
    return (
        matrix[..., :, 0] * vector[..., 0:1]
        + matrix[..., :, 1] * vector[..., 1:2]
        + matrix[..., :, 2] * vector[..., 2:3]
    )


def _normalize(vector: Tensor, fallback: Tensor, tolerance: float) -> Tensor:
    """Unit vector; `fallback` where the squared length is below `tolerance` (gradient 0 there)."""
    squared = (vector * vector).sum(-1, keepdim=True)
    usable = squared > tolerance
    length = torch.sqrt(torch.where(usable, squared, torch.ones_like(squared)))
    return torch.where(usable, vector / length, fallback)


def _perpendicular(unit: Tensor) -> Tensor:
    """A unit vector perpendicular to `unit` [..., 3]: the least aligned axis, projected."""
    axis = torch.nn.functional.one_hot(unit.abs().argmin(-1), 3).to(unit.dtype)
    across = axis - (axis * unit).sum(-1, keepdim=True) * unit
    return across / torch.linalg.vector_norm(across, dim=-1, keepdim=True)


def rotation_6d_to_matrix(x: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation whose first two columns are Gram-Schmidt of x[..., :3] and x[..., 3:].

    Zhou et al. 2019. The columns are (c1, c2, c1 x c2). A zero first vector or parallel vectors
    give a valid rotation with zero gradient instead of NaN.
    """
    first, second = x[..., :3], x[..., 3:]
    forward = torch.zeros_like(first)
    forward = torch.cat([forward[..., :1] + 1.0, forward[..., 1:]], -1)
    c1 = _normalize(first, forward, 1e-24)
    across = second - (c1 * second).sum(-1, keepdim=True) * c1
    # Projecting twice keeps the columns orthogonal when the two vectors are nearly parallel.
    across = across - (c1 * across).sum(-1, keepdim=True) * c1
    c2 = _normalize(across, _perpendicular(c1.detach()), 1e-24)
    return torch.stack([c1, c2, torch.linalg.cross(c1, c2)], -1)


def matrix_to_rotation_6d(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """The first two columns, one after the other; inverse of `rotation_6d_to_matrix`."""
    return torch.cat([rotation[..., 0], rotation[..., 1]], -1)


def axis_angle_to_matrix(
    axis: Float[Tensor, "*#batch 3"], angle: Float[Tensor, "*#batch"]
) -> Float[Tensor, "... 3 3"]:
    """Rodrigues' formula: rotation by `angle` [rad] about the unit vector `axis`."""
    x, y, z = axis.unbind(-1)
    sin, cos = torch.sin(angle), torch.cos(angle)
    rest = 1.0 - cos
    rows = [
        torch.stack([cos + x * x * rest, x * y * rest - z * sin, x * z * rest + y * sin], -1),
        torch.stack([y * x * rest + z * sin, cos + y * y * rest, y * z * rest - x * sin], -1),
        torch.stack([z * x * rest - y * sin, z * y * rest + x * sin, cos + z * z * rest], -1),
    ]
    return torch.stack(rows, -2)


def _axes(sequence: str) -> tuple[int, int, int, int]:
    """Axis indices of a Tait-Bryan sequence and its parity (+1 cyclic, -1 anticyclic)."""
    if sequence not in EULER_SEQUENCES:
        raise UnknownNameError("Euler sequence", sequence, EULER_SEQUENCES)
    i, j, k = ("XYZ".index(letter) for letter in sequence)
    return i, j, k, 1 if (j - i) % 3 == 1 else -1


def euler_to_matrix(
    angles: Float[Tensor, "*batch 3"], sequence: str
) -> Float[Tensor, "*batch 3 3"]:
    """Rotation of body-fixed angles [rad], in the order of `sequence` (e.g. "ZXY")."""
    basis = torch.eye(3, dtype=angles.dtype, device=angles.device)
    i, j, k, _ = _axes(sequence)
    first, second, third = (
        axis_angle_to_matrix(basis[axis], angles[..., n]) for n, axis in enumerate((i, j, k))
    )
    return multiply(multiply(first, second), third)


def matrix_to_euler(
    rotation: Float[Tensor, "*batch 3 3"], sequence: str
) -> Float[Tensor, "*batch 3"]:
    """Body-fixed angles [rad] of a rotation: the first and third in (-pi, pi], the second in
    [-pi/2, pi/2]. At gimbal lock the split between the first and third is arbitrary."""
    i, j, k, parity = _axes(sequence)
    cos_squared = rotation[..., i, i] ** 2 + rotation[..., i, j] ** 2
    cos = torch.sqrt(cos_squared.clamp_min(1e-24))
    first = torch.atan2(-parity * rotation[..., j, k], rotation[..., k, k])
    second = torch.atan2(parity * rotation[..., i, k], cos)
    third = torch.atan2(-parity * rotation[..., i, j], rotation[..., i, i])
    return torch.stack([first, second, third], -1)


def geodesic_angle(
    a: Float[Tensor, "*#batch 3 3"], b: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "..."]:
    """Angle [rad] in [0, pi] of the rotation from `a` to `b`; gradient 0 where they are equal."""
    difference = multiply(a.transpose(-1, -2), b)
    twice_sin = torch.stack(
        [
            difference[..., 2, 1] - difference[..., 1, 2],
            difference[..., 0, 2] - difference[..., 2, 0],
            difference[..., 1, 0] - difference[..., 0, 1],
        ],
        -1,
    )
    squared = (twice_sin * twice_sin).sum(-1)
    nonzero = squared > 0
    length = torch.sqrt(torch.where(nonzero, squared, torch.ones_like(squared)))
    length = torch.where(nonzero, length, torch.zeros_like(length))
    trace = difference.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(length, trace - 1.0)
