"""Figures of the paper's tables, on plain arrays.

Angles come in radians and leave in degrees, positions come in metres and leave in millimetres.
Every function takes an optional mask (True = counts); without one everything counts, which is
what the paper's code does. Nothing left to count gives NaN, never zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from d3ke.arrays import FloatArray
from d3ke.skeleton import PredictedSet

CORRELATION_CLASSES = ((0.35, "weak"), (0.67, "moderate"), (0.90, "strong"), (1.0, "excellent"))
"""Upper limits of |rho| (section 3.4)."""


def mpblpe(
    estimate: Float[np.ndarray, "*batch L 3"],
    label: Float[np.ndarray, "*batch L 3"],
    mask: Bool[np.ndarray, "*batch L"] | None = None,
) -> float:
    """Mean per bony landmark position error, mm (section 3.1.1, Table 1).

    Mean Euclidean distance of landmarks, both relative to the pelvis origin already; no scale
    or rotation is fitted.
    """
    return _mean(np.linalg.norm(estimate - label, axis=-1), mask) * 1e3


def mae_angle(
    estimate: Float[np.ndarray, "*batch P"],
    label: Float[np.ndarray, "*batch P"],
    mask: Bool[np.ndarray, "*batch P"] | None = None,
) -> float:
    """Mean absolute error over all frames and coordinates, deg (Table 1)."""
    return float(np.rad2deg(_mean(np.abs(estimate - label), mask)))


def rmse_angle(
    estimate: Float[np.ndarray, "*batch P"],
    label: Float[np.ndarray, "*batch P"],
    mask: Bool[np.ndarray, "*batch P"] | None = None,
) -> float:
    """Root mean square error over all frames and coordinates, deg."""
    return float(np.rad2deg(np.sqrt(_mean((estimate - label) ** 2, mask))))


def sd_angle(
    estimate: Float[np.ndarray, "*batch P"],
    label: Float[np.ndarray, "*batch P"],
    mask: Bool[np.ndarray, "*batch P"] | None = None,
) -> float:
    """Standard deviation of the signed errors, pooled, deg (Table 3; the paper defines neither)."""
    error = estimate - label
    return float(np.rad2deg(np.sqrt(_mean((error - _mean(error, mask)) ** 2, mask))))


def rotation_error(
    estimate: Float[np.ndarray, "*batch 3 3"],
    label: Float[np.ndarray, "*batch 3 3"],
    mask: Bool[np.ndarray, "*batch"] | None = None,
) -> float:
    """Mean angle between two orientations, deg."""
    # The chord is exact near 0 and pi, where the arc cosine of the trace is not.
    chord = np.linalg.norm(estimate - label, axis=(-2, -1)) / 8**0.5
    return float(np.rad2deg(_mean(2 * np.arcsin(np.clip(chord, 0, 1)), mask)))


def rmse_body(
    estimate: Float[np.ndarray, "*batch K"],
    label: Float[np.ndarray, "*batch K"],
    mask: Bool[np.ndarray, "*batch K"] | None = None,
) -> float:
    """Root mean square error of scale factors, without unit (Table 2)."""
    return float(np.sqrt(_mean((estimate - label) ** 2, mask)))


def mae_body(
    estimate: Float[np.ndarray, "*batch N 3"],
    label: Float[np.ndarray, "*batch N 3"],
    lengths: Float[np.ndarray, "N 3"],
) -> float:
    """Mean absolute error of the bodies' longest axes, mm (section 3.1.1, Tables 1 and 2).

    Args:
        estimate: estimated body scales, factors on the model as loaded.
        label: labelled ones.
        lengths: length of a body's longest axis in the model as loaded at that axis, m, and
            zero elsewhere; see `longest_axes`. Bodies without any do not count.
    """
    error = (np.abs(estimate - label) * lengths).sum(axis=-1)
    return _mean(error, np.broadcast_to(lengths.any(axis=-1), error.shape)) * 1e3


def longest_axes(predicted: PredictedSet, bodies: Sequence[str]) -> Float[np.ndarray, "N 3"]:
    """Length [m] of the longest axis of every body, at that axis, and zero elsewhere.

    Args:
        predicted: names axis and length of the bodies that have bones.
        bodies: the bodies to look at, e.g. those of a skeleton.
    """
    lengths = np.zeros((len(bodies), 3))
    for row, body in enumerate(bodies):
        if body in predicted.body_longest_axis:
            axis, length = predicted.body_longest_axis[body]
            lengths[row, "xyz".index(axis)] = length
    return lengths


def mean_velocity(
    values: Float[np.ndarray, "T *shape"],
    rate_hz: float,
    mask: Bool[np.ndarray, "T *shape"] | None = None,
) -> float:
    """Equation 13: mean absolute change per second of a series, in its unit per second.

    The paper calls it a velocity *error*, but the formula has no label in it. It is a speed of
    the estimate: always show that of the label next to it. For landmarks pass positions
    [T,L,3] through `mean_speed`.
    """
    both = None if mask is None else mask[1:] & mask[:-1]
    return _mean(np.abs(np.diff(values, axis=0)), both) * rate_hz


def mean_speed(
    positions: Float[np.ndarray, "T *shape 3"],
    rate_hz: float,
    mask: Bool[np.ndarray, "T *shape"] | None = None,
) -> float:
    """Equation 13 for landmark positions: mean Euclidean step per second, mm/s (Table 4)."""
    both = None if mask is None else mask[1:] & mask[:-1]
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    return _mean(steps, both) * rate_hz * 1e3


@dataclass(frozen=True, kw_only=True)
class SeriesErrors:
    """Errors of the time series of P coordinates; NaN where nothing can be said."""

    mae_degrees: FloatArray
    """[P] mean absolute error."""
    rmse_degrees: FloatArray
    """[P] root mean square error."""
    correlation: FloatArray
    """[P] Pearson's rho; NaN for a series that does not move by a hundredth of a degree."""


