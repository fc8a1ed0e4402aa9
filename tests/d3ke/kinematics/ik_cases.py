"""Walks, poses and checks that the tests of solve_ik share."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from real_trials import is_available, real_trial
from test_ik_opensim import NAMES, SEEN, WEIGHTS, measured

from d3ke.kinematics.ik_tasks import CoordinateTask
from d3ke.kinematics.solve_ik import solve_ik
from d3ke.skeleton import SkeletalModelLayer, Skeleton

FULL_BODY = Skeleton.full_body()
DEGREE = np.deg2rad(1.0)
WEAK = 1e-9
"""m^2: the usual pull towards the default pose moves exact markers by tenths of a millimetre."""


@cache
def walk(name, first, last, step=1):
    """Frames of a recorded walk."""
    if not is_available(name):
        pytest.skip(f"the recording {name} is not there")
    return real_trial(name, slice(first, last, step))


def solve_walk(trial, positions=None, **options):
    """With the recording's own weights and tasks unless `options` say otherwise."""
    positions = trial.positions if positions is None else positions
    settings = {"weights": trial.weights, "coordinate_tasks": trial.coordinate_tasks} | options
    return solve_ik(trial.skeleton, positions, **settings)


def markers_at(skeleton, coordinates, scales=None):
    """[T, M, 3] exact markers."""
    scales = None if scales is None else torch.tensor(scales)
    return SkeletalModelLayer(skeleton)(torch.tensor(coordinates), scales).markers.numpy()


def random_poses(count, share, seed=0):
    """[T, Q] of the built-in model: a share of every range about the default pose, the root
    anywhere."""
    generator = np.random.default_rng(seed)
    low, high = FULL_BODY.coordinate_ranges.T
    rest = FULL_BODY.coordinate_defaults
    drawn = generator.uniform(
        rest + share * (low - rest), rest + share * (high - rest), (count, len(rest))
    )
    drawn = np.where(FULL_BODY.coordinate_locked, rest, drawn)
    # Tilt, list, rotation, x, y, z.
    reach = np.array([1.0, 1.0, np.pi, 2.0, 2.0, 2.0])
    root = FULL_BODY.index_of("coordinate", FULL_BODY.root_coordinates)
    drawn[:, root] = generator.uniform(-reach, reach, (count, 6))
    return drawn


def some_scales(seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(0.85, 1.15, (len(FULL_BODY.bodies), 3))


def check_couplers(skeleton, coordinates):
    for coupler in skeleton.couplers:
        expected = coupler.function(coordinates)
        np.testing.assert_allclose(coordinates[..., coupler.dependent], expected, atol=1e-12)


def check_ranges(skeleton, coordinates, tolerance=1e-6):
    low, high = skeleton.coordinate_ranges.T
    inside = (coordinates > low - tolerance) & (coordinates < high + tolerance)
    clamped = skeleton.coordinate_clamped & ~skeleton.coordinate_locked
    assert inside[..., clamped].all()


def solve_sliders(path, *frames, solver="batched", tasks=(), **options):
    tasks = [CoordinateTask(name=n, weight=w, value=v) for n, w, v in tasks]
    return solve_ik(
        Skeleton.from_osim(path),
        measured(*(frames or (SEEN,))),
        WEIGHTS,
        marker_names=NAMES,
        coordinate_tasks=tasks,
        solver=solver,
        model_path=path,
        accuracy=1e-8 if solver == "batched" else 1e-6,
        **options,
    )
