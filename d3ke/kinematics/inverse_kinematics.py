"""Joint angles from marker trajectories with OpenSim's inverse kinematics solver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError, KinematicsError
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.opensim_library import load_model, load_opensim
from d3ke.kinematics.root_placement import place_root
from d3ke.kinematics.trc import MarkerTrajectories

MINIMUM_MARKERS = 3
"""Fewer measured markers cannot even place the pelvis."""


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
    constraint_weight: float = np.inf,
) -> InverseKinematicsResult:
    """Solves a trial frame by frame (least squares of weighted marker distances).

    Args:
        model_path: a scaled model holding the markers of `marker_set`.
        trajectories: measured markers, ground frame; missing ones (NaN or absent) are left out
            frame by frame.
        marker_set: names and IK weights.
        accuracy: the solver's. 1e-3 leaves errors of centimetres, 1e-5 costs three times as long
            and changes nothing.
        constraint_weight: of the coordinate couplers; infinite enforces them exactly, so that the
            angles agree with a layer that computes the dependent coordinates.

    Raises:
        InvalidInputError: the model cannot be read or lacks markers of the set.
        KinematicsError: no frame has enough markers, or the solver gave up.
    """
    model = load_model(model_path)
    measured = trajectories.reordered(marker_set.names)
    return solve_markers(
        model,
        measured,
        np.asarray(marker_set.ik_weights),
        what=f"inverse kinematics with {Path(model_path).name}",
        accuracy=accuracy,
        constraint_weight=constraint_weight,
    )


def solve_markers(
    model: Any,
    measured: MarkerTrajectories,
    weights: FloatArray,
    *,
    what: str,
    accuracy: float = 1e-4,
    constraint_weight: float = np.inf,
) -> InverseKinematicsResult:
    """Inverse kinematics of an `opensim.Model` in memory.

    Args:
        model: holds all markers named in `measured`.
        measured: [T, M, 3] m.
        weights: [M]; 0 = not used.
        what: names the trial in errors.
        accuracy: see `opensim_inverse_kinematics`.
        constraint_weight: see there.
    """
    _check_markers(model, measured, what)
    usable = np.isfinite(measured.positions).all(axis=2) & (weights > 0.0)
    solved = usable.sum(axis=1) >= MINIMUM_MARKERS
    if not solved.any():
        raise KinematicsError(
            what, f"no frame has {MINIMUM_MARKERS} measured markers that carry a weight"
        )
    coordinates, positions = _track(
        model, measured, np.where(usable.any(axis=0), weights, 0.0), solved, what,
        (accuracy, constraint_weight),
    )  # fmt: skip
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
    weights: FloatArray,
    solved: BoolArray,
    what: str,
    tolerances: tuple[float, float],
) -> tuple[FloatArray, FloatArray]:
    """Coordinates [T, Q] and model marker positions [T, M, 3]; unsolved rows repeat a neighbour."""
    used = np.flatnonzero(weights > 0.0)
    frames = np.flatnonzero(solved)
    state = model.initSystem()
    first = measured.positions[frames[0], used]
    seen = np.isfinite(first).all(axis=1)
    names = [measured.names[i] for i in used]
    place_root(model, state, [n for n, s in zip(names, seen, strict=True) if s], first[seen])
    reference = _reference(names, measured.times[frames], measured.positions[frames][:, used],
                           weights[used])  # fmt: skip
    try:
        rows = list(_solve(model, state, reference, measured.times[frames], tolerances, measured))
    except RuntimeError as error:
        raise KinematicsError(what, str(error).strip().splitlines()[0]) from error
    # Frames without markers repeat the last solved pose (the first, at the start).
    source = np.maximum(np.cumsum(solved) - 1, 0)
    return np.stack([q for q, _ in rows])[source], np.stack([p for _, p in rows])[source]


def _solve(
    model: Any,
    state: Any,
    reference: Any,
    times: FloatArray,
    tolerances: tuple[float, float],
    measured: MarkerTrajectories,
) -> Iterator[tuple[FloatArray, FloatArray]]:
    opensim = load_opensim()
    accuracy, constraint_weight = tolerances
    no_coordinates = opensim.SimTKArrayCoordinateReference()
    solver = opensim.InverseKinematicsSolver(
        model, reference, no_coordinates, float(constraint_weight)
    )
    solver.setAccuracy(accuracy)
    coordinates = list(model.getCoordinateSet())
    markers = [model.getMarkerSet().get(name) for name in measured.names]
    for frame, time in enumerate(times):
        state.setTime(float(time))
        if frame == 0:
            solver.assemble(state)
        else:
            solver.track(state)
        model.realizePosition(state)
        yield (
            np.array([coordinate.getValue(state) for coordinate in coordinates]),
            np.array([marker.getLocationInGround(state).to_numpy() for marker in markers]),
        )


def _reference(
    names: list[str], times: FloatArray, positions: FloatArray, weights: FloatArray
) -> Any:
    """OpenSim's view of the measured markers; its solver skips NaN positions."""
    opensim = load_opensim()
    table = opensim.TimeSeriesTableVec3()
    table.setColumnLabels(names)
    row = opensim.RowVectorVec3(len(names))
    for time, points in zip(times, positions, strict=True):
        for column, point in enumerate(points):
            row[column] = opensim.Vec3(*map(float, point))
        table.appendRow(float(time), row)
    table.addTableMetaDataString("Units", "m")
    marker_weights = opensim.SetMarkerWeights()
    for name, weight in zip(names, weights, strict=True):
        marker_weights.cloneAndAppend(opensim.MarkerWeight(name, float(weight)))
    return opensim.MarkersReference(table, marker_weights)
