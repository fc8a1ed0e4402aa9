"""Best rigid motion between two sets of points."""

from __future__ import annotations

import numpy as np

from d3ke.arrays import FloatArray


def fit_rigid(
    source: FloatArray, target: FloatArray, weights: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Rotation [3, 3] and shift [3] with `source @ R.T + shift` closest to `target` (Kabsch).

    Args:
        source: [K, 3].
        target: [K, 3].
        weights: [K] of the squared distances; all 1 if left out.
    """
    weights = np.ones(len(source)) if weights is None else weights
    share = (weights / weights.sum())[:, None]
    source_centre, target_centre = (share * source).sum(axis=0), (share * target).sum(axis=0)
    covariance = (target - target_centre).T @ (share * (source - source_centre))
    left, _, right = np.linalg.svd(covariance)
    flip = np.sign(np.linalg.det(left @ right))
    rotation = left @ np.diag([1.0, 1.0, flip]) @ right
    return rotation, target_centre - rotation @ source_centre
