"""Marker set and measurements of a data set, from OpenSim users' models and setups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.kinematics.opensim_library import load_model, load_opensim
from d3ke.kinematics.scale_setup import ScaleSetup
from d3ke.osim_file_guard import check_osim_file
from d3ke.skeleton import MeasurementSet


class PlacedMarker(NamedTuple):
    """A marker of a model."""

    body: str
    location: FloatArray
    """[3] m in the body's axes."""
    fixed: bool


Slot = tuple[str, str]
"""A body and one of its axes."""


def model_with_markers(model_file: Path, marker_set_file: Path | None = None) -> Any:
    """An `opensim.Model` with a marker set put on as OpenSim's Scale tool does it: markers of the
    same name are replaced, the model's others stay.

    Raises InvalidInputError: a file is missing or OpenSim cannot read it.
    """
    model = load_model(model_file)
    if marker_set_file is None:
        return model
    if not marker_set_file.is_file():
        raise InvalidInputError(str(marker_set_file), "there is no such marker set file")
    check_osim_file(marker_set_file)
    opensim = load_opensim()
    try:
        model.updateMarkerSet(opensim.MarkerSet(str(marker_set_file)))
        model.finalizeConnections()
    except RuntimeError as error:
        reason = (
            f"OpenSim cannot put it on {model_file.name} ({str(error).strip().splitlines()[0]})"
        )
        raise InvalidInputError(str(marker_set_file), reason) from error
    return model


def markers_of(model: Any) -> dict[str, PlacedMarker]:
    """The markers of an `opensim.Model` that sit on bodies; those on ground are left out."""
    found = {}
    bodies = {body.getName() for body in model.getBodySet()}
    for marker in model.getMarkerSet():
        frame = marker.getParentFrame()
        body = frame.findBaseFrame().getName()
        if body in bodies:
            in_body = frame.findTransformInBaseFrame()
            location = in_body.shiftFrameStationToBase(marker.get_location()).to_numpy()
            found[marker.getName()] = PlacedMarker(body, location, bool(marker.get_fixed()))
    return found


def marker_set_from(
    markers: Mapping[str, PlacedMarker],
    *,
    scaling_weights: Mapping[str, float] | None = None,
    ik_weights: Mapping[str, float] | None = None,
) -> MarkerSet:
    """A marker set with the weights of setups.

    Args:
        markers: by name.
        scaling_weights: of the static pose; others 0. None: 1 for all.
        ik_weights: of inverse kinematics; others 0. None: as in the static pose.

    Raises InvalidInputError: no markers.
    """
    if not markers:
        raise InvalidInputError("marker set", "the model has no markers on its bodies")
    static = scaling_weights or dict.fromkeys(markers, 1.0)
    moving = ik_weights or static
    return MarkerSet(
        names=tuple(markers),
        bodies=tuple(marker.body for marker in markers.values()),
        locations=np.array([marker.location for marker in markers.values()]),
        ik_weights=np.array([float(moving.get(name, 0.0)) for name in markers]),
        scaling_weights=np.array([float(static.get(name, 0.0)) for name in markers]),
        fixed=np.array([marker.fixed for marker in markers.values()]),
    )


def measurements_of_setups(setups: Sequence[ScaleSetup], bodies: Sequence[str]) -> MeasurementSet:
    """Measurements that represent what every one of the setups can do, exactly.

    Body axes that the same measurement, or equal manual factors, govern in all setups share one
    factor. Manual factors make measurements without marker pairs. Bodies that the model lacks are
    left out, as OpenSim does.
    """
    governed = [_governors(setup, bodies) for setup in setups]
    groups: dict[tuple[str, ...], list[Slot]] = {}
    for body in bodies:
        for axis in "xyz":
            key = tuple(sources.get((body, axis), "") for sources in governed)
            if any(key):
                groups.setdefault(key, []).append((body, axis))
    order = {name: row for row, name in enumerate(_names(setups))}
    ranked = sorted(groups.items(), key=lambda item: order.get(_title(item[0]), len(order)))
    pairs = {m.name: m.marker_pairs for s in reversed(setups) for m in s.scaler.measurements}
    marker_pairs: dict[str, tuple[tuple[str, str], ...]] = {}
    body_axes: dict[str, tuple[tuple[str, str], ...]] = {}
    for key, slots in ranked:
        name = _unused(_title(key) or f"manual_{slots[0][0]}", slots, marker_pairs)
        marker_pairs[name] = pairs.get(_title(key), ())
        body_axes[name] = _by_body(slots)
    return MeasurementSet(marker_pairs=marker_pairs, body_axes=body_axes)


