"""What a data set of OpenSim users' subjects has in common: model, markers, measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke.kinematics import MarkerSet, read_ik_setup
from d3ke.kinematics.marker_checks import near_misses
from d3ke.kinematics.model_scales import scales_between
from d3ke.kinematics.observability import undetermined_coordinates
from d3ke.kinematics.setup_sets import (
    PlacedMarker,
    marker_set_from,
    markers_of,
    measurements_of_axes,
    measurements_of_bodies,
    measurements_of_scales,
    measurements_of_setups,
    model_with_markers,
)
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton
from d3ke.skeleton.predicted_default import default_predicted_set
from d3ke_platform import storage
from d3ke_platform.sources.opensim_settings import OpenSimSettings
from d3ke_platform.sources.opensim_subject import SubjectFiles

_FEWEST = 3
_SAME = 2e-3


class CommonSets(NamedTuple):
    """What all subjects of a data set share."""

    marker_set: MarkerSet
    measurements: MeasurementSet
    notes: tuple[str, ...]


class _Reader:
    """Models, each file opened once."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, ...], Any] = {}

    def __call__(self, model: Path, marker_set: Path | None = None) -> Any:
        files = [model] if marker_set is None else [model, marker_set]
        for file in files:
            if not file.is_file():
                raise InvalidInputError(str(file), "there is no such file")
        key = tuple(storage.content_hash(file) for file in files)
        if key not in self._models:
            self._models[key] = model_with_markers(model, marker_set)
        return self._models[key]


def common_sets(subjects: Sequence[SubjectFiles], settings: OpenSimSettings) -> CommonSets:
    """Marker set and measurements that fit every subject.

    The first subject's generic model is the data set's.

    Raises:
        InvalidInputError: models differ in bodies or coordinates, a marker sits on different
            bodies, or a model is no scaled copy of the generic one.
    """
    read = _Reader()
    base = read(subjects[0].generic)
    bodies = _names(base.getBodySet())
    scales: dict[str, FloatArray] = {}
    markers: dict[str, PlacedMarker] = {}
    for subject in subjects:
        own = subject.scaled_model or subject.generic
        _check_alike(subject, read(own), base, subjects[0])
        _check_alike(subject, read(subject.generic), base, subjects[0])
        if subject.scale == "setup":
            _check_same(subject, scales_between(base, read(subject.generic)), bodies)
        found = markers_of(read(subject.generic, subject.marker_set))
        if subject.scaled_model is not None:
            scales[subject.name] = scales_between(base, read(own))
            found = _unscaled(markers_of(read(own)), scales[subject.name], bodies) | found
        _add(markers, found, subject.name)
    weights, notes = _ik_weights(subjects, list(markers), settings)
    setup = next((s.setup for s in subjects if s.setup is not None), None)
    if setup is not None and weights is None:
        placed = {n: w for n, w in setup.placer.marker_weights.items() if n in markers}
        weights = _capped(placed) if any(placed.values()) else None
    marker_set = marker_set_from(
        markers,
        scaling_weights=None if setup is None else setup.placer.marker_weights,
        ik_weights=weights,
    )
    return CommonSets(marker_set, _measurements(subjects, bodies, scales), notes)


def with_predicted(model: Path, sets: CommonSets) -> tuple[MarkerSet, PredictedSet]:
    """The marker set with the coordinates it cannot tell, and what is predicted: all others.

    Args:
        model: the generic model with the set's markers.
        sets: of the same subjects.

    Raises InvalidInputError: the model has no free root joint, or no coordinate to predict.
    """
    skeleton, markers = Skeleton.from_osim(model), sets.marker_set
    weights = dict(zip(markers.names, map(float, markers.ik_weights), strict=True))
    untold = undetermined_coordinates(skeleton, weights)
    pairs = [pair for pairs in sets.measurements.marker_pairs.values() for pair in pairs]
    landmarks = sorted({name for pair in pairs for name in pair})
    predicted = default_predicted_set(skeleton, landmarks=landmarks, left_out=untold)
    return replace(markers, undetermined=untold), predicted


def _names(objects: Any) -> list[str]:
    return [one.getName() for one in objects]


