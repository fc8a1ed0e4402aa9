"""What inverse kinematics shall follow: OpenSim's setup files, read without OpenSim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.interpolate import make_interp_spline

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics.mot import Motion, read_mot
from d3ke.kinematics.setup_xml import (
    content_of,
    flag,
    named_file,
    number,
    objects_of,
    pair,
    parsed,
    read_xml,
)
from d3ke.safe_xml import Element

VALUE_TYPES = ("default_value", "manual_value", "from_file")
"""Where a coordinate task's value comes from."""
_SPLINE_DEGREE = 5
_SPLINE_POINTS = 6
_FLAT_ENDS = [(3, 0.0), (4, 0.0)]
"""The end condition of the quintic spline through a coordinate file's rows in OpenSim."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CoordinateTask:
    """A coordinate that inverse kinematics shall keep near a value.

    It adds weight * (coordinate - value)^2 to the weighted mean of the squared marker distances.
    """

    name: str
    """Coordinate of the model."""
    weight: float
    """m^2 per rad^2 (an angle) or per m^2 (a length); 0 = no effect."""
    value: float | FloatArray | None
    """rad or m, one or [T]; None = the model's default value."""

    def __post_init__(self) -> None:
        what = f"coordinate task {self.name!r}"
        if not (np.isfinite(self.weight) and self.weight >= 0.0):
            raise InvalidInputError(what, f"its weight {self.weight} is not a number of 0 or more")
        if self.value is None:
            return
        values = np.asarray(self.value, dtype=float)
        if values.ndim > 1 or not np.isfinite(values).all():
            reason = f"its value has shape {values.shape}, or holds NaN or infinity"
            raise InvalidInputError(what, reason, "Pass one finite number, or one per frame.")


@dataclass(frozen=True, kw_only=True, eq=False)
class IKTasks:
    """The settings of OpenSim's InverseKinematicsTool, or of a bare task set."""

    marker_weights: Mapping[str, float]
    """Weight of each marker that takes part. Empty where the file has no marker tasks: OpenSim's
    tool then weighs all markers of the .trc file 1."""
    coordinate_tasks: tuple[CoordinateTask, ...] = ()
    """Values read from a coordinate file are [R] at `value_times`; see `at`."""
    value_times: FloatArray | None = None
    """[R] s, rows of the coordinate file; None where no task needs it."""
    accuracy: float = 1e-5
    """OpenSim's tolerance, without a unit."""
    constraint_weight: float = np.inf
    """Weight of coordinate couplers; inf = they hold exactly."""
    time_range: tuple[float, float] = (-np.inf, np.inf)
    """First and last time that is solved, s; see `frames`."""
    marker_file: Path | None = None
    """The measured markers (.trc)."""
    model_file: Path | None = None
    """The scaled model (.osim)."""

    def weights(self, marker_names: Sequence[str]) -> FloatArray:
        """Weights of named markers, [M]: 0 without a task, 1 for all if there are no tasks."""
        if not self.marker_weights:
            return np.ones(len(marker_names))
        return np.array([self.marker_weights.get(name, 0.0) for name in marker_names])

    def frames(self, times: FloatArray) -> BoolArray:
        """[T] True for the frames OpenSim's tool solves: from those nearest to `time_range`."""
        first, last = (
            int(np.abs(times - end).argmin())
            for end in np.clip(self.time_range, times[0], times[-1])
        )
        index = np.arange(len(times))
        return np.asarray((index >= first) & (index <= last))

    def at(self, times: FloatArray) -> tuple[CoordinateTask, ...]:
        """The coordinate tasks with values from a file interpolated as OpenSim does.

        Args:
            times: [T] s, within the coordinate file's.

        Raises:
            InvalidInputError: the file does not cover the times.
        """
        return tuple(self._task_at(task, np.asarray(times)) for task in self.coordinate_tasks)

    def _task_at(self, task: CoordinateTask, times: FloatArray) -> CoordinateTask:
        rows = self.value_times
        if rows is None or not isinstance(task.value, np.ndarray):
            return task
        what = f"coordinate task {task.name!r}"
        # Times in files are rounded to microseconds or so.
        slack = 1e-5
        if len(times) and (times.min() < rows[0] - slack or times.max() > rows[-1] + slack):
            raise InvalidInputError(
                what,
                f"the frames span {times.min():g} to {times.max():g} s, "
                f"its coordinate file {rows[0]:g} to {rows[-1]:g} s",
                "Cut the frames or set the value yourself.",
            )
        if len(rows) < _SPLINE_POINTS:
            reason = f"its coordinate file has {len(rows)} rows, interpolation needs at least "
            raise InvalidInputError(what, f"{reason}{_SPLINE_POINTS}")
        spline = make_interp_spline(
            rows, task.value, k=_SPLINE_DEGREE, bc_type=(_FLAT_ENDS, _FLAT_ENDS)
        )
        return replace(task, value=np.asarray(spline(times)))


