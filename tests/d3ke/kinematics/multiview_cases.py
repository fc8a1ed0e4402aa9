"""Cameras and points of which everything is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.camera import Camera, project

LENS = np.array([-0.12, 0.06, 0.0015, -0.001, -0.01])
"""Stronger than a laboratory lens, so that ignoring it shows."""


def ring(count: int, *, lens: FloatArray | None = None) -> list[Camera]:
    """Cameras 4 m around the origin that look at a person, of different focal lengths."""
    cameras = []
    for index in range(count):
        angle = 2.0 * np.pi * index / count + 0.3
        place = np.array([4.0 * np.cos(angle), 1.2 + 0.3 * (index % 3), 4.0 * np.sin(angle)])
        camera = Camera.looking_at(
            place, np.array([0.0, 1.0, 0.0]), focal=1400.0 + 60.0 * index, size=(1080, 1920)
        )
        cameras.append(camera if lens is None else replace(camera, distortion=lens))
    return cameras


def body_points(frames: int = 6, count: int = 9, seed: int = 0) -> FloatArray:
    """[T, K, 3] m, where a person could be."""
    rng = np.random.default_rng(seed)
    return rng.uniform([-0.5, 0.0, -0.5], [0.5, 1.8, 0.5], (frames, count, 3))


def pictures(cameras: list[Camera], points: FloatArray) -> FloatArray:
    """[V, T, K, 2] px."""
    return np.stack([project(camera, points) for camera in cameras])
