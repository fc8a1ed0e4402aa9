"""Inverse kinematics by OpenSim's own solver: the reference other solvers are held against.

`InverseKinematicsSolver` is the C++ class behind InverseKinematicsTool. What it minimises, found
by where the optimum of one- and two-coordinate models lies (tests/d3ke/kinematics/
test_ik_opensim.py), is per frame

    J(q) = sum_m w_m |p_m(q) - o_m|^2 / sum_m w_m  +  sum_k c_k (q_k - v_k)^2

- Markers: both sums run over the markers measured in *this* frame. The term is a weighted mean: a
  common factor of the weights changes nothing, and a missing marker's weight does not count.
- Coordinate tasks: the weight c_k (m^2 per rad^2 or m^2) is not normalised. In the form
  `sum w d^2 + W sum c (q - v)^2` it is multiplied by W, the sum of the frame's marker weights. At a
  weight of 1 a degree costs as much as 17 mm at every marker. A task on a coupled coordinate acts
  through its coupler; one on a locked or prescribed coordinate has no effect.
- Nothing else: what no marker sees keeps its value of the frame before.
- Bounds: a clamped coordinate, coupled or not, stays within its range; the range of one that is not
  clamped means nothing.
- Locked coordinates keep their value of the start, prescribed ones are their function of time.
- Enforced coordinate couplers hold to a tenth of the accuracy or better (they are equality
  constraints). InverseKinematicsTool can also take a finite `constraint_weight` c: it then adds
  c (dependent - f(drivers))^2 to J. This module does not.

The accuracy is an absolute tolerance, and where it stops depends on the model. At 1e-5 a recorded
walk with gait2354 ends within 0.12 degrees of the solution at 1e-9; with the Rajagopal model, whose
coordinates are clamped, the forearms end up to 28 degrees from it (upper arms 10, elbows 5, legs 1)
while the weighted RMS is only 8.87 instead of 8.81 mm. Where a bound meets a coupler the tightest
accuracies can fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError, KinematicsError, UnknownNameError
from d3ke.kinematics.ik_tasks import CoordinateTask
from d3ke.kinematics.opensim_library import load_model, load_opensim
from d3ke.kinematics.root_placement import place_root

MINIMUM_MARKERS = 3
"""Fewer measured markers cannot even place the pelvis."""


class OpenSimSolution(NamedTuple):
    """What OpenSim found; unsolved rows repeat the last solved pose (the first, at the start)."""

    coordinates: FloatArray
    """[T, Q] rad or m, in the model's order (a Skeleton's order)."""
    marker_positions: FloatArray
    """[T, M, 3] m, the model's markers in the ground frame."""
    solved: BoolArray
    """[T] False where fewer than three markers with a weight were measured."""


def solve_with_opensim(
    model_path: str | Path,
    marker_names: Sequence[str],
    positions: FloatArray,
    weights: FloatArray,
    coordinate_tasks: Sequence[CoordinateTask] = (),
    times: FloatArray | None = None,
    *,
    accuracy: float = 1e-5,
    initial: FloatArray | None = None,
    locked: Sequence[str] | None = None,
    scales: FloatArray | None = None,
) -> OpenSimSolution:
    """Solves frame after frame, each from the one before, with InverseKinematicsSolver.

    Args:
        model_path: an .osim model.
        marker_names: markers of the model, M.
        positions: [T, M, 3] m, measured, ground frame; NaN = missing.
        weights: [M], 0 = not used.
        coordinate_tasks: coordinates to keep near values; a task with an array has one per frame.
        times: [T] s, increasing (prescribed coordinates depend on them); default: 0, 1, 2 ...
        accuracy: OpenSim's tolerance, without a unit.
        initial: [Q] rad or m, the pose to start from, and the value of locked coordinates. Default:
            the model's default pose, its root moved to the first frame's markers.
        locked: coordinates to lock beside those the model locks.
        scales: [N, 3] factors of the model's bodies, for a model that is not scaled yet.

    Raises:
        InvalidInputError: the model cannot be read, shapes do not fit, or a value is refused.
        UnknownNameError: a marker or coordinate the model lacks.
        KinematicsError: no frame has three markers with a weight, or OpenSim gave up (which frame).
    """
    trial = _Trial.checked(
        f"OpenSim's solver with {Path(model_path).name}", marker_names, positions, weights, times
    )
    model = load_model(model_path)
    if scales is not None:
        _scale(model, trial.what, scales)
    _check_names("marker", trial.names, model.getMarkerSet())
    # Before the start changes the defaults, which tasks may refer to.
    references = _coordinate_references(model, coordinate_tasks, trial)
    _set_start(model, trial.what, initial, locked or ())
    try:
        state = model.initSystem()
        if initial is None:
            _place_root(model, state, trial)
        tracker = trial.tracker(model, state, references)
        tracker.set_accuracy(accuracy)
    except RuntimeError as error:
        raise KinematicsError(trial.what, _first_line(error)) from error
    coordinates, places = _track(model, state, tracker, trial)
    # Frames without markers repeat the last solved pose (the first one, at the start).
    source = np.maximum(np.cumsum(trial.solved) - 1, 0)
    return OpenSimSolution(coordinates[source], places[source], trial.solved)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trial:
    """What was measured, with checked shapes."""

    what: str
    """Names the trial in errors."""
    names: tuple[str, ...]
    positions: FloatArray
    weights: FloatArray
    times: FloatArray
    usable: BoolArray
    """[T, M] measured and with a weight."""
    solved: BoolArray
    """[T] enough of them."""

    @classmethod
    def checked(
        cls,
        what: str,
        names: Sequence[str],
        positions: FloatArray,
        weights: FloatArray,
        times: FloatArray | None,
    ) -> _Trial:
        positions, weights = np.asarray(positions, dtype=float), np.asarray(weights, dtype=float)
        times = np.arange(len(positions), dtype=float) if times is None else np.asarray(times)
        _check_shapes(what, positions, weights, times, len(names))
        usable = np.isfinite(positions).all(axis=2) & (weights > 0.0)
        solved = np.asarray(usable.sum(axis=1) >= MINIMUM_MARKERS)
        if not solved.any():
            reason = f"no frame has {MINIMUM_MARKERS} measured markers that carry a weight"
            raise KinematicsError(what, reason)
        return cls(
            what=what,
            names=tuple(names),
            positions=positions,
            weights=weights,
            times=times,
            usable=usable,
            solved=solved,
        )

    def tracker(self, model: Any, state: Any, coordinate_references: Any) -> OpenSimTracker:
        """Of the solved frames, on the markers they use."""
        used = np.asarray(self.usable[self.solved].any(axis=0))
        return OpenSimTracker(
            model,
            state,
            _chosen(self.names, used),
            self.weights[used],
            self.times[self.solved],
            self.positions[self.solved][:, used],
            coordinate_references,
        )


