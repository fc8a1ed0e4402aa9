"""Checks against OpenSim itself: the skeletal-model layer, and the files that scoring exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke.kinematics.opensim_library import load_model, load_opensim
from d3ke.skeleton import SkeletalModelLayer, Skeleton
from d3ke_platform.schema import RESULTS
from d3ke_platform.storage import read_table


class PosedModel(NamedTuple):
    """Positions in ground [m], in the skeleton's order."""

    joint_centers: FloatArray
    markers: FloatArray
    body_positions: FloatArray


class OpenSimModel:
    """An .osim file, scaled if asked to, that is posed by named coordinate values."""

    def __init__(
        self, path: str | Path, *, body_scales: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        """`body_scales`: factors along the axes of bodies, on the model as loaded."""
        self._opensim = load_opensim()
        self._model = load_model(path)
        self._state = self._model.initSystem()
        if body_scales:
            self._scale(body_scales)
        self._couplers = list(_couplers(self._opensim, self._model))
        for coordinate in self._model.getCoordinateSet():
            # A locked or clamped coordinate would silently keep another value than it is given.
            coordinate.setLocked(self._state, False)
            coordinate.setClamped(self._state, False)

    def pose(self, coordinates: Mapping[str, float]) -> None:
        """Put the model into a pose [rad, m].

        Dependent coordinates of enforced couplers get what OpenSim's coupler function gives for
        their driver, whatever `coordinates` says.
        """
        values = dict(coordinates)
        for dependent, drivers, function, factor in self._couplers:
            arguments = self._opensim.Vector(len(drivers), 0.0)
            for index, driver in enumerate(drivers):
                arguments.set(index, values[driver])
            values[dependent] = factor * function.calcValue(arguments)
        known = self._model.getCoordinateSet()
        for name, value in values.items():
            known.get(name).setValue(self._state, float(value), False)
        self._model.realizePosition(self._state)

    def positions(self, skeleton: Skeleton) -> PosedModel:
        """Where joints (origins of child frames), markers and bodies are now."""
        joints, markers = self._model.getJointSet(), self._model.getMarkerSet()
        bodies = self._model.getBodySet()
        return PosedModel(
            joint_centers=self._stack(
                joints.get(name).getChildFrame().getPositionInGround(self._state)
                for name in skeleton.joints
            ),
            markers=self.markers(skeleton.markers, markers),
            body_positions=self._stack(
                bodies.get(name).getPositionInGround(self._state) for name in skeleton.bodies
            ),
        )

    def markers(self, names: Sequence[str], markers: Any = None) -> FloatArray:
        """[M,3] positions of named markers now."""
        markers = markers or self._model.getMarkerSet()
        return self._stack(markers.get(name).getLocationInGround(self._state) for name in names)

    def _stack(self, vectors: Any) -> FloatArray:
        return np.array([vector.to_numpy() for vector in vectors]).reshape(-1, 3)

    def _scale(self, body_scales: Mapping[str, Sequence[float]]) -> None:
        scales = self._opensim.ScaleSet()
        for body, factors in body_scales.items():
            scale = self._opensim.Scale()
            scale.setSegmentName(body)
            scale.setScaleFactors(self._opensim.Vec3(*map(float, factors)))
            scale.setApply(True)
            scales.cloneAndAppend(scale)
        self._model.scale(self._state, scales, False, -1.0)
        self._state = self._model.initSystem()


def layer_error_m(
    model_path: str | Path, skeleton: Skeleton, *, poses: int = 20, scaled: bool, seed: int = 0
) -> float:
    """Largest distance between the layer's and OpenSim's joint centres, markers and body origins.

    Over `poses` random poses, uniform over the coordinates' ranges (translations within 1 m, the
    root within a turn); `scaled` also draws factors 0.7 to 1.4 for every body axis. Float64.
    """
    rng = np.random.default_rng(seed)
    low, high = skeleton.coordinate_ranges.T
    turns = np.where(skeleton.coordinate_rotational, np.pi, 1.0)
    low, high = np.clip(low, -turns, turns), np.clip(high, -turns, turns)
    factors = rng.uniform(0.7, 1.4, (len(skeleton.bodies), 3)) if scaled else None
    by_body = None if factors is None else dict(zip(skeleton.bodies, factors, strict=True))
    model = OpenSimModel(model_path, body_scales=by_body)
    layer = SkeletalModelLayer(skeleton).double()
    scales = None if factors is None else torch.as_tensor(factors)
    worst = 0.0
    for coordinates in rng.uniform(low, high, (poses, len(low))):
        model.pose(dict(zip(skeleton.coordinates, coordinates, strict=True)))
        expected = model.positions(skeleton)
        pose = layer(torch.as_tensor(coordinates), scales)
        for name in PosedModel._fields:
            difference = getattr(pose, name).numpy() - getattr(expected, name)
            worst = max(worst, float(np.linalg.norm(difference, axis=-1).max()))
    return worst


def export_error_m(
    model_path: str | Path, motion_path: str | Path, results_uri: str, markers: Sequence[str]
) -> float:
    """Largest distance between the markers of the exported model, posed by the exported motion in
    OpenSim, and the markers in the results.

    `markers` names the marker axis of the results. Raises InvalidInputError when the number of
    rows differs.
    """
    names = ["frame", "person", "markers"]
    results = RESULTS.to_numpy(read_table(results_uri, names), names)
    chosen = results["person"] == results["person"].min(initial=0)
    expected = results["markers"][chosen][np.argsort(results["frame"][chosen], kind="stable")]
    coordinates, values = _read_motion(motion_path)
    if len(values) != len(expected):
        raise InvalidInputError(
            str(motion_path), f"has {len(values)} rows, the results have {len(expected)}"
        )
    model = OpenSimModel(model_path)
    worst = 0.0
    for row, wanted in zip(values, expected, strict=True):
        model.pose(dict(zip(coordinates, row, strict=True)))
        worst = max(worst, float(np.linalg.norm(model.markers(markers) - wanted, axis=-1).max()))
    return worst


def _read_motion(path: str | Path) -> tuple[list[str], FloatArray]:
    """Coordinate names and values [T,C] in radians and metres, read by OpenSim."""
    opensim = load_opensim()
    table = opensim.TimeSeriesTable(str(path))
    names = list(table.getColumnLabels())
    values = np.array(table.getMatrix().to_numpy())
    if table.getTableMetaDataString("inDegrees") == "yes":
        angle = np.array([not name.endswith(("_tx", "_ty", "_tz")) for name in names])
        values[:, angle] = np.radians(values[:, angle])
    return names, values


def _couplers(opensim: Any, model: Any) -> Any:
    """Enforced couplers: (dependent, its drivers, function, factor)."""
    constraints = model.getConstraintSet()
    for index in range(constraints.getSize()):
        coupler = opensim.CoordinateCouplerConstraint.safeDownCast(constraints.get(index))
        if coupler is not None and coupler.get_isEnforced():
            names = coupler.getIndependentCoordinateNames()
            drivers = [names.get(i) for i in range(names.getSize())]
            dependent = coupler.getDependentCoordinateName()
            scale_factor = coupler.getPropertyByName("scale_factor")
            factor = opensim.PropertyHelper.getValueDouble(scale_factor)
            yield dependent, drivers, coupler.getFunction(), factor
