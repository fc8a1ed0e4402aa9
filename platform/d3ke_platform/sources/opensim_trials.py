"""Source: OpenSim users' own trial folders, setup files honoured. See docs/opensim-folders.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3ke.errors import D3KEError, InvalidInputError
from d3ke_platform.errors import UsageError
from d3ke_platform.sources import MadeUnit, SourcePlan
from d3ke_platform.sources.opensim_folder import (
    FolderFiles,
    chosen,
    only,
    scan,
    shared_files,
    subject_folders,
)
from d3ke_platform.sources.opensim_people import People, read_people, splits_of
from d3ke_platform.sources.opensim_settings import OpenSimSettings
from d3ke_platform.sources.opensim_subject import (
    SubjectFiles,
    TrialFiles,
    find_subject,
    safe_name,
)
from d3ke_platform.sources.opensim_videos import match_videos

if TYPE_CHECKING:
    from d3ke_platform.sources.opensim_make import OpenSimMaker


class OpenSimSource:
    """Source of OpenSim users' recordings. Picklable: models are opened when needed."""

    name = "opensim"

    def __init__(self, folder: str, settings: OpenSimSettings) -> None:
        """`folder` holds a subject's files, or a folder for each subject."""
        self.folder = folder
        self.settings = settings
        self._maker: OpenSimMaker | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "settings": self.settings, "_maker": None}

    def plan(self, folder: Path) -> SourcePlan:
        """Subjects, and a unit for each subject, trial and video; notes on what was found.

        Writes `model.osim` (the generic model with everybody's markers) into `folder`.

        Raises:
            UsageError, InvalidInputError, UnknownNameError: files are missing or ambiguous, setups
                or models cannot be read or do not go together, a subject is in two splits.
        """
        from d3ke.kinematics import ScalingSettings
        from d3ke_platform.sources.opensim_sets import common_sets, with_predicted

        subjects, refused = self._subjects()
        names = [subject.name for subject in subjects]
        people = read_people(Path(self.folder) / self.settings.subjects_csv, names)
        splits = splits_of(names, people, self.settings)
        sets = common_sets(subjects, self.settings)
        model = Path(folder) / "model.osim"
        model.parent.mkdir(parents=True, exist_ok=True)
        sets.marker_set.apply_to_model(subjects[0].generic, model)
        marker_set, predicted = with_predicted(model, sets)
        units: list[dict[str, Any]] = [
            {"unit": name, "kind": "refused", "subject": name, "reason": reason}
            for name, reason in refused.items()
        ]
        notes = [note for subject in subjects for note in subject.notes] + list(sets.notes)
        if untold := marker_set.undetermined:
            notes.append(f"no marker tells {', '.join(untold)}: neither labelled nor predicted")
        for subject in subjects:
            mass = _number(people, subject.name, "mass_kg")
            units.append(_subject_unit(subject, mass))
            for trial in subject.trials:
                units += self._trial_units(subject, trial, splits[subject.name])
        _check_unique(units)
        return SourcePlan(
            model_osim=model,
            marker_set=marker_set,
            measurements=sets.measurements,
            predicted=predicted,
            subjects=[_subject_row(s, splits[s.name], people) for s in subjects],
            units=units,
            scaling=ScalingSettings(
                locked_while_scaling=(), locked_after_scaling=(), released_couplers=()
            ),
            notes=notes,
        )

    def make(self, unit: Mapping[str, Any], folder: Path) -> MadeUnit:
        """A subject's static trial and setup, one trial, or the row of one video."""
        from d3ke_platform.sources.opensim_make import OpenSimMaker

        if self._maker is None:
            self._maker = OpenSimMaker(self.settings, Path(folder))
        return self._maker.make(unit)

    def _subjects(self) -> tuple[list[SubjectFiles], dict[str, str]]:
        """Subjects, and why others cannot be used; raises what the first has if none can."""
        root = Path(self.folder).resolve()
        folders = subject_folders(root, self.settings.subject_folders)
        shared = shared_files(root, folders)
        found, refused = [], {}
        for folder in folders:
            try:
                files = scan(folder)
                subject = find_subject(files, shared, self.settings, flat=folder == root)
                found.append(self._with_videos(subject, files, shared))
            except D3KEError as error:
                # One subject's files must not cost the others theirs.
                refused[safe_name(folder.name)] = error
        if not found:
            raise next(iter(refused.values()))
        names = [subject.name for subject in found]
        if double := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"Several folders are the subject {', '.join(double)}: rename them.")
        return found, {name: str(error).rstrip(".") for name, error in refused.items()}

    def _with_videos(
        self, subject: SubjectFiles, files: FolderFiles, shared: FolderFiles
    ) -> SubjectFiles:
        settings, folder = self.settings, files.folder
        if settings.videos:
            videos: Sequence[Path] = chosen(files, files, settings.videos, "videos")
        else:
            videos = files.videos
        if not videos:
            return subject
        if settings.calibration:
            listed = chosen(files, shared, settings.calibration, "calibration")
        else:
            listed = list(files.calibrations or shared.calibrations)
        calibration = only(listed, "camera calibrations", "calibration", folder)
        matched, left = match_videos(videos, [trial.markers for trial in subject.trials], folder)
        return subject.with_videos(matched, left, calibration)

    def _trial_units(
        self, subject: SubjectFiles, trial: TrialFiles, split: str
    ) -> list[dict[str, Any]]:
        settings = self.settings
        name = _without_subject(trial.name, subject.name)
        trial_id = f"{subject.name}_{name}"
        common = {
            "subject": subject.name,
            "trial_id": trial_id,
            "movement": _movement(name, settings.movement),
            "split": split,
            "markers": str(trial.markers),
            "static": str(subject.static or ""),
            "ik_setup": str(trial.ik_setup or ""),
            "timed": trial.timed,
        }
        units: list[dict[str, Any]] = [{"unit": trial_id, "kind": "trial", **common}]
        for camera, video in trial.videos:
            recording_id = f"{trial_id}_{safe_name(camera or 'camera')}"
            units.append(
                {
                    "unit": f"{recording_id}__video",
                    "kind": "video",
                    **common,
                    "recording_id": recording_id,
                    "camera": camera,
                    "video": str(video),
                    "calibration": str(subject.calibration or ""),
                    "video_start_s": settings.video_start_s,
                    "most_length_difference_s": settings.most_length_difference_s,
                }
            )
        return units


