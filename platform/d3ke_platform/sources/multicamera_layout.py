"""Folders of multi-camera recordings, in Pose2Sim's layout: what is there and what goes with what.

A trial is a folder with a folder `videos` in it, one file per camera. Its calibration is the file
in the nearest `calibration` folder: beside `videos`, or further up to the input folder. The last
part of a trial's path is its name and what is above names the subject; a trial directly in the
input folder, or the input folder itself, belongs to a subject named after the input folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from d3ke.errors import InvalidInputError
from d3ke_platform.errors import UsageError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm")
CALIBRATION_SUFFIXES = (".toml", ".qca.txt", ".json")
_SETTINGS_FILE = "Config.toml"  # Pose2Sim's own
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+")


@dataclass(frozen=True, kw_only=True)
class TrialFolder:
    """One recording by several cameras."""

    path: Path
    subject: str
    name: str
    videos: tuple[Path, ...]
    """Sorted by name."""
    calibration: Path | None
    """None: there is no calibration folder, or not one file in it."""
    problem: str = ""
    """Why the calibration cannot be told; "" if it can."""

    @property
    def trial_id(self) -> str:
        """Unique in the data set."""
        return f"{self.subject}_{self.name}"


def find_trials(root: Path) -> list[TrialFolder]:
    """Every trial below a folder, sorted by its path.

    Raises:
        UsageError: no folder, no trial, or two trials of one name.
    """
    if not root.is_dir():
        raise UsageError(f"--input {root} is not a folder.")
    folders = sorted(path.parent for path in root.rglob("videos") if path.is_dir())
    trials = [_trial(root, folder) for folder in folders]
    if not trials:
        raise UsageError(
            f"--input {root} holds no trial: no folder named 'videos' is in it or below. Expected: "
            "INPUT/videos/*.mp4 and INPUT/calibration/*.toml or *.qca.txt, or one such folder for "
            "each trial, INPUT/<subject>/<trial>/videos/*.mp4."
        )
    seen: dict[str, Path] = {}
    for trial in trials:
        if trial.trial_id in seen:
            raise UsageError(
                f"--input: {seen[trial.trial_id]} and {trial.path} are both trial "
                f"{trial.trial_id!r}. Rename one of them."
            )
        seen[trial.trial_id] = trial.path
    return trials


def _trial(root: Path, folder: Path) -> TrialFolder:
    parts = [safe_name(part) for part in folder.relative_to(root).parts]
    videos = sorted(
        path for path in (folder / "videos").iterdir() if path.suffix.lower() in VIDEO_SUFFIXES
    )
    calibration, problem = _calibration(root, folder)
    return TrialFolder(
        path=folder,
        subject="-".join(parts[:-1]) or safe_name(root.resolve().name),
        name=parts[-1] if parts else "trial",
        videos=tuple(videos),
        calibration=calibration,
        problem=problem,
    )


def safe_name(name: str) -> str:
    """Letters, digits, dots and hyphens: ids become file names, joined by underscores."""
    return _UNSAFE.sub("-", name).strip("-.") or "unnamed"


def _calibration(root: Path, folder: Path) -> tuple[Path | None, str]:
    """The calibration file of a trial, or None and why not."""
    place = folder
    while True:
        below = place / "calibration"
        if below.is_dir():
            files = sorted(
                path
                for path in below.iterdir()
                if path.name.endswith(CALIBRATION_SUFFIXES) and path.name != _SETTINGS_FILE
            )
            # Pose2Sim converts other formats into a .toml beside them: then that is the one.
            converted = [path for path in files if path.suffix == ".toml"]
            chosen = converted if len(files) > 1 and len(converted) == 1 else files
            if len(chosen) == 1:
                return chosen[0], ""
            names = ", ".join(path.name for path in files) or "none"
            kinds = ", ".join(f"*{suffix}" for suffix in CALIBRATION_SUFFIXES)
            return None, f"{below} must hold one calibration file ({kinds}); it holds: {names}"
        if place == root:
            return None, f"no folder 'calibration' beside {folder / 'videos'} or above it"
        place = place.parent


def match_cameras(
    videos: Sequence[Path], cameras: Sequence[str], calibration: str
) -> dict[str, Path]:
    """Camera -> its video, by name.

    A file belongs to the camera whose name it has; else to the only one whose name it contains
    between separators ("cam01_walk.mp4"); else to the only one with the same number ("cam1.mp4",
    "int_cam_01"). Never by order: a missing file would shift every camera after it.

    Raises:
        InvalidInputError: a video without a camera, or two videos of one camera.
    """
    matched: dict[str, Path] = {}
    for video in videos:
        candidates = _candidates(video.stem, cameras)
        if len(candidates) != 1:
            found = "matches " + " and ".join(candidates) if candidates else "has no camera"
            raise InvalidInputError(
                f"video {video.name}",
                f"{found} in {calibration}",
                f"Calibrated: {', '.join(cameras)}. Name each video after its camera.",
            )
        if candidates[0] in matched:
            other = matched[candidates[0]].name
            raise InvalidInputError(
                f"videos {other} and {video.name}", f"are both of camera {candidates[0]}"
            )
        matched[candidates[0]] = video
    return matched


def _candidates(stem: str, cameras: Sequence[str]) -> list[str]:
    rules = (
        lambda camera: camera.lower() == stem.lower(),
        lambda camera: camera.lower() in _tokens(stem),
        lambda camera: _number(camera) is not None and _number(camera) == _number(stem),
    )
    for rule in rules:
        candidates = [camera for camera in cameras if rule(camera)]
        if candidates:
            return candidates
    return []


def _tokens(stem: str) -> set[str]:
    """Every run of parts of a name: "cam_01_walk" holds "cam_01"."""
    parts = re.split(r"([_\-. ]+)", stem.lower())
    return {
        "".join(parts[begin:end])
        for begin in range(0, len(parts), 2)
        for end in range(begin + 1, len(parts) + 1, 2)
    }


def _number(name: str) -> int | None:
    """The only number in a name."""
    numbers = re.findall(r"\d+", name)
    return int(numbers[0]) if len(numbers) == 1 else None


def camera_ids(cameras: Mapping[str, Path]) -> dict[str, str]:
    """Camera -> its part of a recording id."""
    return {camera: safe_name(camera) for camera in cameras}
