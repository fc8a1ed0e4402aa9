"""Sums over frames from which every figure of the report follows; sums of parts can be added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Generic, TypeVar

import numpy as np

from d3ke.arrays import BoolArray, FloatArray, IntArray
from d3ke_platform.quality.binning import Binning

FAR_M = 0.02
"""The paper's limit for a well-fitted marker (section 2.1.1)."""
ERROR_BINS = Binning(unit=1e-3, limit=10.0, step=0.01, signed=False)
"""Of marker distances [m]: quantiles within 0.5 %."""
COORDINATE_BINS = Binning(unit=0.1, limit=1000.0, step=0.004, signed=True)
"""Of coordinates [rad or m]: quantiles within 0.2 %, 0.01 degrees near zero."""
RANGE_TOLERANCE_RAD, RANGE_TOLERANCE_M = np.radians(0.1), 1e-3
"""How far beyond its range a coordinate still counts as on the limit: solvers stop there."""


class Sums:
    """Dataclass of arrays with one row per thing that is summed up."""

    def add(self, other: Sums) -> None:
        """Add the sums of other frames of the same things, in place."""
        for field in fields(self):  # type: ignore[arg-type]
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            join = _JOINS.get(field.name, np.add)
            join(mine, theirs, out=mine)


_JOINS = {"largest": np.fmax, "smallest": np.fmin}


@dataclass(eq=False)
class ErrorSums(Sums):
    """Sums of the marker distances of K groups of markers."""

    measured: IntArray
    """[K] marker-frames."""
    total: FloatArray
    """[K] m."""
    squares: FloatArray
    """[K] m^2."""
    largest: FloatArray
    """[K] m; NaN without any."""
    over: IntArray
    """[K] marker-frames over the data set's threshold."""
    far: IntArray
    """[K] marker-frames over 20 mm."""
    bins: IntArray
    """[K, B] histogram by `ERROR_BINS`."""

    @classmethod
    def zeros(cls, count: int) -> ErrorSums:
        """Of nothing."""
        return cls.of(np.zeros((0, count)), threshold_m=0.0)

    @classmethod
    def of(cls, distances: FloatArray, *, threshold_m: float) -> ErrorSums:
        """Of distances [T, K] m, NaN = not measured."""
        known = np.isfinite(distances)
        filled = np.where(known, distances, 0.0)
        some = known.any(axis=0)
        return cls(
            measured=known.sum(axis=0),
            total=filled.sum(axis=0),
            squares=np.square(filled).sum(axis=0),
            largest=np.where(some, filled.max(axis=0, initial=0.0), np.nan),
            over=(filled > threshold_m).sum(axis=0),
            far=(filled > FAR_M).sum(axis=0),
            bins=ERROR_BINS.count(distances),
        )

    def grouped(self, groups: Sequence[BoolArray]) -> ErrorSums:
        """Sums of G groups, each a mask [K] of the rows that belong to it."""
        parts = {}
        for field in fields(self):
            values = getattr(self, field.name)
            if field.name == "largest":
                values = np.where(np.isnan(values), -np.inf, values)
                found = np.array([values[g].max(initial=-np.inf) for g in groups])
                parts[field.name] = np.where(np.isinf(found), np.nan, found)
            else:
                parts[field.name] = np.stack([values[group].sum(axis=0) for group in groups])
        return ErrorSums(**parts)

    def figures(self, row: int = 0) -> dict[str, float | int | None]:
        """RMS, mean, 95th percentile and largest distance [mm], share over the threshold [%]."""
        number = int(self.measured[row])
        if not number:
            return {"marker_frames": 0, **dict.fromkeys(_FIGURES)}
        values = (
            1e3 * np.sqrt(self.squares[row] / number),
            1e3 * self.total[row] / number,
            1e3 * ERROR_BINS.quantile(self.bins[row : row + 1], 0.95)[0],
            1e3 * self.largest[row],
            100.0 * self.over[row] / number,
        )
        return {"marker_frames": number, **dict(zip(_FIGURES, map(float, values), strict=True))}


_FIGURES = ("rms_mm", "mean_mm", "p95_mm", "max_mm", "over_percent")


@dataclass(eq=False)
class CoordinateSums(Sums):
    """Sums of the values of Q coordinates [rad or m]."""

    frames: IntArray
    """[Q]."""
    smallest: FloatArray
    """[Q]; NaN without any."""
    largest: FloatArray
    """[Q]; NaN without any."""
    below: IntArray
    """[Q] frames below the model's range."""
    above: IntArray
    """[Q] frames above it."""
    at_limit: IntArray
    """[Q] frames at one of its ends: where the solver was held back."""
    bins: IntArray
    """[Q, B] histogram by `COORDINATE_BINS`."""

    @classmethod
    def zeros(cls, count: int) -> CoordinateSums:
        """Of nothing."""
        return cls.of(np.zeros((0, count)), ranges=np.zeros((count, 2)), tolerance=np.zeros(count))

    @classmethod
    def of(cls, values: FloatArray, *, ranges: FloatArray, tolerance: FloatArray) -> CoordinateSums:
        """Of values [T, Q], NaN = left out; `ranges` [Q, 2] of the model, `tolerance` [Q]."""
        known = np.isfinite(values)
        some = known.any(axis=0)
        with np.errstate(invalid="ignore"):
            below, above = values < ranges[:, 0] - tolerance, values > ranges[:, 1] + tolerance
            low = np.abs(values - ranges[:, 0]) <= tolerance
            high = np.abs(values - ranges[:, 1]) <= tolerance
        smallest = np.where(known, values, np.inf).min(axis=0, initial=np.inf)
        largest = np.where(known, values, -np.inf).max(axis=0, initial=-np.inf)
        return cls(
            frames=known.sum(axis=0),
            smallest=np.where(some, smallest, np.nan),
            largest=np.where(some, largest, np.nan),
            below=below.sum(axis=0),
            above=above.sum(axis=0),
            at_limit=(low | high).sum(axis=0),
            bins=COORDINATE_BINS.count(values),
        )


S = TypeVar("S", bound=Sums)


@dataclass(eq=False)
class Both(Generic[S]):
    """Sums over all frames, and over those that the 2 cm rule leaves."""

    unmasked: S
    masked: S

    def add(self, other: Both[S]) -> None:
        """Add the sums of other frames, in place."""
        self.unmasked.add(other.unmasked)
        self.masked.add(other.masked)
