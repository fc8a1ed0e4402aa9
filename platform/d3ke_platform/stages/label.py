"""Stages: subjects to scaled OpenSim models, trials to labels.

OpenSim runs in a child process of the worker: a crash or a solver that hangs costs one item.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.isolation import Isolated
from d3ke_platform.schema import LABELS, SUBJECT_LABELS

if TYPE_CHECKING:
    from d3ke.arrays import FloatArray
    from d3ke.kinematics import CoordinateTask, IKResult, MarkerTrajectories, ScaledSubject


class ScaleSubject:
    """Scales the model to a subject's static trial; writes the model and SUBJECT_LABELS."""

    name = "scale"

    def __init__(self, root: str, *, place_markers: bool = True, timeout_s: float = 3600.0) -> None:
        self._data = DataSet.open(root)
        self._place_markers = place_markers
        self._opensim = Isolated(partial(_Scaling, root), timeout_s=timeout_s)

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: a row of SUBJECTS; returns the subject, its static marker RMS and seconds.

        Raises KinematicsError or InvalidInputError (naming the marker or file),
        ChildCrashedError, ChildTimeoutError.
        """
        began = time.perf_counter()
        subject = item["subject"]
        scaled = self._opensim.call("scale", item, place_markers=self._place_markers)
        bodies = self._data.skeleton().bodies
        if scaled.body_names != bodies:
            reason = f"bodies {scaled.body_names} differ from {bodies}"
            raise InvalidInputError(f"scaled model of {subject}", reason)
        row = {
            "subject": subject,
            "model_uri": f"subjects/{subject}.osim",
            "measurement_factors": scaled.measurement_factors,
            "body_scales": scaled.body_scales,
            "static_marker_rms_m": scaled.static_marker_rms_m,
        }
        table = SUBJECT_LABELS.from_rows([row], self._data.dims())
        storage.write_table(self._data.subject_label_uri(subject), table)
        seconds = time.perf_counter() - began
        return [{"subject": subject, "rms_m": scaled.static_marker_rms_m, "seconds": seconds}]


class LabelTrial:
    """Inverse kinematics of a trial; writes its LABELS."""

    name = "label"

    def __init__(
        self,
        root: str,
        *,
        solver: str = "batched",
        accuracy: float = 1e-5,
        regularization: float = 1e-6,
        smoothness: float = 0.0,
        marker_threshold_m: float = 0.02,
        timeout_s: float = 3600.0,
    ) -> None:
        from d3ke.skeleton import SkeletalModelLayer

        self._data = DataSet.open(root)
        self._skeleton = self._data.skeleton()
        self._marker_set = self._data.marker_set()
        self._layer = SkeletalModelLayer(self._skeleton)
        self._threshold_m = marker_threshold_m
        self._opensim = Isolated(
            partial(_InverseKinematics, root, solver, accuracy, regularization, smoothness),
            timeout_s=timeout_s,
        )

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: trial_id, subject, markers_uri, ik_setup_uri; returns trial_id, frames, seconds.

        Raises KinematicsError or InvalidInputError (naming the marker or file),
        ChildCrashedError, ChildTimeoutError.
        """
        began = time.perf_counter()
        subject = self._subject(item["subject"])
        measured, result = self._opensim.call("solve", subject["model_uri"], item)
        columns = self._columns(item, subject, measured, result)
        table = LABELS.to_arrow(columns, self._data.dims())
        storage.write_table(self._data.label_uri(item["trial_id"]), table)
        seconds = time.perf_counter() - began
        frames = len(measured.times)
        return [{"trial_id": item["trial_id"], "frames": frames, "seconds": seconds}]

    def _subject(self, subject: str) -> dict[str, Any]:
        return SUBJECT_LABELS.to_rows(storage.read_table(self._data.subject_label_uri(subject)))[0]

    def _columns(
        self,
        item: dict[str, Any],
        subject: dict[str, Any],
        measured: MarkerTrajectories,
        result: IKResult,
    ) -> dict[str, Any]:
        """Columns of LABELS; markers and coordinates in the skeleton's order."""
        from d3ke.kinematics.masks import coordinate_mask, marker_mask

        count = len(measured.times)
        order = [result.coordinate_names.index(name) for name in self._skeleton.coordinates]
        coordinates = result.coordinates[:, order]
        pose = self._pose(coordinates, subject["body_scales"])
        masks = (self._skeleton, self._marker_set, self._threshold_m)
        usable = (result.solved & result.converged)[:, None]
        of_markers = marker_mask(result, self._marker_set, self._threshold_m) & usable
        return {
            "trial_id": [item["trial_id"]] * count,
            "subject": [item["subject"]] * count,
            "frame": np.arange(count),
            "time_s": measured.times,
            "coordinates": coordinates,
            "measurement_factors": np.tile(subject["measurement_factors"], (count, 1)),
            "body_scales": np.tile(subject["body_scales"], (count, 1, 1)),
            "markers_measured": self._by_skeleton(measured.positions, measured.names, np.nan),
            "markers_model": self._by_skeleton(
                result.marker_positions, result.marker_names, np.nan
            ),
            "marker_error_m": self._by_skeleton(result.marker_error, result.marker_names, np.nan),
            "coordinate_mask": coordinate_mask(result, *masks) & usable,
            "marker_mask": self._by_skeleton(of_markers, result.marker_names, False),
            "converged": result.converged,
            **pose,
        }

    def _pose(self, coordinates: FloatArray, body_scales: FloatArray) -> dict[str, FloatArray]:
        """Root pose and joint centres in ground, from the skeletal-model layer at the labels."""
        import torch

        with torch.no_grad():
            pose = self._layer(torch.tensor(coordinates), torch.tensor(body_scales))
        root = int(self._skeleton.joint_children[self._skeleton.root_joint])
        return {
            "root_rotation": pose.body_rotations[:, root].numpy(),
            "root_position": pose.body_positions[:, root].numpy(),
            "joint_centers": pose.joint_centers.numpy(),
        }

    def _by_skeleton(
        self, values: np.ndarray, names: tuple[str, ...], missing: float | bool
    ) -> np.ndarray:
        """Markers [T, M', ...] in the skeleton's order [T, M, ...]."""
        shape = (len(values), len(self._skeleton.markers), *values.shape[2:])
        ordered = np.full(shape, missing, values.dtype)
        for column, name in enumerate(self._skeleton.markers):
            if name in names:
                ordered[:, column] = values[:, names.index(name)]
        return ordered


