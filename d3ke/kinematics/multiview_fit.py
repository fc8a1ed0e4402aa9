"""Points in space from their positions in several pictures: linear start, robust refinement.

Array letters beside the usual ones: V views, N points. Everything works on positions on the plane
z = 1 of each camera, lens distortion undone, and measures errors in pixels through the intrinsics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from d3ke.camera import Camera
from d3ke.distortion import undistort

ITERATIONS = 25
_NEAREST_M = 1e-2
"""Points are kept this far in front of a camera while they are refined."""
_STEP_M = 1e-7
"""Refinement ends when no point moves further than this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """The same points seen by V cameras."""

    rotations: Float[np.ndarray, "V 3 3"]
    """Ground to camera axes."""
    translations: Float[np.ndarray, "V 3"]
    """Ground origin in camera axes, m."""
    pixels_per_unit: Float[np.ndarray, "V 2 2"]
    """Pixels of a step on the plane z = 1."""
    flat: Float[np.ndarray, "V N 2"]
    """Positions on the plane z = 1; 0 where a point is not seen."""
    weights: Float[np.ndarray, "V N"]
    """Confidence; 0 = not seen."""

    def select(self, points: Bool[np.ndarray, " N"]) -> Views:
        """Some of the points."""
        return self._with(self.flat[:, points], self.weights[:, points])

    def reweighted(self, weights: Float[np.ndarray, "V N"]) -> Views:
        """The same points with other weights."""
        return self._with(self.flat, weights)

    def _with(self, flat: np.ndarray, weights: np.ndarray) -> Views:
        return Views(
            rotations=self.rotations,
            translations=self.translations,
            pixels_per_unit=self.pixels_per_unit,
            flat=flat,
            weights=weights,
        )


def observe(
    cameras: Sequence[Camera],
    pixels: Float[np.ndarray, "V N 2"],
    weights: Float[np.ndarray, "V N"],
) -> Views:
    """Views of points at `pixels`; those that are NaN, of weight 0 or that no ray of the camera
    reaches get weight 0."""
    seen = np.isfinite(pixels).all(axis=-1) & (weights > 0.0)
    flat = np.zeros(pixels.shape)
    for index, camera in enumerate(cameras):
        flat[index], reached = _on_plane(camera, pixels[index], seen[index])
        seen[index] &= reached
    return Views(
        rotations=np.stack([camera.rotation for camera in cameras]),
        translations=np.stack([camera.translation for camera in cameras]),
        pixels_per_unit=np.stack([camera.intrinsics[:2, :2] for camera in cameras]),
        flat=np.where(seen[..., None], flat, 0.0),
        weights=np.where(seen, weights, 0.0),
    )


def _on_plane(
    camera: Camera, pixels: Float[np.ndarray, "N 2"], seen: Bool[np.ndarray, " N"]
) -> tuple[Float[np.ndarray, "N 2"], Bool[np.ndarray, " N"]]:
    """Undistorted positions on the plane z = 1, and where there is one."""
    middle = camera.intrinsics[:2, 2]
    plain = np.where(seen[:, None], pixels, middle) - middle
    plain = plain @ np.linalg.inv(camera.intrinsics[:2, :2]).T
    if not camera.distortion.any():
        return plain, seen
    flat = undistort(plain, camera.distortion, unreached=np.nan)
    return flat, np.asarray(np.isfinite(flat).all(axis=-1))


def linear_points(views: Views) -> Float[np.ndarray, "N 3"]:
    """Least-squares intersections of the rays, [N,3] m in ground; NaN where they leave it open.

    A position x on the plane z = 1 says (r1 - x r3) X = x t3 - t1 (and so for y): linear in the
    point X (direct linear transformation, inhomogeneous). An equation's error is a distance
    times the depth, so it is solved again with rows divided by the depth found.
    """
    top, last = views.rotations[:, :2], views.rotations[:, 2]
    rows = top[:, None] - views.flat[..., None] * last[:, None, None]
    right = views.flat * views.translations[:, None, 2:] - views.translations[:, None, :2]
    points = np.full((views.flat.shape[1], 3), np.nan)
    focal = np.linalg.det(views.pixels_per_unit)[:, None]  # squared: errors count in pixels
    weights = views.weights * focal
    for _ in range(2):
        matrix = np.einsum("vn,vnai,vnaj->nij", weights, rows, rows)
        vector = np.einsum("vn,vnai,vna->ni", weights, rows, right)
        points = _solve(matrix, vector)
        depth = np.abs(_in_cameras(views, points)[..., 2])
        depth = np.maximum(np.nan_to_num(depth, nan=1.0), _NEAREST_M)
        weights = views.weights * focal / np.square(depth)
    return points


