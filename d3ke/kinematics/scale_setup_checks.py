"""What a ScaleTool setup asks for that its model or static trial lacks.

OpenSim scales by NaN or leaves a body alone where a marker or body is missing, and says nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError, KinematicsError, UnknownNameError
from d3ke.kinematics.marker_checks import near_misses
from d3ke.kinematics.scale_setup import ScaleSetup
from d3ke.kinematics.scaling import PLAUSIBLE_FACTORS
from d3ke.kinematics.trc import MarkerTrajectories

_MISSPELT = 0.85


def check_setup(
    setup: ScaleSetup,
    *,
    bodies: Collection[str],
    markers: Collection[str],
    static: MarkerTrajectories,
    measured: MarkerTrajectories,
) -> None:
    """Refuses a setup that cannot be carried out on this model and static trial.

    Bodies that the model lacks are left alone, as OpenSim does (its own examples name patellae
    of models without any), unless the model has one of nearly that name.

    Args:
        setup: the setup.
        bodies, markers: names on the generic model.
        static: the static trial.
        measured: the trial in which the scaler measures.

    Raises:
        UnknownNameError: a marker of a measurement that the model lacks, or a misspelt body.
        KinematicsError: a marker of a measurement that the static trial lacks in the time range.
        InvalidInputError: time ranges outside the static trial, a missing mass, no marker that the
            placer could use.
    """
    scaler, placer = setup.scaler, setup.placer
    if scaler.apply and scaler.preserve_mass_distribution and not setup.mass_kg > 0.0:
        reason = f"the mass of the person is {setup.mass_kg:g} kg"
        raise InvalidInputError(f"Scale setup {setup.name!r}", reason, "State it in <mass>.")
    _check_bodies(setup, bodies)
    if scaler.measures:
        frames = frames_in(measured.times, scaler.time_range, f"ModelScaler of {setup.name!r}")
        for measurement in scaler.measurements:
            for marker in sorted({name for pair in measurement.marker_pairs for name in pair}):
                _check_marker(measurement.name, marker, markers, measured, frames)
    if placer.apply:
        frames_in(static.times, placer.time_range, f"MarkerPlacer of {setup.name!r}")
        used = [name for name, w in placer.marker_weights.items() if w > 0.0 and name in markers]
        if sum(name in static.names for name in used) < 3:
            raise InvalidInputError(
                f"MarkerPlacer of {setup.name!r}",
                f"fewer than three of its weighted markers ({', '.join(used) or 'none'}) are both "
                "on the model and in the static trial",
            )


def frames_in(
    times: FloatArray, time_range: tuple[float, float] | None, what: str = "time range"
) -> BoolArray:
    """[T] True for the frames that OpenSim averages, and those next to the range.

    Raises InvalidInputError: the range lies outside the trial.
    """
    if time_range is None:
        return np.ones(len(times), dtype=bool)
    first, last = time_range
    if first > times[-1] + 1e-6 or last < times[0] - 1e-6 or last < first:
        reason = f"its time range {first:g} to {last:g} s lies outside the static trial's"
        raise InvalidInputError(what, f"{reason} {times[0]:g} to {times[-1]:g} s")
    begin = max(int(np.searchsorted(times, first + 1e-6)) - 1, 0)
    end = min(int(np.searchsorted(times, last - 1e-6)), len(times) - 1)
    index = np.arange(len(times))
    return np.asarray((index >= begin) & (index <= end))


def _check_bodies(setup: ScaleSetup, bodies: Collection[str]) -> None:
    scaler = setup.scaler
    named = [body for m in scaler.measurements for body, _ in m.body_axes]
    named += [manual.body for manual in scaler.manual_scales]
    for body in named if scaler.apply else ():
        if body not in bodies and get_close_matches(body, bodies, n=1, cutoff=_MISSPELT):
            raise UnknownNameError(f"body in Scale setup {setup.name!r}", body, bodies)


def _check_marker(
    measurement: str,
    marker: str,
    markers: Collection[str],
    static: MarkerTrajectories,
    frames: BoolArray,
) -> None:
    if marker not in markers:
        raise UnknownNameError(f"marker of measurement {measurement!r}", marker, markers)
    what = f"measurement {measurement!r}"
    if marker not in static.names:
        near = near_misses(static.names, [marker])
        hint = f"; it has {', '.join(near)}" if near else ""
        raise KinematicsError(what, f"needs marker {marker!r}, which the static trial lacks{hint}")
    missing = ~np.isfinite(static.marker(marker)[frames]).all(-1)
    if missing.any():
        raise KinematicsError(
            what,
            f"needs marker {marker!r}, which has gaps in {missing.sum()} of the {frames.sum()} "
            "frames of the static trial that are averaged",
        )


def check_factors(setup: ScaleSetup, factors: dict[str, FloatArray]) -> None:
    """Refuses factors that no person has: body -> [3]. Raises KinematicsError by body."""
    low, high = PLAUSIBLE_FACTORS
    for body, values in factors.items():
        if not (np.isfinite(values).all() and (values >= low).all() and (values <= high).all()):
            raise KinematicsError(
                f"Scale setup {setup.name!r}",
                f"scales body {body!r} by {np.round(values, 4).tolist()}, outside {low} to {high}: "
                "are markers swapped, or units mixed up?",
            )
