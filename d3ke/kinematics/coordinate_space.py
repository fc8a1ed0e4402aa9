"""The coordinates of an OpenSim model that inverse kinematics may choose."""

from __future__ import annotations

from typing import Any

import numpy as np

from d3ke.arrays import FloatArray, IntArray
from d3ke.errors import UnsupportedModelError
from d3ke.kinematics.opensim_library import load_opensim

_SLOPE_STEP = 1e-6


class CoordinateSpace:
    """Free coordinates: not locked, and not determined by an enforced coupler.

    Translates between them [F] and the model's coordinates [Q], which `order` maps to Simbody's.
    """

    order: IntArray
    """[Q] position of each coordinate in Simbody's state."""
    bounds: tuple[FloatArray, FloatArray]
    """Lowest and highest value, [F] each; infinite where the coordinate is not clamped."""
    defaults: FloatArray
    """[F] values of the default pose."""
    prior: FloatArray
    """[F] 1 / (half the coordinate's range)^2 for angles away from the root joint, else 0."""

    def __init__(self, model: Any, state: Any) -> None:
        coordinates = list(model.getCoordinateSet())
        self._names = [coordinate.getName() for coordinate in coordinates]
        self.order = _state_order(coordinates, state)
        self._couplers = _couplers(model, self._names)
        dependent = {coupler.dependent for coupler in self._couplers}
        self._free = np.array(
            [
                index
                for index, coordinate in enumerate(coordinates)
                if not coordinate.getLocked(state) and index not in dependent
            ]
        )
        chosen = [coordinates[index] for index in self._free]
        self.bounds = (
            np.array([c.getRangeMin() if c.getClamped(state) else -np.inf for c in chosen]),
            np.array([c.getRangeMax() if c.getClamped(state) else np.inf for c in chosen]),
        )
        self.defaults = np.array([coordinate.getDefaultValue() for coordinate in chosen])
        self.prior = np.array([_prior(coordinate) for coordinate in chosen])
        self._all = state.getQ().to_numpy()[self.order]

    def read(self, state: Any) -> FloatArray:
        """The free coordinates of a state, within their bounds, [F]."""
        values = state.getQ().to_numpy()[self.order]
        self._all = values.copy()
        return np.clip(values[self._free], *self.bounds)

    def write(self, state: Any, free: FloatArray) -> None:
        """Sets a state from the free coordinates; couplers hold exactly."""
        in_state = np.empty(len(self.order))
        in_state[self.order] = self._complete(free)
        state.setQ(load_opensim().Vector.createFromMat(in_state))

    def derivative(self, free: FloatArray) -> FloatArray:
        """Of all coordinates by the free ones, [Q, F]."""
        matrix = np.zeros((len(self.order), len(free)))
        matrix[self._free, np.arange(len(free))] = 1.0
        values = self._complete(free)
        for coupler in self._couplers:
            matrix[coupler.dependent] = coupler.slopes(values) @ matrix[coupler.drivers]
        return matrix

    def _complete(self, free: FloatArray) -> FloatArray:
        values = self._all.copy()
        values[self._free] = free
        for coupler in self._couplers:
            values[coupler.dependent] = coupler.value(values)
        return values


def _state_order(coordinates: list[Any], state: Any) -> IntArray:
    """Found by writing, because OpenSim does not tell: a model's tree may be stored otherwise."""
    before = state.getQ().to_numpy()
    order = []
    for coordinate in coordinates:
        value = coordinate.getValue(state)
        locked = coordinate.getLocked(state)
        coordinate.setLocked(state, False)
        coordinate.setValue(state, value + 1e-3, False)
        order.append(int(np.argmax(np.abs(state.getQ().to_numpy() - before))))
        coordinate.setValue(state, value, False)
        coordinate.setLocked(state, locked)
    return np.array(order)


class _Coupler:
    """A dependent coordinate as a function of the coordinates that drive it."""

    def __init__(self, dependent: int, drivers: list[int], function: Any) -> None:
        self.dependent, self.drivers = dependent, drivers
        self._function = function
        linear = load_opensim().LinearFunction.safeDownCast(function)
        self._line: FloatArray | None = None
        if linear is not None:
            coefficients = linear.getCoefficients()
            count = coefficients.getSize()
            self._line = np.array([coefficients.get(index) for index in range(count)])

    def value(self, coordinates: FloatArray) -> float:
        """At coordinates [Q]."""
        arguments = coordinates[self.drivers]
        if self._line is not None:
            return float(self._line[:-1] @ arguments + self._line[-1])
        vector = load_opensim().Vector.createFromMat(np.ascontiguousarray(arguments))
        return float(self._function.calcValue(vector))

    def slopes(self, coordinates: FloatArray) -> FloatArray:
        """Derivative by each driver."""
        if self._line is not None:
            return np.asarray(self._line[:-1])
        slopes = np.empty(len(self.drivers))
        for position, driver in enumerate(self.drivers):
            step = np.zeros(len(coordinates))
            step[driver] = _SLOPE_STEP
            rise = self.value(coordinates + step) - self.value(coordinates - step)
            slopes[position] = rise / (2.0 * _SLOPE_STEP)
        return slopes


def _couplers(model: Any, names: list[str]) -> list[_Coupler]:
    """The enforced coordinate couplers, drivers before what they drive.

    Raises:
        UnsupportedModelError: the model is held together by a constraint of another kind.
    """
    opensim = load_opensim()
    couplers: list[_Coupler] = []
    for constraint in model.getConstraintSet():
        if not constraint.get_isEnforced():
            continue
        coupler = opensim.CoordinateCouplerConstraint.safeDownCast(constraint)
        if coupler is None:
            kind = constraint.getConcreteClassName()
            what = f"constraint {constraint.getName()!r}"
            raise UnsupportedModelError(what, kind, ["CoordinateCouplerConstraint"])
        listed = coupler.getIndependentCoordinateNames()
        drivers = [names.index(listed.get(index)) for index in range(listed.getSize())]
        dependent = names.index(coupler.getDependentCoordinateName())
        couplers.append(_Coupler(dependent, drivers, coupler.getFunction()))
    driven = [coupler.dependent for coupler in couplers]
    return sorted(couplers, key=lambda coupler: sum(d in driven for d in coupler.drivers))


def _prior(coordinate: Any) -> float:
    opensim = load_opensim()
    root = coordinate.getJoint().getParentFrame().findBaseFrame().getName() == "ground"
    half_range = (coordinate.getRangeMax() - coordinate.getRangeMin()) / 2.0
    if root or coordinate.getMotionType() != opensim.Coordinate.Rotational or half_range <= 0.0:
        return 0.0
    return float(1.0 / half_range**2)
