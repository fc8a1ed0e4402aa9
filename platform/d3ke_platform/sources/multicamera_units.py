"""Pieces of work of multi-camera recordings, with what is known before anything is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.calibration import read_cameras
from d3ke_platform.sources.multicamera_layout import (
    TrialFolder,
    camera_ids,
    match_cameras,
    safe_name,
)
from d3ke_platform.sources.multicamera_settings import parse_static

VIEW, GROUND, TRIAL, STATIC, REPORT = range(5)
"""Phases of making."""


class TrialUnits:
    """Units of views, calibrations and trials, collected trial by trial."""

    def __init__(self, root: Path, splits: Mapping[str, str]) -> None:
        self._root = root
        self._splits = splits
        self._views: list[dict[str, Any]] = []
        self._trials: list[dict[str, Any]] = []
        self._grounds: dict[Path, dict[str, Any]] = {}

    def all(self) -> list[dict[str, Any]]:
        """In the order of their phases."""
        return [*self._views, *self._grounds.values(), *self._trials]

    def add(self, trial: TrialFolder) -> None:
        """A trial whose files do not go together becomes a unit that says so."""
        unit: dict[str, Any] = {
            "unit": trial.trial_id,
            "phase": TRIAL,
            "subject": trial.subject,
            "split": self._splits[trial.subject],
            "trial_id": trial.trial_id,
            "movement": trial.name,
        }
        self._trials.append(unit)
        if trial.calibration is None:
            unit["problem"] = trial.problem
            return
        try:
            unit["views"] = self._matched(trial, trial.calibration)
        except InvalidInputError as error:
            unit["problem"] = str(error)
            return
        unit["ground"] = self._ground(trial.calibration, unit["views"])
        self._views += [
            {"unit": f"{v['view']}_view", "phase": VIEW, "subject": trial.subject, **v}
            for v in unit["views"].values()
        ]

    def _matched(self, trial: TrialFolder, calibration: Path) -> dict[str, dict[str, str]]:
        cameras = list(read_cameras(calibration))
        videos = match_cameras(trial.videos, cameras, calibration.name)
        if len(videos) < 2:
            raise InvalidInputError(
                str(trial.path / "videos"),
                f"videos of {len(videos)} cameras; triangulation needs two or more of "
                f"{', '.join(cameras)}",
            )
        ids = camera_ids(videos)
        return {
            camera: {"view": f"{trial.trial_id}_{ids[camera]}", "video": str(video.resolve())}
            for camera, video in videos.items()
        }

    def _ground(self, calibration: Path, views: Mapping[str, Any]) -> str:
        if calibration not in self._grounds:
            place = calibration.parent.relative_to(self._root).parts[:-1]
            name = "_".join(["calibration", *map(safe_name, place)])
            self._grounds[calibration] = {
                "unit": name,
                "phase": GROUND,
                "subject": "",
                "ground": name,
                "calibration": str(calibration.resolve()),
                "trials": [],
            }
        self._grounds[calibration]["trials"].append(dict(views))
        return str(self._grounds[calibration]["ground"])


def static_unit(subject: str, static: str, trials: Sequence[TrialFolder]) -> dict[str, Any]:
    """The unit of a subject's static pose.

    Raises UnknownNameError when `static` names a trial that the subject does not have.
    """
    own = {trial.name: trial.trial_id for trial in trials if trial.subject == subject}
    wanted, frame = parse_static(static)
    if wanted and wanted not in own:
        raise UnknownNameError(f"static trial of subject {subject}", wanted, own)
    return {
        "unit": f"{subject}_static_pose",
        "phase": STATIC,
        "subject": subject,
        "trials": list(own.values()),
        "static_trial": own.get(wanted, ""),
        "static_frame": frame,
    }


def report_unit(trials: Sequence[TrialFolder]) -> dict[str, Any]:
    """The unit of the quality page's section."""
    return {
        "unit": "triangulation_report",
        "phase": REPORT,
        "subject": "",
        "trials": [trial.trial_id for trial in trials],
    }