def series_errors(
    estimate: Float[np.ndarray, "T P"],
    label: Float[np.ndarray, "T P"],
    mask: Bool[np.ndarray, "T P"] | None = None,
) -> SeriesErrors:
    """Errors of every coordinate of one recording (section 3.4, Table 6)."""
    valid = np.ones(estimate.shape, dtype=bool) if mask is None else mask
    error = estimate - label
    return SeriesErrors(
        mae_degrees=np.rad2deg(_column_mean(np.abs(error), valid)),
        rmse_degrees=np.rad2deg(np.sqrt(_column_mean(error**2, valid))),
        correlation=pearson(estimate, label, valid),
    )


def pearson(
    estimate: Float[np.ndarray, "T P"],
    label: Float[np.ndarray, "T P"],
    mask: Bool[np.ndarray, "T P"],
    still: float = float(np.deg2rad(0.01)),
) -> Float[np.ndarray, "P"]:
    """Pearson's correlation of every column, NaN where one deviates less than `still`."""
    a = estimate - _column_mean(estimate, mask)
    b = label - _column_mean(label, mask)
    variance_a, variance_b = _column_mean(a**2, mask), _column_mean(b**2, mask)
    moves = (variance_a > still**2) & (variance_b > still**2)
    product = np.where(moves, variance_a * variance_b, np.nan)
    return _column_mean(a * b, mask) / np.sqrt(product)


def correlation_class(rho: float) -> str:
    """Name of a correlation's strength (section 3.4)."""
    if np.isnan(rho):
        return "undefined"
    return next(name for limit, name in CORRELATION_CLASSES if abs(rho) <= limit + 1e-9)


def median_iqr(values: Float[np.ndarray, "*shape"]) -> tuple[float, float]:
    """Median and interquartile range of the values that are not NaN (Table 6)."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, middle, high = np.percentile(known, [25, 50, 75])
    return float(middle), float(high - low)


def _mean(values: FloatArray, mask: np.ndarray | None) -> float:
    counted = values if mask is None else values[mask]
    return float(counted.mean(dtype=np.float64)) if counted.size else float("nan")


def _column_mean(values: FloatArray, mask: np.ndarray) -> FloatArray:
    count = mask.sum(axis=0)
    total = np.where(mask, values, 0.0).sum(axis=0, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
