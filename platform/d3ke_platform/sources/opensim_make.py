"""Making one piece of an OpenSim users' data set: a subject's files, a trial, a recording."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.errors import InvalidInputError
from d3ke.kinematics import IKTasks, MarkerSet, MarkerTrajectories, read_ik_setup, write_trc
from d3ke.kinematics.c3d import in_ground, read_markers
from d3ke.kinematics.marker_checks import (
    ModelMarkers,
    check_gaps,
    check_names,
    check_size,
    check_up,
    find_up,
    zeros_as_gaps,
)
from d3ke.kinematics.scale_setup import ScaleSetup, read_scale_setup
from d3ke.skeleton import Skeleton
from d3ke_platform import storage
from d3ke_platform.sources import MadeUnit
from d3ke_platform.sources.opensim_folder import is_trc
from d3ke_platform.sources.opensim_sets import renamed
from d3ke_platform.sources.opensim_settings import OpenSimSettings
from d3ke_platform.sources.opensim_setups import (
    copy_ik_setup,
    copy_scale_setup,
    rename_in_setup,
)
from d3ke_platform.sources.opensim_videos import recording_row

_EVEN = 0.5
"""Part of a frame by which times may be off an even rate."""


class OpenSimMaker:
    """Makes units in a data set whose model and marker set lie in its folder."""

    def __init__(self, settings: OpenSimSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._markers = MarkerSet.load(folder / "marker_set.json")
        self._model = ModelMarkers.of(Skeleton.load(folder / "skeleton.json"))

    def make(self, unit: Mapping[str, Any]) -> MadeUnit:
        """Writes the unit's files. Raises D3KEError naming file and reason."""
        if unit["kind"] == "refused":
            raise InvalidInputError(f"subject {unit['subject']}", unit["reason"])
        if unit["kind"] == "subject":
            self._make_subject(unit)
            return MadeUnit()
        whole = self._read(unit, unit["markers"])
        labelled = _cut(whole, self._tasks(unit), unit)
        if unit["kind"] == "video":
            return MadeUnit(recordings=[recording_row(dict(unit), whole, labelled)])
        return MadeUnit(trials=[self._make_trial(unit, labelled)])

    def _make_subject(self, unit: Mapping[str, Any]) -> None:
        folder = self._folder / "subjects" / unit["subject"]
        folder.mkdir(parents=True, exist_ok=True)
        for key in ("static", "measured"):
            if unit[key]:
                write_trc(folder / f"{key}.trc", self._read(unit, unit[key], static=True))
        if unit["scaled_model"]:
            source = Path(unit["scaled_model"])
            target = folder / "scaled.osim"
            storage.write_atomically(target, lambda part: shutil.copyfile(source, part))
        if unit["setup"]:
            setup = read_scale_setup(unit["setup"])
            files = {key: Path(value) if value else None for key, value in unit["files"].items()}
            names = self._names([*setup.placer.marker_weights, *_measured(setup)])
            setup = rename_in_setup(setup, names)
            setup = replace(
                setup,
                mass_kg=unit["mass_kg"] if unit["mass_kg"] > 0.0 else setup.mass_kg,
                model_file=files["model"],
                marker_set_file=files["marker_set"],
                placer=replace(setup.placer, coordinate_file=files["coordinates"]),
            )
            copy_scale_setup(setup, folder, own_measured=bool(unit["measured"]))

    def _make_trial(self, unit: Mapping[str, Any], labelled: MarkerTrajectories) -> dict[str, Any]:
        trial_id = unit["trial_id"]
        check_gaps(f"trial {trial_id}", labelled, most=self._settings.most_missing)
        ik_uri = ""
        if unit["ik_setup"]:
            ik_uri = f"trials/{trial_id}_ik.xml"
            self._copy_ik_setup(unit, self._folder / ik_uri)
        uri = f"trials/{trial_id}.trc"
        (self._folder / uri).parent.mkdir(parents=True, exist_ok=True)
        write_trc(self._folder / uri, labelled)
        return {
            "trial_id": trial_id,
            **{key: unit[key] for key in ("subject", "movement", "split")},
            "rate_hz": labelled.rate_hz,
            "frame_count": len(labelled.times),
            "markers_uri": uri,
            "ik_setup_uri": ik_uri,
        }

    def _copy_ik_setup(self, unit: Mapping[str, Any], target: Path) -> None:
        source = Path(unit["ik_setup"])
        tasks = read_ik_setup(source).marker_weights
        names = self._names(tasks)
        weighted = [names.get(name, name) for name, weight in tasks.items() if weight > 0.0]
        if weighted:
            check_names(f"IK setup {source.name}", weighted, self._markers.names)
        copy_ik_setup(source, target, names, model=f"../subjects/{unit['subject']}.osim")

    def _names(self, names: Sequence[str] | Mapping[str, float]) -> dict[str, str]:
        return renamed(list(names), self._markers.names, self._settings)

    def _tasks(self, unit: Mapping[str, Any]) -> IKTasks | None:
        return read_ik_setup(unit["ik_setup"]) if unit["ik_setup"] and unit["timed"] else None

    def _read(
        self, unit: Mapping[str, Any], file: str, *, static: bool = False
    ) -> MarkerTrajectories:
        """Checked markers of a file in ground, under the model's names and none else."""
        path, settings = Path(file), self._settings
        what = f"{'static trial' if static else 'trial'} {path.name}"
        units = None if settings.units == "auto" else settings.units
        read = self._renamed(self._file(path, units))
        check_names(what, read.names, self._markers.names)
        known = tuple(name for name in self._markers.names if name in read.names)
        read = read.reordered(known)
        _check_even(what, read)
        check_size(what, read, self._model)
        up = self._up(unit, path, read)
        if up != "y":
            read = in_ground(read, up)
        if settings.up_axis == "auto":
            check_up(what, read, self._model)
        return read

    def _file(self, path: Path, units: str | None) -> MarkerTrajectories:
        return zeros_as_gaps(read_markers(path, units=units))

    def _renamed(self, read: MarkerTrajectories) -> MarkerTrajectories:
        kept = [name for name in read.names if name not in self._settings.ignored_markers]
        names = self._names(kept)
        kept_only = read.reordered(kept)
        return replace(kept_only, names=tuple(names.get(name, name) for name in kept))

    def _up(self, unit: Mapping[str, Any], path: Path, read: MarkerTrajectories) -> str:
        """The axis that points up: stated, y in a .trc, found in a .c3d (best in the static)."""
        if self._settings.up_axis != "auto":
            return self._settings.up_axis
        if is_trc(path):
            return "y"
        static = unit.get("static", "")
        if static and not is_trc(Path(static)) and Path(static) != path:
            still = self._renamed(self._file(Path(static), None))
            return find_up(still, self._model) or "y"
        return find_up(read, self._model) or "y"


