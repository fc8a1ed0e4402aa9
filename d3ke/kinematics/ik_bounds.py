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


def coordinate_bounds(
    skeleton: Skeleton, free: IntArray, scales: FloatArray | None = None
) -> Bounds:
    """Of the free coordinates: their ranges where clamped, narrowed so that clamped coordinates
    that they alone drive stay within theirs too (as in OpenSim).

    `scales` [B, N, 3] of the bodies of B frames, which coupled translations grow with; bounds are
    [B, F] where they do, else [F].
    """
    chains = {coupler.dependent: coupler for coupler in skeleton.couplers}
    grows = any(any(coupler.scale_weights) for coupler in chains.values())
    if scales is None or not grows:
        low, high = _free_bounds(skeleton, chains, None)[free].T
    else:
        people, frames = np.unique(scales, axis=0, return_inverse=True)
        each = np.array([_free_bounds(skeleton, chains, person)[free] for person in people])
        low, high = np.moveaxis(each[frames.reshape(-1)], -1, 0)
    return Bounds(*(torch.from_numpy(np.ascontiguousarray(side)) for side in (low, high)))


def _free_bounds(
    skeleton: Skeleton, chains: dict[int, Coupler], scales: FloatArray | None
) -> FloatArray:
    """[Q, 2] rad or m; infinite where not clamped."""
    clamped = skeleton.coordinate_clamped[:, None]
    every = np.where(clamped, skeleton.coordinate_ranges, [-np.inf, np.inf])
    for dependent in chains:
        drivers = _drivers(chains, dependent)
        if skeleton.coordinate_clamped[dependent] and len(drivers) == 1:
            (driver,) = drivers
            every[driver] = _narrowed(skeleton, chains, dependent, driver, every[driver], scales)
    return every


def _drivers(chains: dict[int, Coupler], coordinate: int) -> set[int]:
    """The free coordinates at the ends of a coordinate's chains of couplers."""
    if coordinate not in chains:
        return {coordinate}
    function = chains[coordinate].function
    inputs = function.inputs[:1]
    if function.pieces is None:
        pairs = zip(function.inputs, function.slopes, strict=True)
        inputs = tuple(index for index, slope in pairs if slope)
    return {driver for index in inputs for driver in _drivers(chains, index)}


def _values(
    chains: dict[int, Coupler],
    coordinate: int,
    driver: int,
    x: FloatArray,
    count: int,
    scales: FloatArray | None,
) -> FloatArray:
    """A coordinate [K] where its only driver has the values x [K]."""
    if coordinate == driver:
        return x
    coupler = chains[coordinate]
    values = np.zeros((len(x), count))
    for index in coupler.function.inputs:
        if _drivers(chains, index) == {driver}:
            values[:, index] = _values(chains, index, driver, x, count, scales)
    factor = 1.0
    if scales is not None and any(coupler.scale_weights):
        factor = float(np.array(coupler.scale_weights) @ scales[coupler.scale_body])
    return factor * coupler.function(values)


def _narrowed(
    skeleton: Skeleton,
    chains: dict[int, Coupler],
    dependent: int,
    driver: int,
    bounds: FloatArray,
    scales: FloatArray | None,
) -> tuple[float, float]:
    """The interval around the driver's default in which the dependent keeps to its range."""
    low, high = skeleton.coordinate_ranges[dependent]

    def inside(x: FloatArray) -> BoolArray:
        value = _values(chains, dependent, driver, x, len(skeleton.coordinates), scales)
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
