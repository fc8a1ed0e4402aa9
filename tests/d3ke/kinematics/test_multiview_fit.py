"""The fit under triangulation: exact start, exact derivatives, an optimum in the end."""

from __future__ import annotations

import numpy as np
import pytest
from multiview_cases import LENS, body_points, pictures, ring
from scipy.optimize import minimize

from d3ke.arrays import FloatArray
from d3ke.kinematics.multiview_fit import (
    Views,
    cost_gradient,
    linear_points,
    observe,
    refine_points,
    reprojection,
    robust_cost,
    widest_angle,
)

SCALE_PX = 10.0


def noisy(noise_px: float, *, views: int = 4, seed: int = 1) -> tuple[Views, FloatArray]:
    cameras, points = ring(views, lens=LENS), body_points().reshape(-1, 3)
    rng = np.random.default_rng(seed)
    pixels = pictures(cameras, points) + rng.normal(0.0, noise_px, (views, len(points), 2))
    return observe(cameras, pixels, rng.uniform(0.3, 1.0, pixels.shape[:2])), points


def test_linear_start_is_exact_without_noise() -> None:
    views, points = noisy(0.0)
    np.testing.assert_allclose(linear_points(views), points, atol=1e-8)
    assert np.abs(reprojection(views, points)).max() < 1e-4  # px


def test_gradient_is_that_of_the_cost() -> None:
    views, points = noisy(15.0)
    step = 1e-6
    numeric = np.stack(
        [
            robust_cost(views, points + shift, scale_px=SCALE_PX)
            - robust_cost(views, points - shift, scale_px=SCALE_PX)
            for shift in step * np.eye(3)
        ],
        axis=-1,
    ) / (2 * step)
    analytic = cost_gradient(views, points, scale_px=SCALE_PX)
    np.testing.assert_allclose(analytic, numeric, rtol=1e-6, atol=1e-3 * np.abs(numeric).max())


def test_refined_points_are_optima() -> None:
    """No gradient is left, and a general-purpose optimiser finds nothing better."""
    views, _ = noisy(6.0)
    start = linear_points(views)
    refined = refine_points(views, start, scale_px=SCALE_PX)
    scale = np.abs(cost_gradient(views, start, scale_px=SCALE_PX)).max()
    assert np.abs(cost_gradient(views, refined, scale_px=SCALE_PX)).max() < 1e-4 * scale
    cost = robust_cost(views, refined, scale_px=SCALE_PX)
    assert (cost <= robust_cost(views, start, scale_px=SCALE_PX) + 1e-12).all()
    chosen = np.arange(len(refined)) == 3
    one = views.select(chosen)
    other = minimize(
        lambda x: float(robust_cost(one, x[None], scale_px=SCALE_PX)[0]),
        start[3],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 2000},
    )
    np.testing.assert_allclose(refined[3], other.x, atol=1e-6)


def test_errors_shrink_with_the_number_of_views() -> None:
    """Independent noise averages out: eight views are about twice as good as two."""
    errors = []
    for views in (2, 8):
        seen, points = noisy(5.0, views=views)
        refined = refine_points(seen, linear_points(seen), scale_px=100.0)
        errors.append(np.linalg.norm(refined - points, axis=-1).mean())
    assert errors[1] < 0.6 * errors[0]


def test_what_is_not_seen_weighs_nothing() -> None:
    cameras, points = ring(3), body_points().reshape(-1, 3)
    pixels = pictures(cameras, points)
    pixels[0, :5], weights = np.nan, np.ones(pixels.shape[:2])
    weights[1, 5:9] = 0.0
    views = observe(cameras, pixels, weights)
    assert not views.weights[0, :5].any()
    assert not views.weights[1, 5:9].any()
    np.testing.assert_allclose(linear_points(views), points, atol=1e-8)


def test_a_pixel_no_ray_reaches_is_not_seen() -> None:
    """Landmarks are extrapolated far out of the picture, where the lens polynomial folds back."""
    cameras = ring(2, lens=np.array([-0.4, 0.0, 0.0, 0.0, 0.0]))
    pixels = np.array([[[500.0, 900.0], [9000.0, 9000.0]], [[500.0, 900.0], [600.0, 900.0]]])
    views = observe(cameras, pixels, np.ones((2, 2)))
    np.testing.assert_array_equal(views.weights, [[1.0, 0.0], [1.0, 1.0]])


def test_a_single_ray_leaves_the_point_open() -> None:
    cameras, points = ring(2), body_points(1, 3)[0]
    weights = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    views = observe(cameras, pictures(cameras, points), weights)
    found = linear_points(views)
    np.testing.assert_array_equal(np.isnan(found).any(axis=-1), [False, True, False])
    assert widest_angle(views, points)[1] == 0.0
    assert widest_angle(views, points)[0] == pytest.approx(np.pi, abs=0.5)  # opposite cameras
