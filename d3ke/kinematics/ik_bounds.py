"""Ranges that inverse kinematics keeps to."""

from __future__ import annotations

import numpy as np
import torch

from d3ke.arrays import BoolArray, FloatArray, IntArray
from d3ke.kinematics.ik_gauss_newton import Bounds
from d3ke.skeleton import Skeleton
from d3ke.skeleton.skeleton import Coupler

_SAMPLES = 1001
_HALVINGS = 50


def coordinate_bounds(skeleton: Skeleton, free: IntArray) -> Bounds:
    """Of the free coordinates: their ranges where clamped, narrowed so that clamped coordinates
    that they alone drive stay within theirs too (as in OpenSim)."""
    clamped = skeleton.coordinate_clamped[:, None]
    every = np.where(clamped, skeleton.coordinate_ranges, [-np.inf, np.inf])
    for coupler in skeleton.couplers:
        drivers = _drivers(coupler)
        if skeleton.coordinate_clamped[coupler.dependent] and len(drivers) == 1:
            every[drivers[0]] = _narrowed(skeleton, coupler, drivers[0], every[drivers[0]])
    low, high = (torch.from_numpy(np.ascontiguousarray(side)) for side in every[free].T)
    return Bounds(low, high)


def _drivers(coupler: Coupler) -> list[int]:
    function = coupler.function
    if function.pieces is not None:
        return [function.inputs[0]]
    return [i for i, slope in zip(function.inputs, function.slopes, strict=True) if slope]


def _narrowed(
    skeleton: Skeleton, coupler: Coupler, driver: int, bounds: FloatArray
) -> tuple[float, float]:
    """The interval around the driver's default in which the dependent keeps to its range."""
    low, high = skeleton.coordinate_ranges[coupler.dependent]

    def inside(x: FloatArray) -> BoolArray:
        values = np.zeros((len(x), len(skeleton.coordinates)))
        values[:, driver] = x
        value = coupler.function(values)
        return np.asarray((value >= low - 1e-9) & (value <= high + 1e-9))

    middle = float(np.clip(skeleton.coordinate_defaults[driver], *bounds))
    # The range of a coordinate that is not clamped says at least where it is looked for.
    ends = np.where(np.isfinite(bounds), bounds, skeleton.coordinate_ranges[driver])
    result = []
    for end, bound in zip(ends, bounds, strict=True):
        path = np.linspace(middle, float(end), _SAMPLES)
        outside = np.flatnonzero(~inside(path))
        if not len(outside):
            result.append(float(bound))
            continue
        good, bad = path[max(outside[0] - 1, 0)], path[outside[0]]
        for _ in range(_HALVINGS):
            half = (good + bad) / 2
            good, bad = (half, bad) if inside(np.array([half]))[0] else (good, half)
        result.append(float(good))
    return result[0], result[1]