class _Scaling:
    """OpenSim's scaling, in the child process."""

    def __init__(self, root: str) -> None:
        self._data = DataSet.open(root)
        self._marker_set = self._data.marker_set()
        self._measurements = self._data.measurements()
        self._settings = self._data.scaling()

    def scale(self, row: dict[str, Any], *, place_markers: bool) -> ScaledSubject:
        """By the subject's own model or setup, else by the data set's measurements: between
        markers, or (where they have no marker pairs) estimated from the whole static pose."""
        if row["scaled_model_uri"]:
            return self._adopted(row)
        if row["scale_setup_uri"]:
            return self._by_setup(row)
        from d3ke.kinematics.scaling import scale_subject
        from d3ke.kinematics.subject_model import scale_by_estimate

        common: dict[str, Any] = {
            "model_path": self._data.model_osim,
            "static": self._static(row),
            "output_path": self._output(row),
            "marker_set": self._marker_set,
            "measurements": self._measurements,
            "place_markers": place_markers,
            "mass_kg": row["mass_kg"],
        }
        if self._measurements.measured:
            return scale_subject(settings=self._settings, **common)
        return scale_by_estimate(skeleton=self._data.skeleton(), **common)

    def _adopted(self, row: dict[str, Any]) -> ScaledSubject:
        from d3ke.kinematics.subject_model import adopt_model

        return adopt_model(
            scaled_path=_existing(self._data, row["scaled_model_uri"]),
            generic_path=self._data.model_osim,
            skeleton=self._data.skeleton(),
            marker_set=self._marker_set,
            measurements=self._measurements,
            static=self._static(row) if row["static_uri"] else None,
            output_path=self._output(row),
        )

    def _by_setup(self, row: dict[str, Any]) -> ScaledSubject:
        from d3ke.kinematics import read_trc
        from d3ke.kinematics.scale_by_setup import scale_by_setup
        from d3ke.kinematics.scale_setup import read_scale_setup

        static = self._data.resolve(row["static_uri"])
        setup = read_scale_setup(_existing(self._data, row["scale_setup_uri"]))
        other = setup.scaler.marker_file
        own = setup.scaler.measures and other is not None and other.name != static.name
        return scale_by_setup(
            setup,
            static=self._static(row),
            measured=read_trc(other) if own and other is not None else None,
            skeleton=self._data.skeleton(),
            marker_set=self._marker_set,
            measurements=self._measurements,
            output_path=self._output(row),
        )

    def _static(self, row: dict[str, Any]) -> MarkerTrajectories:
        from d3ke.kinematics import read_trc

        what = f"static trial of subject {row['subject']}"
        if not row["static_uri"]:
            raise InvalidInputError(what, "there is none, and the subject has no model of its own")
        path = self._data.resolve(row["static_uri"])
        if not path.is_file():
            raise InvalidInputError(what, "it could not be made", f"See rejects/make. ({path})")
        return read_trc(path)

    def _output(self, row: dict[str, Any]) -> Path:
        return self._data.resolve(f"subjects/{row['subject']}.osim")


