"""Finds where markers sit on a model from people measured in the model's default pose.

A marker set is made for one kind of body: an epicondyle marker on a mesh is not where the model's
author put it. Fitting offsets from moving trials lets them drift with the joint angles (a bent
knee and a shifted marker look alike). Here the pose is known instead: the person stands as the
model does by default, so what is left between model and measurement is the markers' own offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.opensim_library import load_model, load_opensim
from d3ke.kinematics.rigid_fit import fit_rigid
from d3ke.kinematics.scaling import default_marker_positions, measurement_factors
from d3ke.kinematics.trc import MarkerTrajectories

if TYPE_CHECKING:
    from d3ke.skeleton import MeasurementSet

_CONVERGED_M = 2e-4
_MAX_ROUNDS = 100


def register_markers(
    *,
    model_path: str | Path,
    marker_set: MarkerSet,
    measurements: MeasurementSet,
    statics: Sequence[MarkerTrajectories],
    joint_centers: Mapping[str, str],
    fit_weights: Mapping[str, float],
) -> MarkerSet:
    """Moves the markers of a set to where people carry them on the model.

    Every round scales the model to each person, lays the measured markers rigidly on its default
    pose and takes the mean of their places on the unscaled bodies, left and right mirrored.
    Rounds end when no marker moves by more than 0.2 mm.

    Args:
        model_path: the generic model.
        marker_set: where to start; also says which markers are computed from others.
        measurements: must measure limbs between joint centres, because the first round's surface
            markers are the ones that are wrong.
        statics: one trial a person in the model's default pose, all markers measured.
        joint_centers: marker -> joint whose centre it marks; it is put there and stays.
        fit_weights: marker -> weight in the rigid fit; others 0.

    Raises:
        InvalidInputError: the rounds do not settle.
        KinematicsError: a measurement lacks a marker.
    """
    current = replace(
        marker_set, locations=_with_joint_centers(model_path, marker_set, joint_centers)
    )
    moving = np.array([name not in joint_centers for name in current.names])
    weights = np.array([fit_weights.get(name, 0.0) for name in current.names])
    for _ in range(_MAX_ROUNDS):
        places = [_places(model_path, current, measurements, static, weights) for static in statics]
        found = mirrored_mean(current.names, np.mean(places, axis=0))
        locations = np.where(moving[:, None], found, current.locations)
        step = float(np.abs(locations - current.locations).max())
        current = replace(current, locations=locations)
        if __import__('os').environ.get('DBG'): d=np.abs(locations-0).max(); print(step, [(n,round(x*1e3,1)) for n,x in sorted(zip(current.names,np.linalg.norm(locations-prev,axis=1)),key=lambda x:-x[1])[:6]] if (prev:=globals().get('_P')) is not None else ''); globals()['_P']=locations
        if step < _CONVERGED_M:
            return current
    raise InvalidInputError(
        "marker registration", f"markers still move {step * 1e3:.1f} mm after {_MAX_ROUNDS} rounds"
    )


def mirror_name(name: str) -> str:
    """The marker on the other side of the body, by the naming rule of the reference's set."""
    for prefix in ("Virtual_Ground_", "Virtual_", ""):
        if name.startswith(prefix):
            side, rest = name[len(prefix) : len(prefix) + 1], name[len(prefix) + 1 :]
            return prefix + {"R": "L", "L": "R"}.get(side, side) + rest
    return name


def mirrored_mean(names: Sequence[str], locations: FloatArray) -> FloatArray:
    """[M, 3] m, each the mean of a marker and its mirror image (z turned), so that sides agree.

    Markers without a partner lie in the mid-plane afterwards.
    """
    partners = [
        names.index(mirror) if (mirror := mirror_name(name)) in names else index
        for index, name in enumerate(names)
    ]
    return (locations + locations[partners] * [1.0, 1.0, -1.0]) / 2.0


def _with_joint_centers(
    model_path: str | Path, marker_set: MarkerSet, joint_centers: Mapping[str, str]
) -> FloatArray:
    model = load_model(model_path)
    state = model.initSystem()
    model.realizePosition(state)
    locations = marker_set.locations.copy()
    for marker, joint in joint_centers.items():
        frame = model.getJointSet().get(joint).getParentFrame()
        body = model.getBodySet().get(marker_set.bodies[marker_set.index(marker)])
        origin = load_opensim().Vec3(0.0)
        place = frame.findStationLocationInAnotherFrame(state, origin, body)
        locations[marker_set.index(marker)] = place.to_numpy()
    return locations


def _places(
    model_path: str | Path,
    marker_set: MarkerSet,
    measurements: MeasurementSet,
    static: MarkerTrajectories,
    weights: FloatArray,
) -> FloatArray:
    """Where one person's markers lie on the unscaled bodies, [M, 3] m."""
    model = load_model(model_path)
    marker_set.put_on(model)
    measured = static.reordered(marker_set.names)
    at_default = default_marker_positions(model, marker_set.names)
    factors = measurement_factors(measurements, marker_set.names, measured, at_default)
    scales = _body_scales(measurements, factors)
    state = _scale(model, scales)
    markers = [model.getMarkerSet().get(name) for name in marker_set.names]
    on_model = np.array([marker.getLocationInGround(state).to_numpy() for marker in markers])
    points = measured.positions.mean(axis=0)
    rotation, shift = fit_rigid(points, on_model, weights)
    laid = points @ rotation.T + shift
    places = [
        _in_body(model, state, body, point) / scales.get(body, np.ones(3))
        for body, point in zip(marker_set.bodies, laid, strict=True)
    ]
    return np.array(places)


def _body_scales(measurements: MeasurementSet, factors: FloatArray) -> dict[str, FloatArray]:
    """Body -> scale [3]; a later measurement overrides an earlier one."""
    scales: dict[str, FloatArray] = {}
    for factor, body_axes in zip(factors, measurements.body_axes.values(), strict=True):
        for body, axes in body_axes:
            for axis in axes:
                scales.setdefault(body, np.ones(3))["xyz".index(axis)] = factor
    return scales


def _scale(model: Any, scales: Mapping[str, FloatArray]) -> Any:
    """Scales a model in place; its state in the default pose."""
    opensim = load_opensim()
    scale_set = opensim.ScaleSet()
    for body, factors in scales.items():
        scale = opensim.Scale()
        scale.setSegmentName(body)
        scale.setScaleFactors(opensim.Vec3(*map(float, factors)))
        scale.setApply(True)
        scale_set.cloneAndAppend(scale)
    model.scale(model.initSystem(), scale_set, False, -1.0)
    state = model.initSystem()
    model.realizePosition(state)
    return state


def _in_body(model: Any, state: Any, body: str, point: FloatArray) -> FloatArray:
    station = load_opensim().Vec3(*map(float, point))
    frame = model.getBodySet().get(body)
    return model.getGround().findStationLocationInAnotherFrame(state, station, frame).to_numpy()
