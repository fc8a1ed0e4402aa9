"""A subject's model from a static trial, with OpenSim's Scale tool."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError, KinematicsError
from d3ke.kinematics.ik_result import IKResult
from d3ke.kinematics.inverse_kinematics import inverse_kinematics
from d3ke.kinematics.marker_set import MarkerSet, add_marker
from d3ke.kinematics.opensim_library import load_model
from d3ke.kinematics.rigid_fit import fit_rigid
from d3ke.kinematics.scale_tool import run_scale_tool
from d3ke.kinematics.trc import MarkerTrajectories

if TYPE_CHECKING:
    from d3ke.skeleton import MeasurementSet

_WINDOW_S = 0.5
"""The part of the static trial that is averaged, from its start."""
PLAUSIBLE_FACTORS = (0.3, 3.0)


@dataclass(frozen=True, kw_only=True)
class ScalingSettings:
    """What is held still while and after a subject is scaled; names a model lacks are ignored."""

    locked_while_scaling: tuple[str, ...] = ("elbow_y", "elbow_y_l")
    """Coordinates that the static pose may not use, beside those the model locks itself."""
    locked_after_scaling: tuple[str, ...] = ("ribs_bending", "elbow_y", "elbow_y_l")
    """Coordinates locked at their static value in the scaled model; all others are unlocked."""
    released_couplers: tuple[str, ...] = (
        "sternoclavicular_r2_con",
        "sternoclavicular_r3_con",
        "acromioclavicular_r2_con",
        "sternoclavicular_r2_con_l",
        "sternoclavicular_r3_con_l",
        "acromioclavicular_r2_con_l",
    )
    """Couplers enforced while scaling and released in the scaled model: the shoulder girdle follows
    its markers."""

    @classmethod
    def load(cls, path: str | Path) -> ScalingSettings:
        """Reads a JSON object of the fields. Raises InvalidInputError."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{name: tuple(values) for name, values in content.items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InvalidInputError(str(path), f"are not scaling settings ({error})") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class ScaledSubject:
    """A scaled model and how it was scaled."""

    model_path: Path
    """The scaled model."""
    measurement_factors: FloatArray
    """[S] relative to the model as loaded."""
    body_scales: FloatArray
    """[N, 3] relative to the model as loaded."""
    body_names: tuple[str, ...]
    """The model's bodies, N (a Skeleton's order)."""
    static_marker_rms_m: float
    """Root mean square distance of model and measured markers in the static pose."""
    locked: tuple[str, ...]
    """Coordinates locked in the scaled model."""


def scale_subject(
    *,
    model_path: str | Path,
    marker_set: MarkerSet,
    measurements: MeasurementSet,
    static: MarkerTrajectories,
    mass_kg: float,
    output_path: str | Path,
    place_markers: bool = True,
    settings: ScalingSettings | None = None,
) -> ScaledSubject:
    """Scales a model to a person with OpenSim's Scale tool (and its marker placer).

    Then the static pose becomes the default pose (but for the root), couplers and coordinates are
    released or locked, and markers named in `marker_set.reparent` change bodies without moving.

    Args:
        model_path: the generic model; its own markers are replaced by `marker_set`.
        marker_set: markers on the generic model.
        measurements: distances that scale body axes: a factor is the mean over its marker pairs of
            measured over model distance in the model's default pose.
        static: a static trial in the model's default pose (a T-pose), at any place and heading.
        mass_kg: mass of the person.
        output_path: where the scaled model goes; written last, in one step.
        place_markers: moves the markers that are not fixed onto the measured ones.
        settings: locks and couplers.

    Raises:
        KinematicsError: a marker is missing (named), a factor not plausible, or OpenSim failed.
        InvalidInputError: the model cannot be read, or the mass is not positive.
    """
    settings = settings or ScalingSettings()
    generic = _generic_model(model_path, marker_set, settings, mass_kg)
    bodies = tuple(body.getName() for body in generic.getBodySet())
    names = marker_set.names
    window, at_default = _window(static.reordered(names)), default_marker_positions(generic, names)
    factors = measurement_factors(measurements, names, window, at_default)
    with tempfile.TemporaryDirectory(prefix="d3ke_scaling_") as folder:
        scaled_path, scales = run_scale_tool(
            Path(folder),
            generic=generic,
            marker_set=marker_set,
            measurements=measurements,
            static=_aligned(window, at_default),
            mass_kg=mass_kg,
            place_markers=place_markers,
        )
        model = load_model(scaled_path)
        restore_markers(model, marker_set, scales)
        pose = _static_pose(model, Path(folder), marker_set, window)
        locked = _finish(model, marker_set, pose, settings)
        write_model(model, Path(output_path))
    return ScaledSubject(
        model_path=Path(output_path),
        measurement_factors=factors,
        body_scales=np.array([scales[body] for body in bodies]),
        body_names=bodies,
        static_marker_rms_m=pose.rms_error(np.sign(marker_set.scaling_weights)),
        locked=locked,
    )