def refine_points(
    views: Views, start: Float[np.ndarray, "N 3"], *, scale_px: float
) -> Float[np.ndarray, "N 3"]:
    """Points that minimise `robust_cost`, by damped Gauss-Newton steps from `start`, [N,3] m.

    Every point has its own damping. NaN stays NaN.
    """
    points = start.copy()
    damping = np.full(len(points), 1e-3)
    cost = robust_cost(views, points, scale_px=scale_px)
    active = np.isfinite(points).all(axis=-1)
    for _ in range(ITERATIONS):
        if not active.any():
            break
        part, here = views.select(active), points[active]
        hessian, gradient = _normal_equations(part, here, scale_px)
        diagonal = np.einsum("nii->ni", hessian)
        diagonal += damping[active, None] * diagonal + 1e-12
        step = -_solve(hessian, gradient)
        trial = robust_cost(part, here + step, scale_px=scale_px)
        better = trial <= cost[active]
        at = np.flatnonzero(active)
        points[at[better]] += step[better]
        cost[at[better]] = trial[better]
        damping[at] = np.clip(damping[at] * np.where(better, 0.1, 10.0), 1e-12, 1e12)
        length = np.linalg.norm(step, axis=-1)
        active[at[(better & (length < _STEP_M)) | ~np.isfinite(length)]] = False
        active[at[~better & (damping[at] > 1e9)]] = False
    return points


def robust_cost(
    views: Views, points: Float[np.ndarray, "N 3"], *, scale_px: float
) -> Float[np.ndarray, " N"]:
    """Cauchy's loss of the reprojection errors e: sum over views of w s^2/2 log(1 + (e/s)^2)."""
    errors = np.square(reprojection(views, points)).sum(axis=-1)
    loss = 0.5 * scale_px**2 * np.log1p(errors / scale_px**2)
    return np.asarray((views.weights * loss).sum(axis=0))


def cost_gradient(
    views: Views, points: Float[np.ndarray, "N 3"], *, scale_px: float
) -> Float[np.ndarray, "N 3"]:
    """Derivative of `robust_cost` by the points, px^2/m."""
    return _normal_equations(views, points, scale_px)[1]


def reprojection(views: Views, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "V N 2"]:
    """Undistorted picture positions of points minus the seen ones, px; 0 where not seen."""
    in_camera = _in_cameras(views, points)
    flat = in_camera[..., :2] / np.maximum(in_camera[..., 2:], _NEAREST_M)
    off = np.einsum("vab,vnb->vna", views.pixels_per_unit, flat - views.flat)
    return np.where(views.weights[..., None] > 0.0, off, 0.0)


def depths(views: Views, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "V N"]:
    """Distance in front of each camera, m."""
    return np.asarray(_in_cameras(views, points)[..., 2])


def widest_angle(views: Views, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, " N"]:
    """Largest angle, rad, between the rays to a point from two of the cameras that see it.

    Where it is small the rays are parallel and the distance is a guess; 0 for a single ray.
    """
    centers = -np.einsum("vji,vj->vi", views.rotations, views.translations)
    rays = points - centers[:, None]
    rays = rays / np.maximum(np.linalg.norm(rays, axis=-1, keepdims=True), _NEAREST_M)
    cosines = np.einsum("vni,wni->nvw", rays, rays)
    seen = views.weights.T > 0.0
    both = seen[:, :, None] & seen[:, None, :]
    return np.asarray(np.arccos(np.clip(np.where(both, cosines, 1.0).min(axis=(1, 2)), -1.0, 1.0)))


def _normal_equations(
    views: Views, points: Float[np.ndarray, "N 3"], scale_px: float
) -> tuple[Float[np.ndarray, "N 3 3"], Float[np.ndarray, "N 3"]]:
    """Gauss-Newton's approximation of the Hessian, and the exact gradient, of `robust_cost`."""
    off = reprojection(views, points)
    jacobian = _jacobian(views, points)
    weights = views.weights / (1.0 + np.square(off).sum(axis=-1) / scale_px**2)
    hessian = np.einsum("vn,vnai,vnaj->nij", weights, jacobian, jacobian)
    return hessian, np.einsum("vn,vnai,vna->ni", weights, jacobian, off)


def _jacobian(views: Views, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "V N 2 3"]:
    """Derivative of `reprojection` by the points, px/m."""
    in_camera = _in_cameras(views, points)
    depth = np.maximum(in_camera[..., 2], _NEAREST_M)
    by_axes = np.zeros((*depth.shape, 2, 3))
    by_axes[..., 0, 0] = by_axes[..., 1, 1] = 1.0 / depth
    by_axes[..., 2] = -in_camera[..., :2] / np.square(depth)[..., None]
    return np.asarray(
        np.einsum("vab,vnbi,vij->vnaj", views.pixels_per_unit, by_axes, views.rotations)
    )


def _in_cameras(views: Views, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "V N 3"]:
    return np.asarray(
        np.einsum("vij,nj->vni", views.rotations, points) + views.translations[:, None]
    )


def _solve(
    matrix: Float[np.ndarray, "N 3 3"], right: Float[np.ndarray, "N 3"]
) -> Float[np.ndarray, "N 3"]:
    """Solutions of symmetric systems; NaN where the matrix is singular."""
    size = np.trace(matrix, axis1=-2, axis2=-1) / 3.0
    scaled = matrix / np.maximum(size, 1e-300)[:, None, None]
    regular = np.linalg.det(scaled) > 1e-12
    safe = np.where(regular[:, None, None], scaled, np.eye(3))
    solution = np.linalg.solve(safe, (right / np.maximum(size, 1e-300)[:, None])[..., None])
    return np.where(regular[:, None], solution[..., 0], np.nan)
