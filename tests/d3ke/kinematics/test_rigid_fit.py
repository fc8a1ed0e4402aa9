"""The best rigid motion is found exactly, never a reflection."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from d3ke.kinematics.rigid_fit import fit_rigid


def test_recovers_a_motion():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(7, 3))
    rotation, shift = Rotation.random(random_state=2).as_matrix(), rng.normal(size=3)
    found, moved = fit_rigid(points, points @ rotation.T + shift)
    np.testing.assert_allclose(found, rotation, atol=1e-12)
    np.testing.assert_allclose(moved, shift, atol=1e-12)


def test_never_reflects():
    points = np.random.default_rng(1).normal(size=(6, 3))
    rotation, _ = fit_rigid(points, points * [1.0, 1.0, -1.0])
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)


def test_a_point_without_weight_has_no_say():
    points = np.random.default_rng(1).normal(size=(5, 3))
    target = points + 1.0
    target[0] += 9.0
    rotation, shift = fit_rigid(points, target, np.array([0.0, 1, 1, 1, 1]))
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(shift, np.ones(3), atol=1e-12)
