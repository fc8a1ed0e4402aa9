"""Lenses: the pinhole's picture is bent exactly as the camera's distortion says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from d3ke.camera import project
from d3ke_platform.sources.lens import Lens, sample_lens
from d3ke_platform.sources.scene import sample_camera

SIZE = 200


def camera(seed: int, strength: float = 0.2):
    rng = np.random.default_rng(seed)
    plain = sample_camera("frontal", image_size=SIZE, rng=rng, field_of_view_deg=60.0)
    return sample_lens(plain, strength=strength, rng=rng)


@pytest.mark.parametrize("seed", range(6))
def test_points_land_where_the_camera_projects_them(seed: int) -> None:
    """A picture whose values are its own coordinates shows where each pixel comes from."""
    view = camera(seed)
    lens = Lens.of(view, 256)
    rng = np.random.default_rng(seed)
    points = rng.uniform((-1.5, 0.2, -1.3), (1.0, 2.0, 1.3), (300, 3))
    seen, plain = project(view, points), project(lens.pinhole, points)
    inside = ((seen > 1) & (seen < SIZE - 2)).all(axis=1)
    assert inside.sum() > 100
    columns, rows = np.meshgrid(np.arange(256, dtype=np.float32), np.arange(256, dtype=np.float32))
    for axis, ramp in enumerate((columns, rows)):
        bent = cv2.remap(ramp, *lens.maps, cv2.INTER_LINEAR)
        value = cv2.remap(
            bent,
            seen[inside, 0].astype(np.float32)[None],
            seen[inside, 1].astype(np.float32)[None],
            cv2.INTER_LINEAR,
        )[0]
        np.testing.assert_allclose(value, plain[inside, axis], atol=0.06)


@pytest.mark.parametrize("seed", range(4))
def test_the_pinhole_sees_everything_without_waste(seed: int) -> None:
    lens = Lens.of(camera(seed, strength=0.3), 256)
    white = lens(np.full((256, 256, 3), 255, np.uint8))
    assert white.shape == (SIZE, SIZE, 3)
    assert white.min() == 255
    edge = np.zeros((256, 256, 3), np.uint8)
    edge[[0, 1, 2, -1, -2, -3]] = 255
    edge[:, [0, 1, 2, -1, -2, -3]] = 255
    assert lens(edge).max() > 100


def test_lenses_differ_and_are_as_strong_as_asked() -> None:
    distortions = np.array([camera(seed, strength=0.15).distortion for seed in range(40)])
    assert np.abs(distortions[:, 0]).max() <= 0.15
    assert np.abs(distortions[:, 0]).max() > 0.1
    assert (distortions[:, 0] > 0).any()
    assert distortions[:, 0].mean() < -0.02
    assert np.abs(distortions[:, 2:4]).max() < 0.01
    assert len({camera(seed).intrinsics[0, 2] for seed in range(5)}) == 5