def _chosen(names: Sequence[str], mask: BoolArray) -> list[str]:
    return [name for name, taken in zip(names, mask, strict=True) if taken]


def _place_root(model: Any, state: Any, trial: _Trial) -> None:
    first = int(trial.solved.argmax())
    seen = trial.usable[first]
    place_root(model, state, _chosen(trial.names, seen), trial.positions[first, seen])


def _track(
    model: Any, state: Any, tracker: OpenSimTracker, trial: _Trial
) -> tuple[FloatArray, FloatArray]:
    """Coordinates [F, Q] and marker positions [F, M, 3] of the solved frames."""
    coordinates = list(model.getCoordinateSet())
    markers = [model.getMarkerSet().get(name) for name in trial.names]
    rows, places = [], []
    for row, frame in enumerate(np.flatnonzero(trial.solved)):
        try:
            tracker.solve(row)
            model.realizePosition(state)
        except RuntimeError as error:
            reason = f"gave up at frame {frame} ({_first_line(error)})"
            raise KinematicsError(trial.what, reason) from error
        rows.append([coordinate.getValue(state) for coordinate in coordinates])
        places.append([marker.getLocationInGround(state).to_numpy() for marker in markers])
    return np.array(rows), np.array(places)


class OpenSimTracker:
    """OpenSim's InverseKinematicsSolver on one state."""

    def __init__(
        self,
        model: Any,
        state: Any,
        names: Sequence[str],
        weights: FloatArray,
        times: FloatArray,
        points: FloatArray,
        coordinate_references: Any = None,
    ) -> None:
        """Of markers `names` [K] with `weights` [K], measured at `points` [F, K, 3] m."""
        opensim = load_opensim()
        # OpenSim keeps bare pointers to these three.
        self._model = model
        self._reference = _reference(names, times, points, weights)
        self._coordinates = (
            opensim.SimTKArrayCoordinateReference()
            if coordinate_references is None
            else coordinate_references
        )
        self._state, self._times = state, times
        self._solver = opensim.InverseKinematicsSolver(
            model, self._reference, self._coordinates, np.inf
        )

    def set_accuracy(self, accuracy: float) -> None:
        """OpenSim's tolerance, without a unit."""
        self._solver.setAccuracy(accuracy)

    def solve(self, frame: int) -> None:
        """Assembles the first frame, tracks from there on. RuntimeError where OpenSim fails."""
        self._state.setTime(float(self._times[frame]))
        if frame == 0:
            self._solver.assemble(self._state)
        else:
            self._solver.track(self._state)


def _reference(
    names: Sequence[str], times: FloatArray, points: FloatArray, weights: FloatArray
) -> Any:
    """OpenSim's view of the measured markers; its solver skips NaN positions."""
    opensim = load_opensim()
    table = opensim.TimeSeriesTableVec3()
    table.setColumnLabels(list(names))
    row = opensim.RowVectorVec3(len(names))
    for time, places in zip(times, points, strict=True):
        for column, place in enumerate(places):
            row[column] = opensim.Vec3(*map(float, place))
        table.appendRow(float(time), row)
    table.addTableMetaDataString("Units", "m")
    marker_weights = opensim.SetMarkerWeights()
    for name, weight in zip(names, weights, strict=True):
        marker_weights.cloneAndAppend(opensim.MarkerWeight(name, float(weight)))
    return opensim.MarkersReference(table, marker_weights)