def _generic_model(
    path: str | Path, marker_set: MarkerSet, settings: ScalingSettings, mass_kg: float
) -> Any:
    """The model to scale, with the set's markers, locks and couplers of scaling."""
    if not (np.isfinite(mass_kg) and mass_kg > 0.0):
        raise InvalidInputError("body mass", f"{mass_kg} kg is not positive")
    model = load_model(path)
    marker_set.put_on(model)
    _prepare(model, settings)
    return model


def _prepare(model: Any, settings: ScalingSettings) -> None:
    for coordinate in model.getCoordinateSet():
        if coordinate.getName() in settings.locked_while_scaling:
            coordinate.setDefaultLocked(True)
    _enforce_couplers(model, settings.released_couplers, enforced=True)
    model.finalizeConnections()


def _enforce_couplers(model: Any, names: tuple[str, ...], *, enforced: bool) -> None:
    for constraint in model.getConstraintSet():
        if constraint.getName() in names:
            constraint.set_isEnforced(enforced)


def _window(static: MarkerTrajectories) -> MarkerTrajectories:
    keep = static.times <= static.times[0] + _WINDOW_S
    return MarkerTrajectories(
        names=static.names,
        positions=static.positions[keep],
        times=static.times[keep],
        rate_hz=static.rate_hz,
    )


def default_marker_positions(model: Any, names: tuple[str, ...]) -> FloatArray:
    """[M, 3] m, ground frame, in the model's default pose."""
    state = model.initSystem()
    model.realizePosition(state)
    markers = [model.getMarkerSet().get(name) for name in names]
    return np.array([marker.getLocationInGround(state).to_numpy() for marker in markers])


def measurement_factors(
    measurements: MeasurementSet,
    names: tuple[str, ...],
    static: MarkerTrajectories,
    at_default: FloatArray,
) -> FloatArray:
    """Factor of every measurement, [S].

    Checked here because OpenSim scales a body by NaN or silently leaves it at 1 when a marker is
    missing.

    Args:
        measurements: marker pairs.
        names: the model's markers, M.
        static: measured, the same markers.
        at_default: [M, 3] m, the model's markers in its default pose.

    Raises:
        KinematicsError: naming measurement and marker.
    """
    return np.array(
        [
            _factor(name, pairs, names, static, at_default)
            for name, pairs in measurements.marker_pairs.items()
        ]
    )


def _factor(
    measurement: str,
    pairs: tuple[tuple[str, str], ...],
    names: tuple[str, ...],
    static: MarkerTrajectories,
    at_default: FloatArray,
) -> float:
    what = f"measurement {measurement!r}"
    ratios = []
    for pair in pairs:
        for marker in pair:
            if marker not in names:
                raise KinematicsError(what, f"needs marker {marker!r}, which the marker set lacks")
            if not np.isfinite(static.marker(marker)).all():
                raise KinematicsError(
                    what, f"needs marker {marker!r}, which is missing in the static trial"
                )
        first, second = (names.index(marker) for marker in pair)
        model_distance = float(np.linalg.norm(at_default[first] - at_default[second]))
        between = static.positions[:, first] - static.positions[:, second]
        distance = float(np.linalg.norm(between, axis=1).mean())
        ratios.append(distance / model_distance if model_distance > 0.0 else np.inf)
    factor = float(np.mean(ratios))
    low, high = PLAUSIBLE_FACTORS
    if not low <= factor <= high:
        between_names = " and ".join("-".join(pair) for pair in pairs)
        raise KinematicsError(
            what, f"gives the factor {factor:.3g} from {between_names}, outside {low} to {high}"
        )
    return factor