def _governors(setup: ScaleSetup, bodies: Sequence[str]) -> dict[Slot, str]:
    """What scales each body axis: "measurement:name" or "manual:factor"; the last one wins."""
    scaler = setup.scaler
    found: dict[Slot, str] = {}
    for way in scaler.order if scaler.apply else ():
        if way == "measurements":
            for measurement in scaler.measurements:
                for body, axes in measurement.body_axes:
                    found |= {(body, axis): f"measurement:{measurement.name}" for axis in axes}
        else:
            for manual in scaler.manual_scales:
                for axis, factor in zip("xyz", manual.factors, strict=True):
                    found[manual.body, axis] = f"manual:{factor!r}"
    return {slot: source for slot, source in found.items() if slot[0] in bodies}


def _names(setups: Sequence[ScaleSetup]) -> list[str]:
    return list(dict.fromkeys(m.name for s in setups for m in s.scaler.measurements))


def _title(key: tuple[str, ...]) -> str:
    """The measurement's name, if a measurement governs the slots in one of the setups."""
    named = [source.partition(":")[2] for source in key if source.startswith("measurement:")]
    return named[0] if named else ""


def _unused(name: str, slots: Sequence[Slot], taken: Mapping[str, object]) -> str:
    """The name, lengthened by its first body axis while another group has it."""
    body, axis = slots[0]
    longer = name if body in name else f"{name}_{body}"
    for candidate in (name, longer, f"{longer}_{axis}"):
        if candidate not in taken:
            return candidate
    return f"{name}_{len(taken)}"


def _by_body(slots: Sequence[Slot]) -> tuple[tuple[str, str], ...]:
    axes: dict[str, str] = {}
    for body, axis in slots:
        axes[body] = axes.get(body, "") + axis
    return tuple(axes.items())


def measurements_of_bodies(bodies: Sequence[str]) -> MeasurementSet:
    """One factor per body, shared by left and right, without marker pairs: to be estimated."""
    groups: dict[str, list[str]] = {}
    for body in bodies:
        groups.setdefault(_without_side(body, bodies), []).append(body)
    return MeasurementSet(
        marker_pairs=dict.fromkeys(groups, ()),
        body_axes={name: tuple((b, "xyz") for b in group) for name, group in groups.items()},
    )


def measurements_of_scales(scales: Sequence[FloatArray], bodies: Sequence[str]) -> MeasurementSet:
    """Measurements without marker pairs that represent models scaled before, [N, 3] each.

    Axes of a body, and of its other side, that every model scales alike (to 0.1 %) share a factor.
    """
    groups: dict[tuple[object, ...], list[Slot]] = {}
    for row, body in enumerate(bodies):
        for axis in range(3):
            values = tuple(round(float(one[row, axis]), 3) for one in scales)
            key = (_without_side(body, bodies), *values)
            groups.setdefault(key, []).append((body, "xyz"[axis]))
    body_axes: dict[str, tuple[tuple[str, str], ...]] = {}
    for key, slots in groups.items():
        body_axes[_unused(str(key[0]), slots, body_axes)] = _by_body(slots)
    return MeasurementSet(marker_pairs=dict.fromkeys(body_axes, ()), body_axes=body_axes)


def measurements_of_axes(bodies: Sequence[str]) -> MeasurementSet:
    """One factor per body axis, without marker pairs: represents any scaling."""
    body_axes = {f"{body}_{axis}": ((body, axis),) for body in bodies for axis in "xyz"}
    return MeasurementSet(marker_pairs=dict.fromkeys(body_axes, ()), body_axes=body_axes)


def _without_side(body: str, bodies: Sequence[str]) -> str:
    """femur_r and femur_l are both femur, where both exist."""
    for right, left in (("_r", "_l"), ("_R", "_L"), ("_right", "_left"), ("r_", "l_")):
        for own, other in ((right, left), (left, right)):
            if own.endswith("_") and body.startswith(own) and other + body[2:] in bodies:
                return body[2:]
            if body.endswith(own) and body.removesuffix(own) + other in bodies:
                return body.removesuffix(own)
    return body
