"""Gaps and noise of measured trajectories: interpolation and zero-lag smoothing.

Trajectories are [T, K, D] at a constant rate; NaN marks what is missing, for a point as a whole.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from d3ke.errors import InvalidInputError


def missing(trajectories: Float[np.ndarray, "T K D"]) -> Bool[np.ndarray, "T K"]:
    """Where a point is not measured."""
    return np.asarray(~np.isfinite(trajectories).all(axis=-1))


def fill_gaps(
    trajectories: Float[np.ndarray, "T K D"], max_frames: int
) -> Float[np.ndarray, "T K D"]:
    """The trajectories with gaps of up to `max_frames` frames filled between their ends.

    A cubic through the measured frames (scipy's monotone PCHIP, which does not overshoot) bridges
    them. Longer gaps, and those at the start or end, which have one neighbour, stay NaN.

    Raises:
        InvalidInputError: `max_frames` is negative.
    """
    from scipy.interpolate import PchipInterpolator

    if max_frames < 0:
        raise InvalidInputError("max_frames", f"a gap of {max_frames} frames is negative")
    filled = trajectories.copy()
    gone = missing(trajectories)
    for point in np.flatnonzero(gone.any(axis=0)):
        known = np.flatnonzero(~gone[:, point])
        if len(known) < 2:
            continue
        curve = PchipInterpolator(known, trajectories[known, point])
        for begin, end in runs(gone[:, point]):
            if begin > 0 and end < len(gone) and end - begin <= max_frames:
                filled[begin:end, point] = curve(np.arange(begin, end))
    return filled


def smooth_butterworth(
    trajectories: Float[np.ndarray, "T K D"],
    *,
    rate_hz: float,
    cutoff_hz: float,
    order: int = 4,
) -> Float[np.ndarray, "T K D"]:
    """Low-pass filtered forwards and backwards (no lag), each stretch between gaps on its own.

    The two passes together have `order` (each half of it) and their gain at `cutoff_hz` is the
    square root of a half, as is usual in biomechanics (Winter, Biomechanics and Motor Control of
    Human Movement, section 2.2.4.4): each pass gets a cut-off raised for that. A stretch too
    short for the filter's start-up keeps its values.

    Args:
        trajectories: what to smooth; NaN stays NaN.
        rate_hz: frames per second.
        cutoff_hz: 0 = no filter.
        order: of both passes together; even.

    Raises:
        InvalidInputError: the cut-off is negative or above what the rate can carry, or the order
            odd.
    """
    from scipy.signal import butter, sosfiltfilt

    if order < 2 or order % 2:
        raise InvalidInputError("filter order", f"{order} is not even and positive")
    if not 0.0 <= cutoff_hz < rate_hz / 2.0:
        raise InvalidInputError(
            "cut-off",
            f"{cutoff_hz:g} Hz is outside 0 to {rate_hz / 2.0:g} Hz, half of the "
            f"{rate_hz:g} frames a second",
        )
    if cutoff_hz == 0.0:
        return trajectories.copy()
    # Both passes: gain 1 / (1 + x^order), x the ratio of the frequencies as the filter warps them.
    warped = np.tan(np.pi * cutoff_hz / rate_hz) / (np.sqrt(2.0) - 1.0) ** (1.0 / order)
    raised = np.arctan(warped) * rate_hz / np.pi
    sections = butter(order // 2, raised, fs=rate_hz, output="sos")
    # The filter rings for about a period of its cut-off: reflected ends as long as that.
    pad = max(3 * order, round(rate_hz / cutoff_hz))
    smoothed = trajectories.copy()
    gone = missing(trajectories)
    for point in range(trajectories.shape[1]):
        for begin, end in runs(~gone[:, point]):
            if end - begin > 3:
                part = trajectories[begin:end, point]
                length = min(pad, end - begin - 1)
                smoothed[begin:end, point] = sosfiltfilt(sections, part, axis=0, padlen=length)
    return smoothed


def runs(flags: Bool[np.ndarray, " T"]) -> list[tuple[int, int]]:
    """First frame and the one after the last of every unbroken stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]
