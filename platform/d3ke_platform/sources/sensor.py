"""What a lens and a sensor do to a rendered picture: blur, gamma, white balance, noise."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

NOISE_PICTURES = 4


class Sensor:
    """One camera's settings during one trial, drawn by chance; call it on each picture in turn."""

    def __init__(self, *, size: tuple[int, int], rng: np.random.Generator) -> None:
        width, height = size
        self._blur_px = rng.uniform(0.35, 0.75)
        gamma, gain = rng.uniform(0.8, 1.25), rng.uniform(0.93, 1.06, 3)
        levels = (np.arange(256) / 255.0)[:, None] ** gamma * gain
        self._levels = np.clip(levels * 255, 0, 255).astype(np.uint8).reshape(1, 256, 3)
        noise = rng.normal(0.0, rng.uniform(1.0, 5.0), (NOISE_PICTURES, height, width, 3))
        self._noise = np.round(noise).astype(np.int16)
        self._rng = rng

    def __call__(self, picture: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """The picture as the sensor reads it."""
        soft = cv2.GaussianBlur(picture, (0, 0), self._blur_px)
        toned = np.asarray(cv2.LUT(soft, self._levels))
        # A few noise pictures, flipped and shifted by chance: drawing new noise costs 10 ms each.
        noise = self._noise[self._rng.integers(NOISE_PICTURES)]
        noise = np.roll(noise, int(self._rng.integers(noise.shape[0])), axis=0)
        return np.clip(toned.astype(np.int16) + noise, 0, 255).astype(np.uint8)
