"""What inverse kinematics found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d3ke.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class IKResult:
    """A solved trial of T frames, or trials [*trials, T].

    Nothing in it is NaN but `marker_error` where a marker was not measured: a frame that could not
    be solved repeats its neighbour's pose and is False in `solved` and `converged`.
    """

    coordinate_names: tuple[str, ...]
    coordinates: FloatArray
    """[*trials, T, Q] rad or m; coupled coordinates hold exactly."""
    marker_names: tuple[str, ...]
    marker_positions: FloatArray
    """[*trials, T, M, 3] m, the model's markers, ground frame."""
    marker_error: FloatArray
    """[*trials, T, M] m, distance between model and measured marker; NaN where not measured."""
    solved: BoolArray
    """[*trials, T] False where fewer than three markers with a weight were measured."""
    converged: BoolArray
    """[*trials, T] False where the solver stopped short of an optimum: another start, more
    iterations or other markers could give another pose."""
    iterations: IntArray
    """[*trials, T] steps taken; 0 by OpenSim, which does not tell."""
    outside_range: BoolArray
    """[*trials, T, Q] coordinates beyond the range the model gives them (those that are not
    clamped may be)."""
    scales: FloatArray | None
    """[N, 3] or [*trials, N, 3] factors of the bodies, given or estimated; None = as loaded."""

    def rms_error(self, weights: FloatArray | None = None) -> float:
        """Root of the (weighted) mean squared marker error over solved frames, m.

        weights: [M]; all markers that are measured count the same if left out.
        """
        used = np.where(self.solved[..., None], self.marker_error, np.nan)
        shares = np.ones(used.shape[-1]) if weights is None else np.asarray(weights)
        shares = np.where(np.isfinite(used), shares, 0.0)
        return float(np.sqrt((shares * np.nan_to_num(used) ** 2).sum() / shares.sum()))
