"""Lens distortion: OpenCV's radial and tangential model on the plane z = 1, both ways."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from d3ke.errors import InvalidInputError

ITERATIONS = 50
LONGEST_STEP = 0.3


def distort(
    flat: Float[np.ndarray, "*n 2"], distortion: Float[np.ndarray, "5"]
) -> Float[np.ndarray, "*n 2"]:
    """Where the lens puts ideal positions x/z, y/z; `distortion` is k1, k2, p1, p2, k3."""
    k1, k2, p1, p2, k3 = distortion
    x, y = flat[..., 0], flat[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def undistort(
    seen: Float[np.ndarray, "*n 2"],
    distortion: Float[np.ndarray, "5"],
    *,
    unreached: float | None = None,
) -> Float[np.ndarray, "*n 2"]:
    """Inverse of `distort`, to 1e-9, by Newton's method with bounded steps.

    OpenCV's own inverse stops after five simple steps, which leaves up to 0.1 px at the edge of a
    wide lens. Raises InvalidInputError for a position that no ray reaches: far outside the image,
    where the polynomial folds back; with `unreached` such a position becomes that value instead.
    """
    flat = np.array(seen, dtype=np.float64)
    for _ in range(ITERATIONS):
        missing = seen - distort(flat, distortion)
        if not np.abs(missing).max(initial=0.0) > 1e-12:
            return flat
        step = _solve_symmetric(_jacobian(flat, distortion), missing)
        length = np.linalg.norm(step, axis=-1, keepdims=True)
        flat = flat + step * np.minimum(1.0, LONGEST_STEP / np.maximum(length, 1e-300))
    found = (np.abs(seen - distort(flat, distortion)) <= 1e-9).all(axis=-1)
    if unreached is None and not found.all():
        raise InvalidInputError("pixel", "no ray reaches it: too far outside the distorted image")
    return flat if unreached is None else np.where(found[..., None], flat, unreached)


def _jacobian(
    flat: Float[np.ndarray, "*n 2"], distortion: Float[np.ndarray, "5"]
) -> Float[np.ndarray, "*n 3"]:
    """Derivatives of `distort` (symmetric): dx/dx, dx/dy = dy/dx, dy/dy."""
    k1, k2, p1, p2, k3 = distortion
    x, y = flat[..., 0], flat[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2 * (k1 + r2 * (2 * k2 + 3 * r2 * k3))
    return np.stack(
        [
            radial + x * x * slope + 2 * p1 * y + 6 * p2 * x,
            x * y * slope + 2 * p1 * x + 2 * p2 * y,
            radial + y * y * slope + 6 * p1 * y + 2 * p2 * x,
        ],
        axis=-1,
    )


def _solve_symmetric(
    matrix: Float[np.ndarray, "*n 3"], right: Float[np.ndarray, "*n 2"]
) -> Float[np.ndarray, "*n 2"]:
    """Solutions of [[a, b], [b, d]] x = right, bounded where the matrix is singular."""
    a, b, d = matrix[..., 0], matrix[..., 1], matrix[..., 2]
    determinant = a * d - b * b
    determinant = np.where(np.abs(determinant) < 1e-6, 1e-6, determinant)
    u, v = right[..., 0], right[..., 1]
    return np.stack([d * u - b * v, a * v - b * u], axis=-1) / determinant[..., None]
