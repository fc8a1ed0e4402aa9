"""Quantiles of any number of values in bounded memory: histograms with bins of relative width."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from d3ke.arrays import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Binning:
    """Bins that are even in asinh(value / unit): even near zero, of relative width `step` far out.

    A quantile is known within half a bin: step / 2 of its size beyond a few units, step / 2 of a
    unit near zero. Values beyond `limit` count in the last bin.
    """

    unit: float
    """Where even bins turn into relative ones, in the values' unit."""
    limit: float
    """Largest size that is told apart, in the values' unit."""
    step: float
    """Relative width of a bin."""
    signed: bool
    """Whether values may be negative."""

    @cached_property
    def _last(self) -> int:
        return int(np.ceil(np.arcsinh(self.limit / self.unit) / self.step))

    @property
    def size(self) -> int:
        """Number of bins."""
        return self._last + 1 + (self._last if self.signed else 0)

    @cached_property
    def centers(self) -> FloatArray:
        """[B] value in the middle of every bin."""
        first = -self._last if self.signed else 0
        return self.unit * np.sinh(np.arange(first, self._last + 1) * self.step)

    def place(self, values: FloatArray) -> IntArray:
        """Bin of every (finite) value."""
        places = np.rint(np.arcsinh(values / self.unit) / self.step).astype(np.int64)
        np.clip(places, -self._last if self.signed else 0, self._last, out=places)
        return places + self._last if self.signed else places

    def count(self, values: FloatArray) -> IntArray:
        """Histogram [K, B] of the columns of values [T, K]; NaN is left out."""
        columns = values.shape[1]
        known = np.isfinite(values)
        column = np.nonzero(known)[1]
        flat = column * self.size + self.place(values[known])
        return np.bincount(flat, minlength=columns * self.size).reshape(columns, self.size)

    def quantile(self, counts: IntArray, share: float) -> FloatArray:
        """[K] smallest value that `share` of the values do not exceed, from counts [K, B]; NaN
        for a row without values."""
        cumulated = counts.cumsum(axis=1)
        number = cumulated[:, -1]
        rank = np.maximum(np.ceil(share * number), 1)
        place = (cumulated >= rank[:, None]).argmax(axis=1)
        return np.where(number > 0, self.centers[place], np.nan)