def _aligned(static: MarkerTrajectories, at_default: FloatArray) -> MarkerTrajectories:
    """The static trial moved onto the model, without markers that have gaps.

    The marker placer starts from the model's default pose and fails on a person facing elsewhere.
    """
    whole = np.asarray(np.isfinite(static.positions).all(axis=(0, 2)))
    points = static.positions[:, whole]
    rotation, shift = fit_rigid(points.mean(axis=0), at_default[whole])
    return MarkerTrajectories(
        names=tuple(name for name, kept in zip(static.names, whole, strict=True) if kept),
        positions=points @ rotation.T + shift,
        times=static.times,
        rate_hz=static.rate_hz,
    )


def _static_pose(
    model: Any, folder: Path, marker_set: MarkerSet, static: MarkerTrajectories
) -> IKResult:
    """The scaled model's pose in the static trial's mean frame."""
    model.printToXML(str(folder / "posed.osim"))
    still = MarkerTrajectories(
        names=static.names,
        positions=static.positions.mean(axis=0, keepdims=True),
        times=static.times[:1],
        rate_hz=static.rate_hz,
    )
    weights = dict(zip(marker_set.names, map(float, marker_set.scaling_weights), strict=True))
    return inverse_kinematics(model_path=folder / "posed.osim", trajectories=still, weights=weights)


def _finish(
    model: Any, marker_set: MarkerSet, pose: IKResult, settings: ScalingSettings
) -> tuple[str, ...]:
    """Sets default pose, locks, couplers and bodies of markers; names of locked coordinates."""
    _set_default_pose(model, pose)
    locked = []
    for coordinate in model.getCoordinateSet():
        lock = coordinate.getName() in settings.locked_after_scaling
        coordinate.setDefaultLocked(lock)
        if lock:
            locked.append(coordinate.getName())
    _enforce_couplers(model, settings.released_couplers, enforced=False)
    state = model.initSystem()
    for marker, body in marker_set.reparent.items():
        frame = model.getBodySet().get(body)
        model.getMarkerSet().get(marker).changeFramePreserveLocation(state, frame)
    model.finalizeConnections()
    return tuple(locked)


def restore_markers(model: Any, marker_set: MarkerSet, scales: Mapping[str, FloatArray]) -> None:
    """Puts back, at their scaled places, the markers that the Scale tool deleted.

    It deletes those that the static trial lacks; later trials may have them.
    """
    present = {marker.getName() for marker in model.getMarkerSet()}
    for name, body, place in zip(
        marker_set.names, marker_set.bodies, marker_set.locations, strict=True
    ):
        if name not in present:
            add_marker(model, name, body, place * scales[body], fixed=True)
    model.finalizeConnections()


def _set_default_pose(model: Any, pose: IKResult) -> None:
    # A skeleton keeps OpenSim's order, but lengthens names that several coordinates have.
    paths = [c.getAbsolutePathString() for c in model.getCoordinateSet()]
    for joint in model.getJointSet():
        if joint.getParentFrame().findBaseFrame().getName() == "ground":
            continue
        for index in range(joint.numCoordinates()):
            coordinate = joint.get_coordinates(index)
            column = paths.index(coordinate.getAbsolutePathString())
            coordinate.setDefaultValue(float(pose.coordinates[0, column]))


def write_model(model: Any, path: Path) -> None:
    """Writes an `opensim.Model` in one step. Raises InvalidInputError."""
    temporary = path.with_name(f".{path.name}.part")
    if not model.printToXML(str(temporary)):
        raise InvalidInputError(str(path), "cannot be written")
    temporary.replace(path)