def _measured(setup: ScaleSetup) -> list[str]:
    return [n for m in setup.scaler.measurements for pair in m.marker_pairs for n in pair]


def _cut(
    whole: MarkerTrajectories, tasks: IKTasks | None, unit: Mapping[str, Any]
) -> MarkerTrajectories:
    """The frames that get labels: those of the IK setup's time range."""
    what = f"trial {Path(unit['markers']).name}"
    if tasks is None:
        kept: np.ndarray = np.ones(len(whole.times), dtype=bool)
    else:
        first, last = tasks.time_range
        if first > whole.times[-1] or last < whole.times[0]:
            raise InvalidInputError(
                what,
                f"spans {whole.times[0]:g} to {whole.times[-1]:g} s, the time range of IK setup "
                f"{Path(unit['ik_setup']).name} is {first:g} to {last:g} s",
            )
        kept = tasks.frames(whole.times)
    if kept.sum() < 2:
        raise InvalidInputError(what, f"has {kept.sum()} frames to label, two are the least")
    return replace(whole, positions=whole.positions[kept], times=whole.times[kept])


def _check_even(what: str, measured: MarkerTrajectories) -> None:
    """Times at an even rate, which is the stated one: labels are found by time."""
    count = len(measured.times)
    expected = measured.times[0] + np.arange(count) / measured.rate_hz
    off = np.abs(measured.times - expected) * measured.rate_hz
    # Times are rounded: a slow drift is none of the file's fault.
    if off.max() > _EVEN + 1e-3 * count:
        frame = int((off > _EVEN + 1e-3 * count).argmax())
        raise InvalidInputError(
            what,
            f"its times are not those of {measured.rate_hz:g} frames per second: frame "
            f"{frame + 1} is at {measured.times[frame]:g} s, not {expected[frame]:g} s",
            "Correct DataRate, or export it without leaving out frames.",
        )
