"""Which coordinates of a model a set of markers can tell."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from d3ke.arrays import FloatArray
from d3ke.skeleton import SkeletalModelLayer, Skeleton

_POSES = 3
_STEP = 1e-5
"""rad or m, of the differences: exact to 1e-9 m per rad."""
_WEAK = 2e-3
"""m per rad (or per m): markers that move less say nothing beside their own errors."""
_TAKES_PART = 0.2
"""Share of a coordinate in a motion that no marker shows, from which it counts as untold."""


def undetermined_coordinates(skeleton: Skeleton, weights: Mapping[str, float]) -> tuple[str, ...]:
    """Independent, unlocked coordinates that can change without the markers noticing.

    Alone (a wrist without markers beyond it) or together (joints of a spine that bend against each
    other): those with a part in a direction that the markers' Jacobian maps to nearly nothing, in
    each of three poses within the ranges.

    Args:
        skeleton: the model; couplers hold.
        weights: of markers by name; those above 0 count.
    """
    used = [name for name in skeleton.markers if weights.get(name, 0.0) > 0.0]
    locked = np.asarray(skeleton.coordinate_locked)
    free = [
        index
        for index, name in enumerate(skeleton.coordinates)
        if name not in skeleton.coupled and not locked[index]
    ]
    if not used:
        return tuple(skeleton.coordinates[index] for index in free)
    layer = SkeletalModelLayer(skeleton, markers=used)
    untold = np.ones(len(free), dtype=bool)
    for pose in _poses(skeleton):
        untold &= _untold(_jacobian(layer, pose, len(skeleton.bodies))[:, free])
    return tuple(skeleton.coordinates[free[index]] for index in np.flatnonzero(untold))


def _poses(skeleton: Skeleton) -> list[FloatArray]:
    """[Q] rad or m: near the default pose, moved by up to a tenth of the ranges."""
    rng = np.random.default_rng(0)
    low, high = np.clip(skeleton.coordinate_ranges, -np.pi, np.pi).T
    reach = np.clip(high - low, 0.0, 2.0)
    return [
        skeleton.coordinate_defaults + reach * rng.uniform(-0.1, 0.1, len(reach))
        for _ in range(_POSES)
    ]


def _jacobian(layer: SkeletalModelLayer, pose: FloatArray, bodies: int) -> FloatArray:
    """[3 M, Q] m per rad or m: central differences, all in one batch."""
    count = len(pose)
    steps = _STEP * np.concatenate([np.eye(count), -np.eye(count)])
    scales = torch.ones(len(steps), bodies, 3, dtype=torch.float64)
    with torch.no_grad():
        places = layer(torch.from_numpy(pose + steps), scales).markers.numpy()
    forward, backward = places.reshape(2, count, -1)
    return (forward - backward).T / (2.0 * _STEP)


def _untold(jacobian: FloatArray) -> np.ndarray:
    """[F] True for coordinates with a part in a direction that moves no marker."""
    _, values, directions = np.linalg.svd(jacobian, full_matrices=True)
    seen = int((values > _WEAK).sum())
    return np.asarray(np.linalg.norm(directions[seen:], axis=0) > _TAKES_PART)