def _check_alike(subject: SubjectFiles, model: Any, base: Any, first: SubjectFiles) -> None:
    for kind in ("Body", "Coordinate"):
        wanted, found = (_names(getattr(m, f"get{kind}Set")()) for m in (base, model))
        if set(wanted) != set(found):
            differ = sorted(set(wanted) ^ set(found))
            raise InvalidInputError(
                f"model of subject {subject.name}",
                f"is another than that of {first.name}: one of them lacks {kind.lower()} "
                f"{', '.join(differ[:8])}",
                "Make a data set of its own from these subjects.",
            )


def _check_same(subject: SubjectFiles, scales: FloatArray, bodies: list[str]) -> None:
    """A subject's generic model must be the data set's: scale factors are relative to it."""
    if not np.allclose(scales, 1.0, atol=_SAME):
        worst = int(np.abs(scales - 1.0).max(axis=1).argmax())
        raise InvalidInputError(
            f"model of subject {subject.name}",
            f"{subject.generic.name} is another size than the first subject's: body "
            f"{bodies[worst]!r} by {np.round(scales[worst], 3).tolist()}",
            "If it is scaled already, name it by opensim.scaled_model beside the generic model.",
        )


def _unscaled(
    markers: dict[str, PlacedMarker], scales: FloatArray, bodies: list[str]
) -> dict[str, PlacedMarker]:
    return {
        name: marker._replace(location=marker.location / scales[bodies.index(marker.body)])
        for name, marker in markers.items()
    }


def _add(known: dict[str, PlacedMarker], found: dict[str, PlacedMarker], subject: str) -> None:
    for name, marker in found.items():
        before = known.setdefault(name, marker)
        if before.body != marker.body:
            raise InvalidInputError(
                f"marker {name!r} of subject {subject}",
                f"is on body {marker.body!r}, another subject's on {before.body!r}",
                "Rename one of them.",
            )


def _ik_weights(
    subjects: Sequence[SubjectFiles], markers: list[str], settings: OpenSimSettings
) -> tuple[dict[str, float] | None, tuple[str, ...]]:
    """Weights by the first IK setup that names the model's markers."""
    notes: list[str] = []
    for file in dict.fromkeys(t.ik_setup for s in subjects for t in s.trials if t.ik_setup):
        tasks = read_ik_setup(file)
        names = renamed(tasks.marker_weights, markers, settings)
        weights = {names.get(name, name): w for name, w in tasks.marker_weights.items()}
        weights = {name: w for name, w in weights.items() if name in markers}
        if sum(weight > 0.0 for weight in weights.values()) >= _FEWEST:
            return _capped(weights), tuple(notes)
        if tasks.marker_weights:
            notes.append(f"IK setup {file.name} names markers that the model lacks")
    return None, tuple(notes)


def _capped(weights: dict[str, float]) -> dict[str, float]:
    """No weight above the median of those above 0.

    Trials are solved with their own setup's weights. The set's serve trials without one, and say
    by which markers labels are judged: those of the largest weight. Setups often weigh the pelvis
    ten or a thousand times as much as all others, which would leave the limbs unjudged.
    """
    cap = float(np.median([weight for weight in weights.values() if weight > 0.0]))
    return {name: min(weight, cap) for name, weight in weights.items()}


def renamed(
    names: Iterable[str], model: Sequence[str], settings: OpenSimSettings
) -> dict[str, str]:
    """Names in files -> names on the model, as the settings say."""
    names, stated_names = list(names), settings.marker_names
    stated = {name: stated_names[name] for name in names if name in stated_names}
    if not settings.accept_near_misses:
        return stated
    left = [name for name in names if name not in stated]
    free = [name for name in model if name not in stated.values()]
    return stated | near_misses(left, free)


def _measurements(
    subjects: Sequence[SubjectFiles], bodies: list[str], scales: dict[str, FloatArray]
) -> MeasurementSet:
    ways = {subject.scale for subject in subjects}
    if ways == {"setup"}:
        found = measurements_of_setups([s.setup for s in subjects if s.setup], bodies)
        return found if found.names else measurements_of_bodies(bodies)
    if ways == {"estimate"}:
        return measurements_of_bodies(bodies)
    if ways <= {"model", "own"}:
        if np.allclose(np.array([*scales.values()]), 1.0, atol=1e-4):
            return measurements_of_bodies(bodies)
        return measurements_of_scales([scales[s.name] for s in subjects], bodies)
    return measurements_of_axes(bodies)