def _without_subject(trial: str, subject: str) -> str:
    """subject01_walk1 of subject01 is walk1."""
    if trial.lower().startswith(subject.lower()):
        return trial[len(subject) :].strip("_-. ") or trial
    return trial


def _movement(trial: str, pattern: str) -> str:
    """The movement's name within a trial's."""
    match = re.fullmatch(pattern, trial)
    return (match and match["movement"]) or trial


def _subject_unit(subject: SubjectFiles, mass_kg: float) -> dict[str, Any]:
    setup = subject.setup
    files = {
        "model": setup and setup.model_file,
        "marker_set": setup and setup.marker_set_file,
        "coordinates": setup and setup.placer.coordinate_file,
    }
    return {
        "unit": f"{subject.name}__subject",
        "kind": "subject",
        "subject": subject.name,
        "static": str(subject.static or ""),
        "measured": str(subject.measured or ""),
        "scaled_model": str(subject.scaled_model or ""),
        "setup": str(subject.setup_file or "") if setup is not None else "",
        "files": {name: str(file or "") for name, file in files.items()},
        "mass_kg": mass_kg,
    }


def _subject_row(subject: SubjectFiles, split: str, people: People) -> dict[str, Any]:
    setup, name = subject.setup, subject.name
    folder = f"subjects/{name}"
    mass, height = (_number(people, name, column) for column in ("mass_kg", "height_m"))
    if setup is not None:
        mass = mass if mass > 0.0 else setup.mass_kg
        height = height if height > 0.0 else setup.height_mm / 1e3
    return {
        "subject": name,
        "split": split,
        "sex": people.get(name, {}).get("sex", "unknown"),
        "height_m": height if height > 0.0 else float("nan"),
        "mass_kg": mass if mass > 0.0 else float("nan"),
        "static_uri": f"{folder}/static.trc" if subject.static else "",
        "scale_setup_uri": f"{folder}/scale_setup.xml" if subject.setup else "",
        "scaled_model_uri": f"{folder}/scaled.osim" if subject.scaled_model else "",
    }


def _number(people: People, subject: str, column: str) -> float:
    return float(people.get(subject, {}).get(column, -1.0))


def _check_unique(units: Sequence[Mapping[str, Any]]) -> None:
    names = [unit["unit"].lower() for unit in units]
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInputError("trials", f"several are named {', '.join(double)}", "Rename them.")