class _InverseKinematics:
    """Inverse kinematics on OpenSim model files, in the child process."""

    def __init__(
        self, root: str, solver: str, accuracy: float, regularization: float, smoothness: float
    ) -> None:
        self._data = DataSet.open(root)
        self._skeleton = self._data.skeleton()
        self._marker_set = self._data.marker_set()
        self._solver = solver
        self._accuracy = accuracy
        self._regularization = regularization
        self._smoothness = smoothness

    def solve(self, model_uri: str, trial: dict[str, Any]) -> tuple[MarkerTrajectories, IKResult]:
        """Measured markers and the solution, both with the marker set's names."""
        from d3ke.kinematics import inverse_kinematics, read_trc
        from d3ke.kinematics.solve_ik import REGULARIZATION

        trajectories = read_trc(_existing(self._data, trial["markers_uri"]))
        weights, tasks = self._tasks(trial["ik_setup_uri"], trajectories.times)
        result = inverse_kinematics(
            model_path=self._data.resolve(model_uri),
            trajectories=trajectories,
            weights=weights,
            coordinate_tasks=tasks,
            solver=self._solver,
            accuracy=self._accuracy,
            # A user's own setup asks for what OpenSim finds, as closely as may be; others are
            # pulled for smooth angles.
            regularization=REGULARIZATION if trial["ik_setup_uri"] else self._regularization,
            unbiased=bool(trial["ik_setup_uri"]),
            smoothness=self._smoothness,
        )
        return trajectories.reordered(result.marker_names), result

    def _tasks(
        self, setup_uri: str, times: FloatArray
    ) -> tuple[dict[str, float], tuple[CoordinateTask, ...]]:
        """Marker weights and coordinate tasks: the trial's own setup's, or the marker set's."""
        from d3ke.kinematics import read_ik_setup

        names = self._marker_set.names
        if not setup_uri:
            return dict(zip(names, map(float, self._marker_set.ik_weights), strict=True)), ()
        skeleton = self._skeleton
        lengths = [
            name
            for name, turns in zip(
                skeleton.coordinates, skeleton.coordinate_rotational, strict=True
            )
            if not turns
        ]
        setup = read_ik_setup(_existing(self._data, setup_uri), translational=lengths)
        weights = dict(zip(names, map(float, setup.weights(names)), strict=True))
        return weights, setup.at(times)


def _existing(data: DataSet, uri: str) -> Any:
    path = data.resolve(uri)
    if not path.is_file():
        raise InvalidInputError(str(path), "there is no such file")
    return path
