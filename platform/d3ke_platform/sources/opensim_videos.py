"""Videos of OpenSim users' trials: which belongs to which trial and camera, and is it in step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.camera import Camera, project, to_camera
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerTrajectories
from d3ke_platform import storage
from d3ke_platform.calibration import camera_for_video, read_cameras
from d3ke_platform.sources import calibrated_columns
from d3ke_platform.stages.decode import probe

_SEPARATORS = "_-. "
_VIDEO_FOLDERS = ("video", "videos")
_SEEN = 0.5
"""Share of the markers that must lie in the picture, over the whole video."""


def match_videos(
    videos: Sequence[Path], trials: Sequence[Path], folder: Path
) -> tuple[dict[Path, list[tuple[str, Path]]], list[Path]]:
    """Marker file -> its (camera, video)s, and the videos that belong to none.

    A video is named <trial>_<camera>, or <trial> in a folder <camera>, or <camera> in a folder
    <trial>. The camera is "" where there is nothing to tell it by.
    """
    matched: dict[Path, list[tuple[str, Path]]] = {}
    left: list[Path] = []
    by_stem = sorted(((t.stem.lower(), t) for t in trials), key=lambda pair: -len(pair[0]))
    for video in videos:
        stem, parent = video.stem, video.parent
        above = "" if parent == folder or parent.name.lower() in _VIDEO_FOLDERS else parent.name
        for name, trial in by_stem:
            if stem.lower() == name:
                matched.setdefault(trial, []).append((above, video))
            elif stem.lower().startswith(name) and stem[len(name)] in _SEPARATORS:
                camera = stem[len(name) :].strip(_SEPARATORS)
                matched.setdefault(trial, []).append((camera, video))
            elif above.lower() == name:
                matched.setdefault(trial, []).append((stem, video))
            else:
                continue
            break
        else:
            left.append(video)
    return matched, left


def recording_row(
    unit: dict[str, Any], whole: MarkerTrajectories, labelled: MarkerTrajectories
) -> dict[str, Any]:
    """Row of RECORDINGS of a video.

    Args:
        unit: video, camera, calibration (paths; "" = none), video_start_s, most_length_difference_s
            and the trial's ids.
        whole: the marker file, uncut, ground.
        labelled: the frames that get labels.

    Raises:
        InvalidInputError: no calibration, a video that cannot be read, is not as long as the
            markers, or does not show them.
        UnknownNameError: no camera of that name in the calibration.
    """
    video = Path(unit["video"])
    info = probe(video)
    what = f"video {video.name}"
    start_s = unit["video_start_s"]
    end_s = start_s + info.frame_count / info.fps
    lasts = len(whole.times) / whole.rate_hz
    if abs(end_s - lasts) > unit["most_length_difference_s"] + 1 / info.fps:
        raise InvalidInputError(
            what,
            f"is not synchronised with its markers: {info.frame_count} frames at {info.fps:.4g} "
            f"per second end {end_s:.2f} s after the first marker frame, {len(whole.times)} marker "
            f"frames at {whole.rate_hz:g} per second after {lasts:.2f} s",
            "Cut them alike, or state opensim.video_start_s or opensim.most_length_difference_s.",
        )
    camera = camera_for_video(_camera(unit, what), (info.width, info.height), unit["camera"])
    offset = float(whole.times[0] + start_s - labelled.times[0])
    _check_seen(what, camera, labelled)
    return {
        "recording_id": unit["recording_id"],
        **{key: unit[key] for key in ("trial_id", "subject", "movement", "split")},
        "camera": unit["camera"] or "camera",
        "uri": str(video.resolve()),
        "content_hash": storage.content_hash(video),
        "first_frame": 0,
        "start_s": offset,
        "fps": info.fps,
        "frame_count": info.frame_count,
        **calibrated_columns(camera),
    }


def _camera(unit: dict[str, Any], what: str) -> Camera:
    if not unit["calibration"]:
        raise InvalidInputError(
            what,
            "has no camera calibration beside it",
            "Add one (.toml, .qca.txt, .json), or name it by opensim.calibration.",
        )
    cameras = read_cameras(unit["calibration"])
    name = unit["camera"]
    if name in cameras:
        return cameras[name]
    if not name and len(cameras) == 1:
        return next(iter(cameras.values()))
    calibration = Path(unit["calibration"]).name
    raise UnknownNameError(f"camera of {what} in {calibration}", name, cameras)


def _check_seen(what: str, camera: Camera, markers: MarkerTrajectories) -> None:
    points = markers.positions[np.isfinite(markers.positions).all(-1)]
    if not len(points):
        return
    pixels = project(camera, points)
    in_front = to_camera(camera, points)[:, 2] > 0.0
    inside = in_front & ((pixels >= 0.0) & (pixels < np.array(camera.size))).all(-1)
    if inside.mean() < _SEEN:
        raise InvalidInputError(
            what,
            f"shows {100 * inside.mean():.0f} % of the markers by its calibration: cameras and "
            "markers are not in the same frame, or the camera is another",
            "Calibrations of z-up laboratories become ground by (y, z, x), as marker files with "
            "opensim.up_axis z do.",
        )
