"""OpenSim's Scale tool, run on files in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import KinematicsError
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.opensim_library import load_opensim
from d3ke.kinematics.trc import MarkerTrajectories, write_trc

if TYPE_CHECKING:
    from d3ke.skeleton import MeasurementSet

# The tool puts its setup file's folder in front of every name, absolute ones too.
_GENERIC, _STATIC, _SETUP = "generic.osim", "static.trc", "setup.xml"
_SCALED, _PLACED, _SCALES = "scaled.osim", "placed.osim", "scales.xml"


def run_scale_tool(
    folder: Path,
    *,
    generic: Any,
    marker_set: MarkerSet,
    measurements: MeasurementSet,
    static: MarkerTrajectories,
    mass_kg: float,
    place_markers: bool,
) -> tuple[Path, dict[str, FloatArray]]:
    """Runs the tool; `folder` then also holds its setup file.

    Args:
        folder: an empty folder.
        generic: `opensim.Model` with the markers, locks and couplers of scaling.
        marker_set: weights of the static pose.
        measurements: marker pairs and body axes.
        static: the static trial near the model's default pose, without gaps.
        mass_kg: body mass.
        place_markers: whether the marker placer runs.

    Returns:
        The scaled model's path, and body -> scale [3] relative to `generic`.

    Raises:
        KinematicsError: the tool wrote no model or no scales.
    """
    opensim = load_opensim()
    generic.printToXML(str(folder / _GENERIC))
    write_trc(folder / _STATIC, static)
    tool = opensim.ScaleTool()
    tool.setName("subject")
    tool.setSubjectMass(float(mass_kg))
    tool.getGenericModelMaker().setModelFileName(_GENERIC)
    window = opensim.ArrayDouble()
    window.append(float(static.times[0]))
    window.append(float(static.times[-1]))
    _set_scaler(tool.getModelScaler(), measurements, window)
    _set_placer(tool.getMarkerPlacer(), marker_set, static, window, place_markers)
    tool.printToXML(str(folder / _SETUP))
    try:
        # run() also returns False when only the marker placer was skipped: its files tell.
        opensim.ScaleTool(str(folder / _SETUP)).run()
    except RuntimeError as error:
        raise KinematicsError("Scale tool", str(error).strip().splitlines()[0]) from error
    model = folder / (_PLACED if place_markers else _SCALED)
    if not (model.is_file() and (folder / _SCALES).is_file()):
        raise KinematicsError("Scale tool", f"wrote no {model.name}")
    return model, read_scales(folder / _SCALES)


def _set_scaler(scaler: Any, measurements: MeasurementSet, window: Any) -> None:
    opensim = load_opensim()
    scaler.setApply(True)
    order = opensim.ArrayStr()
    order.append("measurements")
    scaler.setScalingOrder(order)
    scaler.setMarkerFileName(_STATIC)
    scaler.setTimeRange(window)
    scaler.setPreserveMassDist(True)
    scaler.setOutputModelFileName(_SCALED)
    scaler.setOutputScaleFileName(_SCALES)
    for name, pairs in measurements.marker_pairs.items():
        scaler.addMeasurement(_measurement(name, pairs, measurements.body_axes[name]))


def _measurement(
    name: str, pairs: tuple[tuple[str, str], ...], body_axes: tuple[tuple[str, str], ...]
) -> Any:
    opensim = load_opensim()
    measurement = opensim.Measurement()
    measurement.setName(name)
    measurement.setApply(True)
    for first, second in pairs:
        measurement.getMarkerPairSet().cloneAndAppend(opensim.MarkerPair(first, second))
    for body, axes in body_axes:
        scale = opensim.BodyScale()
        scale.setName(body)
        names = opensim.ArrayStr()
        for axis in axes:
            names.append(axis.upper())
        scale.setAxisNames(names)
        measurement.getBodyScaleSet().cloneAndAppend(scale)
    return measurement


def _set_placer(
    placer: Any, marker_set: MarkerSet, static: MarkerTrajectories, window: Any, apply: bool
) -> None:
    opensim = load_opensim()
    placer.setApply(apply)
    placer.setStaticPoseFileName(_STATIC)
    placer.setTimeRange(window)
    placer.setOutputModelFileName(_PLACED)
    placer.setMaxMarkerMovement(-1.0)
    for name, weight in zip(marker_set.names, marker_set.scaling_weights, strict=True):
        if name not in static.names:
            continue
        task = opensim.IKMarkerTask()
        task.setName(name)
        task.setApply(bool(weight > 0.0))
        task.setWeight(float(weight))
        placer.getIKTaskSet().cloneAndAppend(task)


def read_scales(path: Path) -> dict[str, FloatArray]:
    """Segment -> factors [3] of a <ScaleSet> file."""
    opensim = load_opensim()
    scale_set = opensim.ScaleSet(str(path))
    scales = {}
    for index in range(scale_set.getSize()):
        scale = scale_set.get(index)
        factors = scale.getScaleFactors()
        scales[scale.getSegmentName()] = np.array([factors.get(axis) for axis in range(3)])
    return scales