def _coordinate_references(model: Any, tasks: Sequence[CoordinateTask], trial: _Trial) -> Any:
    opensim = load_opensim()
    references = opensim.SimTKArrayCoordinateReference()
    coordinates = {c.getName(): c for c in model.getCoordinateSet()}
    for task in tasks:
        if task.name not in coordinates:
            raise UnknownNameError("coordinate", task.name, coordinates)
        coordinate = coordinates[task.name]
        if coordinate.get_is_free_to_satisfy_constraints():
            raise InvalidInputError(
                f"coordinate task {task.name!r}",
                "the model marks the coordinate as free to satisfy constraints, "
                "so that OpenSim cannot follow the task",
                "Drop the task or clear is_free_to_satisfy_constraints in the model.",
            )
        function = _value_function(task, coordinate.getDefaultValue(), trial)
        reference = opensim.CoordinateReference(task.name, function)
        reference.setWeight(float(task.weight))
        references.push_back(reference)
    return references


def _value_function(task: CoordinateTask, default: float, trial: _Trial) -> Any:
    """The task's value as OpenSim's function of time, exact at the solved frames."""
    opensim = load_opensim()
    values = np.asarray(default if task.value is None else task.value, dtype=float)
    if values.ndim == 0:
        return opensim.Constant(float(values))
    if values.shape != trial.times.shape:
        reason = f"has values of shape {values.shape} for {len(trial.times)} frames"
        raise InvalidInputError(f"coordinate task {task.name!r}", reason)
    function = opensim.PiecewiseLinearFunction()
    for time, value in zip(trial.times[trial.solved], values[trial.solved], strict=True):
        function.addPoint(float(time), float(value))
    return function


def _check_shapes(
    what: str, positions: FloatArray, weights: FloatArray, times: FloatArray, count: int
) -> None:
    if positions.ndim != 3 or positions.shape[1:] != (count, 3) or len(positions) == 0:
        raise InvalidInputError(
            what, f"positions have shape {positions.shape}, not (frames, {count} markers, 3)"
        )
    if weights.shape != (count,) or not (np.isfinite(weights) & (weights >= 0.0)).all():
        raise InvalidInputError(what, f"weights are not {count} numbers of 0 or more")
    if times.shape != positions.shape[:1] or not (np.diff(times) > 0.0).all():
        raise InvalidInputError(what, f"times are not {len(positions)} increasing numbers")


def _check_names(kind: str, names: Sequence[str], present: Any) -> None:
    valid = [item.getName() for item in present]
    for name in names:
        if name not in valid:
            raise UnknownNameError(kind, name, valid)


def _set_start(model: Any, what: str, initial: FloatArray | None, locked: Sequence[str]) -> None:
    """Start pose and locks, as defaults: in a state, locked coordinates refuse a value."""
    coordinates = list(model.getCoordinateSet())
    _check_names("coordinate", locked, coordinates)
    for coordinate in coordinates:
        if coordinate.getName() in locked:
            coordinate.setDefaultLocked(True)
    if initial is None:
        return
    values = np.asarray(initial, dtype=float)
    if values.shape != (len(coordinates),) or not np.isfinite(values).all():
        reason = f"initial has shape {values.shape}, not ({len(coordinates)},), or is not finite"
        raise InvalidInputError(what, reason)
    for coordinate, value in zip(coordinates, values, strict=True):
        low, high = coordinate.getRangeMin(), coordinate.getRangeMax()
        if coordinate.getDefaultClamped() and not low <= value <= high:
            raise InvalidInputError(
                what,
                f"initial {coordinate.getName()} is {value:g}, outside its range "
                f"{low:g} to {high:g}, and the model clamps it",
            )
        coordinate.setDefaultValue(float(value))


def _scale(model: Any, what: str, scales: FloatArray) -> None:
    opensim = load_opensim()
    bodies = [body.getName() for body in model.getBodySet()]
    factors = np.asarray(scales, dtype=float)
    if factors.shape != (len(bodies), 3) or not (np.isfinite(factors) & (factors > 0.0)).all():
        reason = f"scales are not ({len(bodies)}, 3) positive numbers (shape {factors.shape})"
        raise InvalidInputError(what, reason)
    scale_set = opensim.ScaleSet()
    for body, row in zip(bodies, factors, strict=True):
        scale = opensim.Scale()
        scale.setSegmentName(body)
        scale.setScaleFactors(opensim.Vec3(*map(float, row)))
        scale.setApply(True)
        scale_set.cloneAndAppend(scale)
    try:
        model.scale(model.initSystem(), scale_set, False, -1.0)
    except RuntimeError as error:
        raise InvalidInputError(what, f"OpenSim cannot scale it ({_first_line(error)})") from error


def _first_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[0]
