"""Places a model where its markers were measured, before inverse kinematics starts.

OpenSim's solver starts from the model's default pose facing x. From there it can settle in a
twisted pose when the person faces the other way or the recording's vertical is another axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from d3ke.arrays import FloatArray

_QUARTER_TURNS = (0.0, np.pi / 2, np.pi, -np.pi / 2)


def place_root(model: Any, state: Any, names: Sequence[str], measured: FloatArray) -> None:
    """Sets the root joint's coordinates in `state` so that the markers fit rigidly.

    Works for any root joint: it tries quarter turns of its rotations and refines the best one.
    Models fixed to the ground stay as they are.

    Args:
        model: an `opensim.Model` with an initialised system.
        state: its state; all other coordinates keep their values.
        names: markers.
        measured: [len(names), 3] m, ground frame, finite.
    """
    root = _root_coordinates(model)
    if not root:
        return
    rotational = [i for i, c in enumerate(root) if c.getMotionType() == _ROTATIONAL]
    markers = [model.getMarkerSet().get(name) for name in names]

    def residual(values: FloatArray) -> FloatArray:
        for coordinate, value in zip(root, values, strict=True):
            coordinate.setValue(state, float(value), False)
        model.realizePosition(state)
        return np.array([m.getLocationInGround(state).to_numpy() for m in markers]) - measured

    start = np.array([coordinate.getValue(state) for coordinate in root])
    # Two settings of three angles give the same rotation: the smaller angles are meant.
    best = min(
        _turned(start, rotational),
        key=lambda values: (round(_misfit(residual, values), 9), np.abs(values).sum()),
    )
    solution = least_squares(lambda values: residual(values).ravel(), best, method="trf")
    residual(solution.x)


_ROTATIONAL = 1
"""OpenSim's Coordinate::MotionType::Rotational."""


def _root_coordinates(model: Any) -> list[Any]:
    """Unlocked coordinates of the first joint that hangs from the ground."""
    for joint in model.getJointSet():
        if joint.getParentFrame().findBaseFrame().getName() == "ground":
            coordinates = [joint.get_coordinates(i) for i in range(joint.numCoordinates())]
            return [c for c in coordinates if not c.getDefaultLocked()]
    return []


def _turned(start: FloatArray, rotational: Sequence[int]) -> list[FloatArray]:
    """The start and every combination of quarter turns of its rotations."""
    candidates = []
    for turns in product(_QUARTER_TURNS, repeat=len(rotational)):
        values = start.copy()
        values[list(rotational)] = turns
        candidates.append(values)
    return [start, *candidates]


def _misfit(residual: Callable[[FloatArray], FloatArray], values: FloatArray) -> float:
    """Squared marker distances once the best shift is taken out."""
    offsets = residual(values)
    return float(np.square(offsets - offsets.mean(axis=0)).sum())
