"""Joint angles from marker trajectories on an OpenSim model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.arrays import BoolArray, FloatArray, IntArray
from d3ke.errors import InvalidInputError, KinematicsError, UnsupportedModelError
from d3ke.kinematics.ik_opensim import MINIMUM_MARKERS, OpenSimTracker
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.marker_solver import MarkerSolver
from d3ke.kinematics.opensim_library import load_model
from d3ke.kinematics.root_placement import place_root
from d3ke.kinematics.trc import MarkerTrajectories


@dataclass(frozen=True, kw_only=True, eq=False)
class InverseKinematicsResult:
    """A solved trial."""

    times: FloatArray
    """[T] s."""
    coordinate_names: tuple[str, ...]
    """All coordinates of the model, in its order (a Skeleton's order)."""
    coordinates: FloatArray
    """[T, Q] rad or m."""
    marker_names: tuple[str, ...]
    """The marker set's names."""
    marker_positions: FloatArray
    """[T, M, 3] m, the model's markers in the ground frame."""
    marker_error: FloatArray
    """[T, M] m, distance between model and measured marker; NaN where not measured."""
    solved: BoolArray
    """[T] False where too few markers were measured: the row repeats the last solved pose."""

    def rms_error(self, marker_set: MarkerSet) -> float:
        """Root mean square of the error over all measured markers with a weight, m."""
        used = self.marker_error[:, marker_set.ik_weights > 0.0]
        return float(np.sqrt(np.nanmean(np.square(used))))


def opensim_inverse_kinematics(
    *,
    model_path: str | Path,
    trajectories: MarkerTrajectories,
    marker_set: MarkerSet,
    accuracy: float = 1e-4,
) -> InverseKinematicsResult:
    """Solves a trial frame by frame on an OpenSim model (least weighted squared distances).

    The first frame is assembled by OpenSim's solver; every frame is then brought to the optimum
    (`MarkerSolver`). Coordinate couplers hold exactly, so that the angles agree with a layer that
    computes the dependent coordinates. Models with other constraints or joints are left to
    OpenSim's solver alone.

    Args:
        model_path: a scaled model holding the markers of `marker_set`.
        trajectories: measured markers, ground frame; missing ones (NaN or absent) are left out
            frame by frame.
        marker_set: names and IK weights.
        accuracy: largest change of a coordinate, rad or m, in the last step of a frame.

    Raises:
        InvalidInputError: the model cannot be read or lacks markers of the set.
        KinematicsError: no frame has enough markers, or the solver gave up.
    """
    return solve_markers(
        load_model(model_path),
        trajectories.reordered(marker_set.names),
        marker_set.ik_weights,
        what=f"inverse kinematics with {Path(model_path).name}",
        accuracy=accuracy,
    )


def solve_markers(
    model: Any,
    measured: MarkerTrajectories,
    weights: FloatArray,
    *,
    what: str,
    accuracy: float = 1e-4,
) -> InverseKinematicsResult:
    """Inverse kinematics of an `opensim.Model` in memory.

    Args:
        model: holds all markers named in `measured`.
        measured: [T, M, 3] m.
        weights: [M]; 0 = not used.
        what: names the trial in errors.
        accuracy: see `opensim_inverse_kinematics`.
    """
    _check_markers(model, measured, what)
    usable = np.isfinite(measured.positions).all(axis=2) & (weights > 0.0)
    solved = usable.sum(axis=1) >= MINIMUM_MARKERS
    if not solved.any():
        raise KinematicsError(
            what, f"no frame has {MINIMUM_MARKERS} measured markers that carry a weight"
        )
    used = np.flatnonzero(usable.any(axis=0))
    try:
        coordinates, positions = _track(model, measured, used, weights[used], solved, accuracy)
    except RuntimeError as error:
        raise KinematicsError(what, str(error).strip().splitlines()[0]) from error
    return InverseKinematicsResult(
        times=measured.times,
        coordinate_names=tuple(c.getName() for c in model.getCoordinateSet()),
        coordinates=coordinates,
        marker_names=measured.names,
        marker_positions=positions,
        marker_error=np.linalg.norm(positions - measured.positions, axis=2),
        solved=solved,
    )


def _check_markers(model: Any, measured: MarkerTrajectories, what: str) -> None:
    present = {marker.getName() for marker in model.getMarkerSet()}
    lacking = [name for name in measured.names if name not in present]
    if lacking:
        raise InvalidInputError(what, f"the model has no markers {', '.join(lacking)}")


def _track(
    model: Any,
    measured: MarkerTrajectories,
    used: IntArray,
    weights: FloatArray,
    solved: BoolArray,
    accuracy: float,
) -> tuple[FloatArray, FloatArray]:
    """Coordinates [T, Q] and model marker positions [T, M, 3]; unsolved rows repeat a neighbour."""
    names = [measured.names[index] for index in used]
    points, times = measured.positions[solved][:, used], measured.times[solved]
    state = model.initSystem()
    seen = np.isfinite(points[0]).all(axis=1)
    place_root(model, state, [n for n, s in zip(names, seen, strict=True) if s], points[0][seen])
    refine = _refiner(model, state, names, weights)
    # Alone, looser leaves centimetres and tighter costs several times as long.
    tracker = OpenSimTracker(model, state, names, weights, times, points)
    tracker.set_accuracy(1e-5 if refine is None else 1e-4)
    coordinates = list(model.getCoordinateSet())
    markers = [model.getMarkerSet().get(name) for name in measured.names]
    rows, places = [], []
    for frame, row in enumerate(points):
        if frame == 0 or refine is None:
            tracker.solve(frame)
        if refine is not None:
            refine.solve(row, accuracy)
        model.realizePosition(state)
        rows.append([coordinate.getValue(state) for coordinate in coordinates])
        places.append([marker.getLocationInGround(state).to_numpy() for marker in markers])
    # Frames without markers repeat the last solved pose (the first one, at the start).
    source = np.maximum(np.cumsum(solved) - 1, 0)
    return np.array(rows)[source], np.array(places)[source]


def _refiner(model: Any, state: Any, names: list[str], weights: FloatArray) -> MarkerSolver | None:
    try:
        return MarkerSolver(model, state, names, weights)
    except UnsupportedModelError:
        return None
