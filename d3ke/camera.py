"""Calibrated pinhole cameras: projection, perspective-correct crops, placing by a box.

A `Camera` maps ground points (m; x forward, y up, z right) to its own axes (x right, y down,
z forward) by `x_cam = rotation @ x_ground + translation`, then to pixels by the intrinsics and
OpenCV's five distortion coefficients. Pixel centres lie at integers; a box is
[x0, y0, x1, y1] in pixels. A crop is itself a camera: same centre, turned so that its optical
axis goes through the box centre, so that a person at the image's edge is seen as in its middle
(paper section 3.1; D3KE facts 4.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from d3ke.distortion import distort, undistort
from d3ke.errors import InvalidInputError

GROUND_UP = np.array([0.0, 1.0, 0.0])

# Camera in front of the person: ground x comes towards it, ground z points to the image's left.
_FACING = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """A calibrated camera; every array is float64 and read-only.

    Raises InvalidInputError when a shape is wrong, a value is not finite, a focal length or size
    is not positive, or `rotation` is not a rotation.
    """

    intrinsics: Float[np.ndarray, "3 3"]
    """K, px: [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] (a skew entry is respected)."""
    rotation: Float[np.ndarray, "3 3"]
    """Ground to camera axes."""
    translation: Float[np.ndarray, "3"]
    """Ground origin in camera axes, m."""
    size: tuple[int, int]
    """Image width and height, px."""
    distortion: Float[np.ndarray, "5"] = field(default_factory=lambda: np.zeros(5))
    """k1, k2, p1, p2, k3 as in OpenCV."""

    def __post_init__(self) -> None:
        for name, shape in _ARRAY_SHAPES.items():
            object.__setattr__(self, name, _checked_array(name, getattr(self, name), shape))
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))
        if min(self.size) < 1:
            raise InvalidInputError("camera size", f"{self.size} px has a side below 1")
        if self.intrinsics[0, 0] <= 0 or self.intrinsics[1, 1] <= 0:
            raise InvalidInputError("camera intrinsics", "a focal length is not positive")
        off = np.abs(self.rotation @ self.rotation.T - np.eye(3)).max()
        if off > 1e-4 or np.linalg.det(self.rotation) < 0:
            raise InvalidInputError(
                "camera rotation", f"not a right-handed rotation (off by {off:.2g})"
            )

    @property
    def center(self) -> Float[np.ndarray, "3"]:
        """Optical centre in ground, m."""
        return -self.rotation.T @ self.translation

    @classmethod
    def assumed(cls, size: tuple[int, int], fov_deg: float = 55.0) -> Camera:
        """The level camera assumed for a video of an unknown one, at the ground origin.

        `fov_deg` is the field of view of the longer image side. Ground x points towards the
        camera, y up, z to the image's left: a person who faces the camera has an upright pelvis
        rotation near the identity.
        """
        if not 1.0 <= fov_deg < 179.0:
            raise InvalidInputError("fov_deg", f"{fov_deg} is outside 1 to 179 degrees")
        focal = max(size) / 2 / math.tan(math.radians(fov_deg) / 2)
        return cls(
            intrinsics=centered_intrinsics(focal, size),
            rotation=_FACING.copy(),
            translation=np.zeros(3),
            size=size,
        )

    @classmethod
    def looking_at(
        cls,
        position: Float[np.ndarray, "3"],
        target: Float[np.ndarray, "3"],
        *,
        focal: float,
        size: tuple[int, int],
    ) -> Camera:
        """Camera at `position` with its axis through `target` (ground, m), roll 0, focal in px."""
        rotation = level_rotation(target - position, fallback_up=np.array([1.0, 0.0, 0.0]))
        return cls(
            intrinsics=centered_intrinsics(focal, size),
            rotation=rotation,
            translation=-rotation @ position,
            size=size,
        )


_ARRAY_SHAPES = {
    "intrinsics": (3, 3),
    "rotation": (3, 3),
    "translation": (3,),
    "distortion": (5,),
}


def _checked_array(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.array(value, dtype=np.float64)
    if array.shape != shape:
        raise InvalidInputError(f"camera {name}", f"shape is {array.shape}, must be {shape}")
    if not np.isfinite(array).all():
        raise InvalidInputError(f"camera {name}", "contains a value that is not finite")
    array.flags.writeable = False
    return array


def centered_intrinsics(focal: float, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """K with square pixels and the principal point in the middle of the image, px."""
    width, height = size
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], float)


def level_rotation(
    axis: Float[np.ndarray, "3"], *, fallback_up: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "3 3"]:
    """Rotation ground -> camera whose z axis is `axis` (ground) and whose x axis is horizontal.

    `fallback_up` (ground) takes the place of ground up when `axis` is vertical.
    """
    forward = axis / np.linalg.norm(axis)
    right = np.cross(forward, GROUND_UP)
    if np.linalg.norm(right) < 1e-6:
        right = np.cross(forward, fallback_up)
    right = right / np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward])


def to_camera(camera: Camera, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Ground points (m) in camera axes (m)."""
    return points @ camera.rotation.T + camera.translation


