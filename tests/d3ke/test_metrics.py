"""Metrics against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from d3ke import metrics
from d3ke.skeleton import PredictedSet, Skeleton

DEGREE = np.pi / 180
LABEL = np.zeros((2, 2))
ESTIMATE = np.array([[1.0, -3.0], [5.0, 3.0]]) * DEGREE
MASK = np.array([[True, True], [False, True]])


def test_angle_errors_with_and_without_mask() -> None:
    assert metrics.mae_angle(ESTIMATE, LABEL) == pytest.approx(3.0)
    assert metrics.mae_angle(ESTIMATE, LABEL, MASK) == pytest.approx(7 / 3)
    assert metrics.rmse_angle(ESTIMATE, LABEL) == pytest.approx(11**0.5)
    assert metrics.sd_angle(ESTIMATE, LABEL) == pytest.approx((11 - 1.5**2) ** 0.5)
    assert metrics.sd_angle(ESTIMATE + 0.3, LABEL) == pytest.approx((11 - 1.5**2) ** 0.5)


def test_nothing_to_count_is_nan() -> None:
    nothing = np.zeros_like(MASK)
    assert np.isnan(metrics.mae_angle(ESTIMATE, LABEL, nothing))
    assert np.isnan(metrics.mean_velocity(ESTIMATE[:1], 10.0))


def test_masked_nan_labels_are_harmless() -> None:
    label = np.where(MASK, LABEL, np.nan)
    assert metrics.mae_angle(ESTIMATE, label, MASK) == pytest.approx(7 / 3)
    assert np.isfinite(metrics.series_errors(ESTIMATE, label, MASK).mae_degrees).all()


def test_mpblpe_is_the_mean_distance_in_mm() -> None:
    label = np.zeros((1, 2, 3))
    estimate = np.array([[[0.003, 0.004, 0.0], [0.0, 0.0, 0.015]]])
    assert metrics.mpblpe(estimate, label) == pytest.approx(10.0)
    assert metrics.mpblpe(estimate, label, np.array([[True, False]])) == pytest.approx(5.0)


def test_rotation_error() -> None:
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    both = np.stack([quarter, np.diag([-1.0, -1, 1])])
    assert metrics.rotation_error(both, np.stack([np.eye(3)] * 2)) == pytest.approx(135.0)


def test_body_errors() -> None:
    estimate, label = np.ones((1, 2, 3)), np.ones((1, 2, 3))
    estimate[0, 0] = [1.5, 1.1, 1.5]
    lengths = np.array([[0.0, 0.4, 0], [0, 0, 0]])
    # Only the longest axis of the only body with a mesh counts: 0.1 x 0.4 m.
    assert metrics.mae_body(estimate, label, lengths) == pytest.approx(40.0)
    assert metrics.rmse_body(np.array([1.3, 1.0]), np.ones(2)) == pytest.approx(0.3 / 2**0.5)


def test_longest_axes_of_the_full_body() -> None:
    bodies = Skeleton.full_body().bodies
    lengths = metrics.longest_axes(PredictedSet.full_body(), bodies)
    x, y, z = lengths[bodies.index("tibia_r")]
    assert (x, z) == (0, 0)
    assert 0.35 < y < 0.45
    assert ((lengths > 0).sum(axis=1) <= 1).all()
    assert lengths.any(axis=1).sum() >= 48


def test_mean_velocity_is_equation_13() -> None:
    series = np.array([[0.0], [1.0], [-1.0]])
    assert metrics.mean_velocity(series, rate_hz=10.0) == pytest.approx(15.0)
    mask = np.array([[False], [True], [True]])
    assert metrics.mean_velocity(series, 10.0, mask) == pytest.approx(20.0)
    positions = np.array([[[0.0, 0, 0]], [[0.003, 0.004, 0]]])
    assert metrics.mean_speed(positions, 30.0) == pytest.approx(150.0)


def test_series_errors() -> None:
    time = np.linspace(0, 2 * np.pi, 50)
    label = np.stack([np.sin(time), np.sin(time), np.full(50, 0.2)], axis=1)
    estimate = np.stack([np.sin(time) + 0.1, -np.sin(time), np.sin(time)], axis=1)
    errors = metrics.series_errors(estimate, label)
    assert errors.mae_degrees[0] == pytest.approx(0.1 / DEGREE)
    assert errors.rmse_degrees[0] == pytest.approx(0.1 / DEGREE)
    np.testing.assert_allclose(errors.correlation[:2], [1, -1])
    assert np.isnan(errors.correlation[2])


def test_pearson_agrees_with_numpy_under_a_mask() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40, 3))
    mask = rng.random((40, 3)) > 0.3
    got = metrics.pearson(a, b, mask)
    for column in range(3):
        rows = mask[:, column]
        expected = np.corrcoef(a[rows, column], b[rows, column])[0, 1]
        assert got[column] == pytest.approx(expected)


def test_summaries() -> None:
    assert metrics.median_iqr(np.array([1.0, 2, 3, 4, np.nan])) == (2.5, 1.5)
    assert np.isnan(metrics.median_iqr(np.array([np.nan]))[0])
    names = [metrics.correlation_class(rho) for rho in (0.35, -0.5, 0.9, -1.0, np.nan)]
    assert names == ["weak", "moderate", "strong", "excellent", "undefined"]
