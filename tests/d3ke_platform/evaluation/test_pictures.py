from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from d3ke_platform.evaluation.pictures import draw_skeleton, mosaic, project_to_crop


def test_projection_is_the_pinhole_camera():
    item = SimpleNamespace(
        crop_intrinsics=np.array([[[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]]),
        crop_rotation=np.array([[[0.0, 0, -1], [0, -1, 0], [-1, 0, 0]]]),
        crop_translation=np.array([[0.0, 1.0, 4.0]]),
    )
    # 1 m towards the camera, 1.5 m up, 0.3 m to the person's right = the picture's left.
    pixels = project_to_crop(item, 0, np.array([[1.0, 1.5, 0.3]]))
    np.testing.assert_allclose(pixels, [[50 - 100 * 0.3 / 3, 40 - 100 * 0.5 / 3]])


def test_skeleton_is_drawn_in_its_colour_and_skips_unknown_joints():
    image = np.zeros((60, 60, 3), np.uint8)
    draw_skeleton(image, {"hip_r": np.array([10.0, 10]), "knee_r": np.array([10.0, 50])}, "#ff8000")
    assert tuple(image[30, 10]) == (255, 128, 0)
    assert not image[:, 30:].any()


def test_skeleton_far_outside_or_unknown_does_no_harm():
    image = np.zeros((20, 20, 3), np.uint8)
    draw_skeleton(
        image, {"hip_r": np.array([1e9, 0]), "knee_r": np.array([5.0, np.nan])}, "#ffffff"
    )
    assert not image.any()


def test_mosaic_keeps_every_tile():
    tiles = [np.full((4, 5, 3), value, np.uint8) for value in (1, 2, 3)]
    canvas = mosaic(tiles, columns=2)
    assert canvas.shape == (4 + 6 + 4, 5 + 6 + 5, 3)
    assert [int((canvas == value).sum()) for value in (1, 2, 3)] == [60, 60, 60]
