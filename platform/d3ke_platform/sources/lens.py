"""Lenses that distort: what a pinhole renderer sees, bent as a real lens bends it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from d3ke.camera import Camera, centered_intrinsics, project_camera_axes
from d3ke.distortion import undistort

MIDDLE_SPREAD = 0.01
"""How far the optical axis misses the image's middle, in image sides."""


def sample_lens(camera: Camera, *, strength: float, rng: np.random.Generator) -> Camera:
    """The camera with a lens drawn by chance: `strength` is the largest |k1|.

    Mostly barrel shaped, as wide lenses are; tangential terms of a thousandth; the optical axis a
    percent off the middle; pixels square within two thousandths.
    """
    k1 = strength * rng.uniform(-1.0, 0.3)
    k2 = -k1 * rng.uniform(0.0, 0.4)
    p1, p2 = rng.normal(0.0, 1e-3 * min(1.0, 5 * strength), 2)
    intrinsics = camera.intrinsics.copy()
    intrinsics[1, 1] *= 1 + rng.uniform(-0.002, 0.002)
    intrinsics[:2, 2] += rng.uniform(-MIDDLE_SPREAD, MIDDLE_SPREAD, 2) * camera.size
    return replace(camera, intrinsics=intrinsics, distortion=np.array([k1, k2, p1, p2, 0.0]))


@dataclass(frozen=True, eq=False)
class Lens:
    """How the picture of a pinhole becomes that of a camera with the same place and direction."""

    pinhole: Camera
    """Level and centred, of the renderer's size; it sees all that the camera does."""
    maps: tuple[np.ndarray, np.ndarray]
    """[H, W] column and row of the pinhole's picture for each of the camera's pixels, in OpenCV's
    fixed-point form (1/32 px)."""

    @classmethod
    def of(cls, camera: Camera, size: int) -> Lens:
        """Lens of a camera for a renderer of square pictures, `size` px a side.

        Raises InvalidInputError where no ray reaches a corner of the camera's image.
        """
        rays = _flat_rays(camera)
        middle = (size - 1) / 2
        pinhole = Camera(
            # The outermost pixel's centre stays half a pixel inside.
            intrinsics=centered_intrinsics((middle - 0.5) / np.abs(rays).max(), (size, size)),
            rotation=camera.rotation,
            translation=camera.translation,
            size=(size, size),
        )
        axes = np.concatenate([rays, np.ones_like(rays[..., :1])], axis=-1)
        pixels = project_camera_axes(pinhole, axes).astype(np.float32)
        fixed = cv2.convertMaps(pixels[..., 0], pixels[..., 1], cv2.CV_16SC2)
        return cls(pinhole, (np.asarray(fixed[0]), np.asarray(fixed[1])))

    def __call__(self, picture: UInt8[np.ndarray, "S S 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The camera's picture of what the pinhole sees."""
        return np.asarray(cv2.remap(picture, *self.maps, cv2.INTER_LINEAR), dtype=np.uint8)


def _flat_rays(camera: Camera) -> Float[np.ndarray, "H W 2"]:
    """Where the ray through each pixel meets the plane z = 1, camera axes."""
    width, height = camera.size
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)
    seen = (pixels - camera.intrinsics[:2, 2]) @ np.linalg.inv(camera.intrinsics[:2, :2]).T
    return undistort(seen, camera.distortion)