def read_ik_setup(path: str | Path, *, translational: Sequence[str] | None = None) -> IKTasks:
    """Reads the setup file of OpenSim's InverseKinematicsTool, or a file with an IKTaskSet alone.

    Tasks with `apply` false are left out; what a file omits has OpenSim's default (`apply` true,
    weight 0, `default_value`). File names in it are relative to its folder; they need not exist,
    but for the coordinate file of a task whose value comes `from_file`.

    Args:
        path: the .xml file.
        translational: names of the coordinates that are lengths (see `read_mot`).

    Raises:
        InvalidInputError: the file or its coordinate file cannot be read or is malformed.
        UnknownNameError: a value type, or a coordinate the coordinate file lacks.
    """
    path = Path(path)
    tool, task_set = _tool_and_tasks(path)
    motion = None
    coordinates, markers = applied_tasks(path, task_set, "IKCoordinateTask"), {}
    for element in applied_tasks(path, task_set, "IKMarkerTask"):
        markers[str(element.get("name"))] = task_weight(path, element)
    if any(value_type(path, element) == "from_file" for element in coordinates):
        motion = _motion(path, tool, translational)
    return IKTasks(
        marker_weights=markers,
        coordinate_tasks=tuple(_coordinate_task(path, e, motion) for e in coordinates),
        value_times=None if motion is None else motion.times,
        accuracy=parsed(path, tool, "accuracy", number, 1e-5),
        constraint_weight=parsed(path, tool, "constraint_weight", number, np.inf),
        time_range=parsed(path, tool, "time_range", pair, (-np.inf, np.inf)),
        marker_file=named_file(path, tool, "marker_file"),
        model_file=named_file(path, tool, "model_file"),
    )


def _tool_and_tasks(path: Path) -> tuple[Element | None, Element]:
    """The InverseKinematicsTool element, if there is one, and the IKTaskSet element."""
    top = content_of(read_xml(path))
    if top.tag == "IKTaskSet":
        return None, top
    if top.tag != "InverseKinematicsTool":
        raise InvalidInputError(
            str(path), f"holds <{top.tag}> where <InverseKinematicsTool> or <IKTaskSet> is expected"
        )
    task_set = top.find("IKTaskSet")
    if task_set is None:
        raise InvalidInputError(str(path), "its <InverseKinematicsTool> has no <IKTaskSet>")
    if elsewhere := task_set.get("file"):
        return top, _tool_and_tasks(path.parent / elsewhere)[1]
    return top, task_set


def applied_tasks(path: Path, task_set: Element, kind: str) -> list[Element]:
    """The tasks of a kind that apply; their names are unique."""
    every = objects_of(task_set, kind)
    applied = [e for e in every if parsed(path, e, "apply", flag, True)]
    names = [element.get("name", "") for element in applied]
    if "" in names:
        raise InvalidInputError(str(path), f"one <{kind}> has no name")
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInputError(str(path), f"has two <{kind}> named {', '.join(double)}")
    return applied


def _coordinate_task(path: Path, element: Element, motion: Motion | None) -> CoordinateTask:
    name, kind = str(element.get("name")), value_type(path, element)
    value: float | FloatArray | None = None
    if kind == "manual_value":
        value = parsed(path, element, "value", float, 0.0)
    elif kind == "from_file" and motion is not None:
        if name not in motion.names:
            raise UnknownNameError("coordinate of the coordinate file", name, motion.names)
        value = motion.values[:, motion.names.index(name)]
    return CoordinateTask(name=name, weight=task_weight(path, element), value=value)


def value_type(path: Path, element: Element) -> str:
    """Where a coordinate task's value comes from. Raises UnknownNameError."""
    kind = parsed(path, element, "value_type", str, VALUE_TYPES[0])
    if kind not in VALUE_TYPES:
        raise UnknownNameError(f"value_type of task {element.get('name')!r}", kind, VALUE_TYPES)
    return kind


def task_weight(path: Path, element: Element) -> float:
    """Weight of a task, 0 if it states none. Raises InvalidInputError."""
    weight = parsed(path, element, "weight", float, 0.0)
    if not (np.isfinite(weight) and weight >= 0.0):
        reason = f"<weight> of {element.get('name')!r} is {weight}, which is not 0 or more"
        raise InvalidInputError(str(path), reason)
    return weight


def _motion(path: Path, tool: Element | None, translational: Sequence[str] | None) -> Motion:
    file = None if tool is None else named_file(path, tool, "coordinate_file")
    if file is None:
        raise InvalidInputError(
            str(path),
            "a coordinate task takes its value from_file, but no <coordinate_file> is named",
            "Name one, or use manual_value or default_value.",
        )
    return read_mot(file, translational=translational)
