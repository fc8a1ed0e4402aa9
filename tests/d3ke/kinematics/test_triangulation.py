"""Triangulation of whole trials: lenses, wrong views, occlusion."""

from __future__ import annotations

import numpy as np
import pytest
from multiview_cases import LENS, body_points, pictures, ring

from d3ke.errors import InvalidInputError
from d3ke.kinematics.triangulation import TriangulationSettings, triangulate


def test_exact_views_give_exact_points() -> None:
    cameras, points = ring(4, lens=LENS), body_points()
    found = triangulate(cameras, pictures(cameras, points), np.ones((4, *points.shape[:2])))
    np.testing.assert_allclose(found.points, points, atol=1e-7)
    assert found.used.all()
    assert found.mean_error_px < 1e-4


def test_a_lens_left_out_of_account_would_show() -> None:
    cameras, points = ring(4, lens=LENS), body_points()
    pixels = pictures(cameras, points)
    found = triangulate(ring(4), pixels, np.ones(pixels.shape[:3]))
    assert np.nanmax(np.linalg.norm(found.points - points, axis=-1)) > 5e-3


@pytest.mark.parametrize("views", [3, 4, 6])
def test_a_wrong_view_is_left_out(views: int) -> None:
    """Left and right confused, another person: one view is far off, the others stay exact."""
    cameras, points = ring(views, lens=LENS), body_points()
    pixels = pictures(cameras, points)
    rng = np.random.default_rng(2)
    wrong = rng.integers(0, views, points.shape[:2])
    for view in range(views):
        pixels[view][wrong == view] += rng.choice([-1.0, 1.0], 2) * 150.0
    found = triangulate(cameras, pixels, np.ones(pixels.shape[:3]))
    np.testing.assert_array_equal(found.used, wrong != np.arange(views)[:, None, None])
    np.testing.assert_allclose(found.points, points, atol=1e-6)
    assert np.isnan(found.errors_px[~found.used]).all()


def test_two_wrong_views_of_five() -> None:
    cameras, points = ring(5), body_points()
    pixels = pictures(cameras, points)
    pixels[1] += [120.0, -90.0]
    pixels[3] += [-200.0, 60.0]
    found = triangulate(cameras, pixels, np.ones(pixels.shape[:3]))
    np.testing.assert_allclose(found.points, points, atol=1e-6)
    assert not found.used[[1, 3]].any()
    assert found.used[[0, 2, 4]].all()


def test_hidden_points_rest_on_the_views_that_see_them() -> None:
    cameras, points = ring(4), body_points()
    pixels, confidence = pictures(cameras, points), np.ones((4, *points.shape[:2]))
    confidence[0, :, 0] = 0.1  # guessed behind the body
    pixels[0, :, 0] += 80.0
    pixels[1, 2] = np.nan  # nobody found in this frame
    pixels[:3, :, 4] = np.nan  # one view left
    found = triangulate(cameras, pixels, confidence)
    assert not found.used[0, :, 0].any()
    assert not found.used[1, 2].any()
    assert np.isnan(found.points[:, 4]).all()
    assert not found.used[:, :, 4].any()
    np.testing.assert_allclose(np.delete(found.points, 4, 1), np.delete(points, 4, 1), atol=1e-7)


def test_views_that_never_agree_leave_the_point_missing() -> None:
    cameras, points = ring(3), body_points(2, 2)
    pixels = pictures(cameras, points)
    pixels[:, 0, 0] += np.array([[300.0, 0.0], [0.0, 400.0], [-300.0, 300.0]])
    settings = TriangulationSettings(min_views=3)
    found = triangulate(cameras, pixels, np.ones(pixels.shape[:3]), settings)
    assert np.isnan(found.points[0, 0]).all()
    assert np.isfinite(found.points[1]).all()
    assert np.isfinite(found.points[0, 1]).all()


def test_points_behind_a_camera_or_on_parallel_rays_are_missing() -> None:
    cameras, points = ring(4)[:2], body_points(1, 1)
    near = cameras[0].center + 0.01 * np.array([0.0, 1.0, 0.0])
    twin = type(cameras[0]).looking_at(
        near, np.array([0.0, 1.0, 0.0]), focal=1400.0, size=(1080, 1920)
    )
    pair = [cameras[0], twin]
    found = triangulate(pair, pictures(pair, points), np.ones((2, 1, 1)))
    assert np.isnan(found.points).all()  # 1 cm between the cameras says nothing of the distance
    behind = 2.0 * cameras[0].center - points  # in front of the other camera only
    pixels = np.stack(
        [
            (q := camera.intrinsics @ (camera.rotation @ behind[0, 0] + camera.translation))[:2]
            / q[2]
            for camera in cameras
        ]
    )[:, None, None]
    assert np.isnan(triangulate(cameras, pixels, np.ones((2, 1, 1))).points).all()


def test_noise_is_averaged_by_confidence() -> None:
    """A view of low confidence and much noise does little harm."""
    cameras, points = ring(5), body_points(40, 5)
    rng = np.random.default_rng(3)
    noise = (
        rng.normal(0.0, 1.0, (5, 40, 5, 2))
        * np.array([2.0, 2.0, 2.0, 2.0, 12.0])[:, None, None, None]
    )
    pixels = pictures(cameras, points) + noise
    errors = {}
    for low in (0.31, 1.0):
        confidence = np.ones(pixels.shape[:3])
        confidence[4] = low
        settings = TriangulationSettings(scale_px=1e3, outlier_px=1e3, max_error_px=1e3)
        found = triangulate(cameras, pixels, confidence, settings)
        errors[low] = np.linalg.norm(found.points - points, axis=-1).mean()
    assert errors[0.31] < 0.8 * errors[1.0]
    robust = triangulate(cameras, pixels, np.ones(pixels.shape[:3]))
    assert np.linalg.norm(robust.points - points, axis=-1).mean() < 0.8 * errors[1.0]


def test_numbers_of_cameras_and_views_must_agree() -> None:
    with pytest.raises(InvalidInputError, match="3 views and 2 cameras"):
        triangulate(ring(2), np.zeros((3, 1, 1, 2)), np.ones((3, 1, 1)))
    with pytest.raises(InvalidInputError, match="1 views and 1 cameras"):
        triangulate(ring(1), np.zeros((1, 1, 1, 2)), np.ones((1, 1, 1)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("min_views", 1), ("confidence_threshold", 1.5), ("scale_px", 0.0), ("outlier_px", -1.0)],
)
def test_settings_are_checked(field: str, value: float) -> None:
    with pytest.raises(InvalidInputError, match=field):
        TriangulationSettings(**{field: value})
