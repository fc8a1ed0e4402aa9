"""Pictures made by chance: cloudy surfaces for walls and floors."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

CLOUD_CELLS = (4, 12, 40)


def noise_texture(
    rng: np.random.Generator, *, size: int, base: Float[np.ndarray, "3"], contrast: float
) -> UInt8[np.ndarray, "size size 3"]:
    """Clouds of three scales and a fine grain around the colour `base` (RGB, 0 to 1)."""
    clouds = np.zeros((size, size, 3), np.float32)
    for cells in CLOUD_CELLS:
        gray, tint = rng.normal(0, 1, (cells, cells, 1)), rng.normal(0, 0.25, (cells, cells, 3))
        coarse = (gray + tint).astype(np.float32)
        clouds += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    clouds += rng.normal(0, 0.3, (size, size, 1)).astype(np.float32)
    return np.clip((base + contrast * clouds) * 255, 0, 255).astype(np.uint8)


def fading_texture(
    picture: UInt8[np.ndarray, "H W 3"],
    rng: np.random.Generator,
    *,
    steepness: tuple[float, float] = (1.0, 5.0),
) -> UInt8[np.ndarray, "H W 3"]:
    """The picture as a lamp lights it: darker with the distance from a point near the middle."""
    height, width = picture.shape[:2]
    row, column = rng.uniform(0.3, 0.7, 2)
    y, x = np.mgrid[0:height, 0:width]
    distance2 = (y / height - row) ** 2 + (x / width - column) ** 2
    fading = 1.15 / (1.0 + rng.uniform(*steepness) * distance2)
    return np.clip(picture * fading[..., None], 0, 255).astype(np.uint8)
