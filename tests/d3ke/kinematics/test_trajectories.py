"""Gap filling and smoothing: what passes, what is damped, what stays missing."""

from __future__ import annotations

import numpy as np
import pytest

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke.kinematics.trajectories import fill_gaps, missing, runs, smooth_butterworth

RATE = 60.0


def wave(frequency: float, frames: int = 600) -> FloatArray:
    times = np.arange(frames) / RATE
    return np.stack([np.sin(2 * np.pi * frequency * times)] * 3, axis=-1)[:, None]


def test_short_gaps_are_filled_and_long_ones_stay() -> None:
    track = np.repeat(wave(0.5), 2, axis=1)
    gappy = track.copy()
    gappy[50:56, 0] = np.nan  # 6 frames
    gappy[100:120, 0] = np.nan  # 20 frames
    gappy[:4, 1] = np.nan  # before the first measurement
    gappy[200, 1, 2] = np.nan  # one coordinate missing: the point is
    filled = fill_gaps(gappy, 10)
    np.testing.assert_allclose(filled[50:56, 0], track[50:56, 0], atol=2e-3)
    assert missing(filled)[100:120, 0].all()
    assert missing(filled)[:4, 1].all()
    assert not missing(filled)[200, 1]
    assert missing(filled).sum() == 24
    known = ~missing(gappy)
    np.testing.assert_array_equal(filled[known], gappy[known])


def test_filling_does_not_overshoot() -> None:
    step = np.zeros((20, 1, 1))
    step[10:] = 1.0
    step[8:12] = np.nan
    filled = fill_gaps(step, 4)
    assert (np.diff(filled[:, 0, 0]) >= 0).all()
    assert filled.min() == 0.0
    assert filled.max() == 1.0


def test_the_filter_has_no_lag_and_the_stated_cut_off() -> None:
    """Gain at the cut-off is the root of a half; slow motion passes, fast noise does not."""
    middle = slice(150, 450)
    for frequency, gain, tolerance in (
        (6.0, np.sqrt(0.5), 1e-3),
        (0.5, 1.0, 1e-3),
        (20.0, 0.0, 0.02),
    ):
        source = wave(frequency)
        smoothed = smooth_butterworth(source, rate_hz=RATE, cutoff_hz=6.0)
        # Least-squares amplitude of the source in the result: exact phase, or it would be lower.
        measured = (smoothed * source)[middle].sum() / np.square(source)[middle].sum()
        assert measured == pytest.approx(gain, abs=tolerance)


def test_stretches_between_gaps_do_not_see_each_other() -> None:
    track = wave(1.0)
    track[300:320] = np.nan
    track[320:] += 100.0
    smoothed = smooth_butterworth(track, rate_hz=RATE, cutoff_hz=6.0)
    assert missing(smoothed)[300:320].all()
    assert missing(smoothed).sum() == 20
    alone = smooth_butterworth(track[:300], rate_hz=RATE, cutoff_hz=6.0)
    np.testing.assert_array_equal(smoothed[:300], alone)
    short = np.arange(3.0)[:, None, None]
    np.testing.assert_array_equal(smooth_butterworth(short, rate_hz=RATE, cutoff_hz=6.0), short)


def test_no_cut_off_changes_nothing() -> None:
    track = wave(20.0)
    np.testing.assert_array_equal(smooth_butterworth(track, rate_hz=RATE, cutoff_hz=0.0), track)


def test_impossible_filters_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="40 Hz is outside 0 to 30 Hz"):
        smooth_butterworth(wave(1.0), rate_hz=RATE, cutoff_hz=40.0)
    with pytest.raises(InvalidInputError, match="not even"):
        smooth_butterworth(wave(1.0), rate_hz=RATE, cutoff_hz=6.0, order=3)
    with pytest.raises(InvalidInputError, match="negative"):
        fill_gaps(wave(1.0), -1)


def test_runs() -> None:
    assert runs(np.array([True, False, True, True])) == [(0, 1), (2, 4)]
    assert runs(np.zeros(3, bool)) == []
