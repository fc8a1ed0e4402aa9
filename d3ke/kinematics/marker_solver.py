"""Least-squares inverse kinematics on an OpenSim model, converged.

OpenSim's own solver stops on an absolute tolerance: at its usual accuracy of 1e-4 to 1e-5 the
pelvis tilts and the lumbar joints of a full-body model are left 5 to 10 degrees from the optimum,
at random from frame to frame. Here the same objective (weighted squared marker distances) is
minimised by damped Gauss-Newton steps with Simbody's exact Jacobian, which takes a few
milliseconds a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import UnsupportedModelError
from d3ke.kinematics.coordinate_space import CoordinateSpace
from d3ke.kinematics.opensim_library import load_opensim

_PRIOR = 5e-4
"""Cost of a coordinate half its range away from the default pose, in squared metres times a marker
weight of up to 20: as much as 5 mm at one marker. It decides what the markers leave open (which of
eight joints of the spine bends, a wrist's angle), so that a frame's angles do not depend on how the
trial got there."""
_MAX_STEPS = 60
_MAX_TURN = 0.35
"""Largest change of a coordinate in one step, rad or m: far steps end in other local minima."""


class MarkerSolver:
    """Solves one model's coordinates from markers, frame after frame.

    Holds the model and its state; each solution starts from the one before.
    """

    def __init__(self, model: Any, state: Any, names: Sequence[str], weights: FloatArray) -> None:
        self._model, self._state = model, state
        self._space = CoordinateSpace(model, state)
        self._matter = model.getMatterSubsystem()
        _check_speeds(model)
        self._markers = [model.getMarkerSet().get(name) for name in names]
        names_of_bodies = [m.getParentFrame().findBaseFrame().getName() for m in self._markers]
        distinct = sorted(set(names_of_bodies))
        self._bodies = [_body(model, name) for name in distinct]
        self._body_of_marker = np.array([distinct.index(name) for name in names_of_bodies])
        self._rows = [6 * int(body.getMobilizedBodyIndex()) for body in self._bodies]
        self._weights = weights

    def solve(self, measured: FloatArray, accuracy: float) -> None:
        """Moves the state to the best fit of a frame.

        Args:
            measured: [K, 3] m, ground frame; NaN = missing.
            accuracy: stop when a step changes no coordinate by more than this, rad or m.
        """
        seen = np.asarray(np.isfinite(measured).all(axis=1))
        space = self._space
        free = space.read(self._state)
        damping = 1e-3
        cost, gradient, hessian = self._linearise(free, measured, seen)
        for _ in range(_MAX_STEPS):
            trial = _step(free, gradient, hessian, damping, space.bounds)
            moved = float(np.abs(trial - free).max())
            new_cost = self._cost(trial, measured, seen)
            if new_cost <= cost:
                free, damping = trial, max(damping / 10.0, 1e-9)
                if moved < accuracy:
                    break
                cost, gradient, hessian = self._linearise(free, measured, seen)
            elif moved < accuracy:
                break
            else:
                damping = max(damping * 10.0, 1e-6)
        self._set(free)

    def _set(self, free: FloatArray) -> None:
        self._space.write(self._state, free)
        self._model.realizePosition(self._state)

    def _points(self) -> FloatArray:
        """Marker positions, ground frame, [K, 3] m."""
        return np.array([m.getLocationInGround(self._state).to_numpy() for m in self._markers])

    def _cost(self, free: FloatArray, measured: FloatArray, seen: BoolArray) -> float:
        self._set(free)
        offsets = (self._points() - measured)[seen]
        prior = self._space.prior * np.square(free - self._space.defaults)
        return float((self._weights[seen, None] * offsets**2).sum() + _PRIOR * prior.sum())

    def _linearise(
        self, free: FloatArray, measured: FloatArray, seen: BoolArray
    ) -> tuple[float, FloatArray, FloatArray]:
        """Cost, half its gradient and half its Gauss-Newton Hessian at `free`."""
        self._set(free)
        points = self._points()
        jacobian = self._jacobian(points)[seen] @ self._space.derivative(free)
        offsets = (points - measured)[seen]
        weighted = self._weights[seen, None, None] * jacobian
        from_default = free - self._space.defaults
        prior = _PRIOR * self._space.prior
        gradient = np.einsum("kiq,ki->q", weighted, offsets) + prior * from_default
        rows = jacobian.reshape(-1, len(free))
        hessian = weighted.reshape(-1, len(free)).T @ rows + np.diag(prior)
        cost = (self._weights[seen, None] * offsets**2).sum() + (prior * from_default**2).sum()
        return float(cost), gradient, hessian

    def _jacobian(self, points: FloatArray) -> FloatArray:
        """Derivative of marker positions [K, 3] by all coordinates, [K, 3, Q]."""
        matrix = load_opensim().Matrix()
        self._matter.calcSystemJacobian(self._state, matrix)
        system = matrix.to_numpy()[:, self._space.order]
        angular = np.stack([system[row : row + 3] for row in self._rows])[self._body_of_marker]
        linear = np.stack([system[row + 3 : row + 6] for row in self._rows])[self._body_of_marker]
        origins = [body.getPositionInGround(self._state).to_numpy() for body in self._bodies]
        arms = points - np.array(origins)[self._body_of_marker]
        return linear + np.cross(angular, arms[:, :, None], axis=1)


def _step(
    free: FloatArray,
    gradient: FloatArray,
    hessian: FloatArray,
    damping: float,
    bounds: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """A damped step within bounds; coordinates that a bound holds back take no part in it."""
    low, high = bounds
    held = ((free <= low) & (gradient > 0.0)) | ((free >= high) & (gradient < 0.0))
    active = np.flatnonzero(~held)
    system = hessian[np.ix_(active, active)] + damping * np.eye(len(active))
    change = np.zeros(len(free))
    change[active] = -np.linalg.solve(system, gradient[active])
    largest = float(np.abs(change).max())
    if largest > _MAX_TURN:
        change *= _MAX_TURN / largest
    return np.clip(free + change, low, high)


def _body(model: Any, name: str) -> Any:
    return model.getGround() if name == "ground" else model.getBodySet().get(name)


_PLAIN_JOINTS = ("CustomJoint", "PinJoint", "SliderJoint", "UniversalJoint", "WeldJoint")


def _check_speeds(model: Any) -> None:
    """Simbody's Jacobian is by generalised speeds: they must be the coordinates' derivatives."""
    for joint in model.getJointSet():
        kind = joint.getConcreteClassName()
        if kind not in _PLAIN_JOINTS:
            raise UnsupportedModelError(f"joint {joint.getName()!r}", kind, _PLAIN_JOINTS)