def project(camera: Camera, points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
    """Pixels of ground points (m); NaN for points that are not in front of the camera."""
    return project_camera_axes(camera, to_camera(camera, points))


def project_camera_axes(
    camera: Camera, points: Float[np.ndarray, "*n 3"]
) -> Float[np.ndarray, "*n 2"]:
    """Pixels of points in camera axes (m); NaN where z <= 0."""
    depth = points[..., 2:]
    flat = points[..., :2] / np.where(depth > 0, depth, np.nan)
    if camera.distortion.any():
        flat = distort(flat, camera.distortion)
    return flat @ camera.intrinsics[:2, :2].T + camera.intrinsics[:2, 2]


def unproject_rays(camera: Camera, pixels: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 3"]:
    """Unit directions (camera axes) of the rays through pixels, distortion undone.

    Raises InvalidInputError for a pixel so far outside a distorted image that no ray reaches it.
    """
    flat = _undistorted(camera, pixels)
    rays = np.concatenate([flat, np.ones_like(flat[..., :1])], axis=-1)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _undistorted(camera: Camera, pixels: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """Positions on the plane z = 1 of pixels."""
    plain = (pixels - camera.intrinsics[:2, 2]) @ np.linalg.inv(camera.intrinsics[:2, :2]).T
    return undistort(plain, camera.distortion) if camera.distortion.any() else plain


def box_of_points(points: Float[np.ndarray, "*n 2"], pad: float = 0.0) -> Float[np.ndarray, "4"]:
    """Tight box [x0, y0, x1, y1] around pixels, widened by `pad` px; NaN points are left out.

    Raises InvalidInputError when no point is left.
    """
    flat = points.reshape(-1, 2).astype(np.float64)
    flat = flat[np.isfinite(flat).all(axis=1)]
    if len(flat) == 0:
        raise InvalidInputError("box_of_points", "no point lies in front of the camera")
    return np.concatenate([flat.min(axis=0) - pad, flat.max(axis=0) + pad])


def crop_camera(
    camera: Camera, box: Float[np.ndarray, "4"], *, size: int, margin: float = 1.0
) -> Camera:
    """Square, undistorted camera that sees `box` of `camera` in the middle of its image.

    Same centre; optical axis through the box centre; roll 0 against ground up, or against the
    camera's -y when the axis is vertical; fx = fy such that the longer of the box's two extents
    (between the mid-points of opposite sides, seen through the new camera), times `margin`, fills
    `size` px. Raises InvalidInputError for a box without area or one wider than a half space.
    """
    _check_box(box)
    if size < 1 or not margin > 0:
        raise InvalidInputError("crop", f"size {size} and margin {margin} must be positive")
    x0, y0, x1, y1 = box
    center = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    axis = camera.rotation.T @ unproject_rays(camera, center)
    rotation = level_rotation(axis, fallback_up=-camera.rotation[1])
    sides = np.array([[x0, center[1]], [x1, center[1]], [center[0], y0], [center[0], y1]])
    rays = unproject_rays(camera, sides) @ (rotation @ camera.rotation.T).T
    if (rays[:, 2] <= 0).any():
        raise InvalidInputError(f"box {box.tolist()}", "it spans more than a half space")
    flat = rays[:, :2] / rays[:, 2:]
    extent = max(np.linalg.norm(flat[1] - flat[0]), np.linalg.norm(flat[3] - flat[2]))
    return Camera(
        intrinsics=centered_intrinsics(size / (float(extent) * margin), (size, size)),
        rotation=rotation,
        translation=-rotation @ camera.center,
        size=(size, size),
    )


def _check_box(box: Float[np.ndarray, "4"]) -> None:
    if not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]:
        raise InvalidInputError(f"box {box.tolist()}", "it must be finite with x1 > x0 and y1 > y0")


def warp(image: UInt8[np.ndarray, "H W 3"], camera: Camera, crop: Camera) -> np.ndarray:
    """What `crop` sees, from an image of `camera`: uint8 [h, w, 3], black outside the image.

    Bilinear. Where the crop shrinks the image it is sampled k times finer and averaged over
    k x k blocks, so that no source pixel is passed over (aliasing would change with the scale
    of the person); from k = 4, blocks of the image are averaged before and what is left after,
    which takes a fraction of the time. Both cameras must share their centre: only then is a crop
    a warp.
    """
    height, width = image.shape[:2]
    if (width, height) != camera.size:
        raise InvalidInputError(
            "image", f"it is {width}x{height} px, its camera {camera.size[0]}x{camera.size[1]}"
        )
    exact = _shrink_factor(camera, crop)
    if exact >= 4.0:
        blocks = int(exact / 2)
        image, camera, exact = *_shrunk(image, camera, blocks), exact / blocks
    factor = max(1, math.ceil(exact - 1e-6))
    fine = crop.intrinsics.copy()
    fine[:2] *= factor
    fine[:2, 2] += (factor - 1) / 2  # pixel centres at integers: a block's middle is its pixel
    fine_size = (crop.size[0] * factor, crop.size[1] * factor)
    sampled = _sample(image, camera, crop.rotation @ camera.rotation.T, fine, fine_size)
    if factor > 1:
        sampled = cv2.resize(sampled, crop.size, interpolation=cv2.INTER_AREA)
    return np.asarray(sampled, dtype=np.uint8)


def _shrunk(
    image: UInt8[np.ndarray, "H W 3"], camera: Camera, blocks: int
) -> tuple[np.ndarray, Camera]:
    """Mean colours of blocks x blocks pixels, black beyond the image, and who sees them so."""
    height, width = image.shape[:2]
    more = -height % blocks, -width % blocks
    if any(more):
        image = cv2.copyMakeBorder(image, 0, more[0], 0, more[1], cv2.BORDER_CONSTANT)
    size = (image.shape[1] // blocks, image.shape[0] // blocks)
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] -= (blocks - 1) / 2  # pixel centres at integers
    intrinsics[:2] /= blocks
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small, replace(camera, intrinsics=intrinsics, size=size)


def _sample(
    image: UInt8[np.ndarray, "H W 3"],
    camera: Camera,
    turn: Float[np.ndarray, "3 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> np.ndarray:
    """The image as a camera turned by `turn` sees it. Without distortion that is a homography,
    which takes two thirds of the time of a map per pixel."""
    if not camera.distortion.any():
        homography = camera.intrinsics @ turn.T @ np.linalg.inv(intrinsics)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpPerspective(image, homography, size, flags=flags))
    maps = cv2.initUndistortRectifyMap(
        camera.intrinsics, camera.distortion, turn, intrinsics, size, cv2.CV_32FC1
    )
    return np.asarray(cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def _shrink_factor(camera: Camera, crop: Camera) -> float:
    """Source pixels per crop pixel, at the middle of the crop."""
    middle = (np.array(crop.size, dtype=np.float64) - 1) / 2
    pixels = middle + np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    rays = unproject_rays(crop, pixels) @ (camera.rotation @ crop.rotation.T).T
    source = project_camera_axes(camera, rays)
    steps = np.linalg.norm(source[1:] - source[0], axis=1)
    return float(steps.max()) if np.isfinite(steps).all() else 1.0


def place_by_box(
    points: Float[np.ndarray, "K 3"], box: Float[np.ndarray, "4"], camera: Camera
) -> Float[np.ndarray, "3"]:
    """Translation (camera axes, m) that fits the projection of `points` into `box`.

    `points` are in camera axes, m, relative to any origin. That the outermost point i of the left
    side lies on the box's left side xl (on the plane z = 1) reads X_i + tx = xl (Z_i + tz): linear
    in the translation. So the four sides give four equations for three unknowns, solved by least
    squares; which points are outermost, and where they touch, is settled by repeating.
    Box and points should span the same extent: markers span a little less than a silhouette,
    which places them a little too far.
    Raises InvalidInputError for a bad box or fewer than two distinct points.
    """
    _check_box(box)
    axes = np.array([0, 1, 0, 1])
    touching = np.tile((box[:2] + box[2:]) / 2, (4, 1))
    active = _outermost(points[:, :2])
    translation = np.zeros(3)
    for _ in range(30):
        touching[np.arange(4), axes] = box
        limits = _undistorted(camera, touching)[np.arange(4), axes]
        previous, translation = translation, _solve_sides(points[active], limits, axes)
        pixels = project_camera_axes(camera, points + translation)
        if np.isnan(pixels).any():
            raise InvalidInputError(f"box {box.tolist()}", "the points do not fit in it")
        if np.abs(translation - previous).max() < 1e-9:
            break
        active = _outermost(pixels)
        touching = pixels[active]
    return translation


def _outermost(flat: Float[np.ndarray, "K 2"]) -> np.ndarray:
    """Indices of the leftmost, topmost, rightmost and lowest point."""
    return np.concatenate([flat.argmin(axis=0), flat.argmax(axis=0)])


def _solve_sides(
    points: Float[np.ndarray, "4 3"], limits: Float[np.ndarray, "4"], axes: np.ndarray
) -> Float[np.ndarray, "3"]:
    """Least-squares translation that puts point i at `limits[i]` on axis `axes[i]` of z = 1."""
    matrix = np.zeros((4, 3))
    matrix[np.arange(4), axes] = 1.0
    matrix[:, 2] = -limits
    right = limits * points[:, 2] - points[np.arange(4), axes]
    solution, _, rank, _ = np.linalg.lstsq(matrix, right, rcond=None)
    if rank < 3:
        raise InvalidInputError("place_by_box", "the box does not determine a distance")
    return np.asarray(solution, dtype=np.float64)
