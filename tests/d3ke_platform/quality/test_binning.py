"""Quantiles from histograms against those of the values themselves."""

from __future__ import annotations

import numpy as np
import pytest

from d3ke_platform.quality.binning import Binning
from d3ke_platform.quality.sums import COORDINATE_BINS, ERROR_BINS

SHARES = (0.0, 0.01, 0.25, 0.5, 0.95, 0.99, 1.0)


def exact(values: np.ndarray, share: float) -> np.ndarray:
    return np.quantile(values, share, axis=0, method="inverted_cdf")


@pytest.mark.parametrize("share", SHARES)
def test_quantiles_of_errors_are_within_half_a_percent(share: float) -> None:
    values = np.random.default_rng(0).lognormal(-5.0, 1.2, (5000, 3))
    found = ERROR_BINS.quantile(ERROR_BINS.count(values), share)
    assert found == pytest.approx(exact(values, share), rel=0.0051, abs=1e-5)


@pytest.mark.parametrize("share", SHARES)
def test_quantiles_of_signed_values_are_within_their_bins(share: float) -> None:
    random = np.random.default_rng(1)
    values = random.normal([0.0, 1.5, -300.0], [0.01, 1.0, 40.0], (5000, 3))
    found = COORDINATE_BINS.quantile(COORDINATE_BINS.count(values), share)
    assert found == pytest.approx(exact(values, share), rel=0.0021, abs=0.1 * 0.002)


def test_counts_of_parts_add_up_and_unknown_values_are_left_out() -> None:
    values = np.random.default_rng(2).normal(0.0, 1.0, (100, 2))
    values[::7, 0] = np.nan
    values[3, 1] = np.inf
    whole = COORDINATE_BINS.count(values)
    assert whole.sum(axis=1).tolist() == np.isfinite(values).sum(axis=0).tolist()
    parts = COORDINATE_BINS.count(values[:40]) + COORDINATE_BINS.count(values[40:])
    assert (parts == whole).all()


def test_values_beyond_the_limit_count_in_the_last_bins() -> None:
    bins = Binning(unit=1.0, limit=10.0, step=0.1, signed=True)
    counts = bins.count(np.array([[-1e6], [1e6], [0.0]]))
    assert counts.shape == (1, bins.size)
    assert np.flatnonzero(counts[0]).tolist() == [0, bins.size // 2, bins.size - 1]
    assert bins.centers[bins.size // 2] == 0.0


def test_nothing_has_no_quantile() -> None:
    assert np.isnan(ERROR_BINS.quantile(ERROR_BINS.count(np.zeros((0, 2))), 0.5)).all()
