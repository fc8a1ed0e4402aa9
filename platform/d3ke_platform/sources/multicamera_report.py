"""The quality page's section on triangulation: how well the views agree, camera by camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.camera import Camera, project
from d3ke.kinematics import read_trc
from d3ke_platform import files
from d3ke_platform.schema import RECORDINGS
from d3ke_platform.sources.multicamera_pictures import draw_landmarks
from d3ke_platform.sources.multicamera_trial import REPROJECTION
from d3ke_platform.sources.multicamera_views import KEYPOINTS
from d3ke_platform.stages.crop import camera_of, encode_jpeg
from d3ke_platform.stages.decode import frames
from d3ke_platform.stages.detect_mediapipe import LANDMARK_NAMES

SECTION = "triangulation"
_PICTURED_TRIALS = 2
_PICTURED_CAMERAS = 6


def write_report(folder: Path, trials: Sequence[str]) -> None:
    """Write quality/triangulation.json and its pictures.

    Args:
        folder: the data set.
        trials: ids of all trials; those that were rejected are passed over.
    """
    summaries = {
        name: files.read_json(uri)
        for name in trials
        if files.exists(uri := folder / f"views/{name}.json")
    }
    content = {
        "title": "Triangulation",
        "text": _text(summaries, len(trials)),
        "table": _table(summaries),
        "pictures": _pictures(folder, summaries),
    }
    files.write_json(folder / f"quality/{SECTION}.json", content)


def _text(summaries: Mapping[str, Any], total: int) -> str:
    if not summaries:
        return f"None of {total} trials could be triangulated."
    frames_ = np.array([entry["frames"] for entry in summaries.values()], float)

    def mean(key: str) -> float:
        values = np.array([entry[key] for entry in summaries.values()], float)
        return float((values * frames_).sum() / frames_.sum())

    return (
        f"{len(summaries)} of {total} trials, {int(frames_.sum())} frames: mean reprojection error "
        f"{mean('mean_reprojection_px'):.1f} px over the views that a point rests on, on average "
        f"{mean('mean_views'):.1f} views; {100 * mean('share_missing'):.1f} % of the landmarks "
        "are missing before gaps are bridged. Pictures: lines are the smoothed trajectories, rings "
        "what the landmarker saw, green where the point rests on it, red where it was left out."
    )


def _table(summaries: Mapping[str, Any]) -> dict[str, Any]:
    """A row per camera, over all trials."""
    by_camera: dict[str, list[tuple[float, int]]] = {}
    for entry in summaries.values():
        for camera, error in entry["mean_reprojection_px_by_camera"].items():
            if error is not None:
                by_camera.setdefault(camera, []).append((error, entry["frames"]))
    rows = []
    for camera, values in sorted(by_camera.items()):
        errors, counts = np.array(values, float).T
        mean = float((errors * counts).sum() / counts.sum())
        rows.append([camera, mean, float(errors.max()), len(values)])
    return {
        "columns": [
            "camera",
            "mean reprojection error [px]",
            "of its worst trial [px]",
            "trials",
        ],
        "rows": rows,
    }


def _pictures(folder: Path, summaries: Mapping[str, Any]) -> list[dict[str, str]]:
    """The middle frame of the worst trials, camera by camera."""
    worst = sorted(summaries, key=lambda name: -summaries[name]["mean_reprojection_px"])
    pictures = []
    for trial in worst[:_PICTURED_TRIALS]:
        made = files.read_json(folder / f"units/{trial}.json")
        for recording in made["recordings"][:_PICTURED_CAMERAS]:
            name = f"{SECTION}_{recording['recording_id']}.jpg"
            row = summaries[trial]["frames"] // 2
            files.write_bytes(folder / f"quality/{name}", draw_view(folder, recording, row))
            error = summaries[trial]["mean_reprojection_px_by_camera"][recording["camera"]]
            pictures.append(
                {
                    "file": name,
                    "title": f"{trial}, {recording['camera']}",
                    "caption": f"Frame {row}; mean error of this view {error or 0.0:.1f} px.",
                }
            )
    return pictures


def draw_view(folder: Path, recording: Mapping[str, Any], row: int) -> bytes:
    """JPEG of one frame of a recording with its landmarks.

    Args:
        folder: the data set.
        recording: row of RECORDINGS.
        row: the trial's frame.
    """
    camera: Camera = camera_of({name: recording[name] for name in RECORDINGS.column_names})
    markers = read_trc(folder / f"trials/{recording['trial_id']}.trc")
    points = project(camera, markers.positions[row])
    frame = next(frames(recording["uri"], first=recording["first_frame"] + row, count=1))
    keypoints = KEYPOINTS.to_numpy(
        files.read_table(folder / f"views/{recording['recording_id']}_keypoints.parquet")
    )
    chosen = [LANDMARK_NAMES.index(name) for name in markers.names]
    seen = keypoints["pixels"][recording["first_frame"] + row, chosen].astype(float)
    table = REPROJECTION.to_numpy(
        files.read_table(folder / f"views/{recording['trial_id']}_reprojection.parquet")
    )
    of_view = (table["camera"] == recording["camera"]) & (table["frame"] == row)
    image = draw_landmarks(
        frame.image,
        dict(zip(markers.names, points, strict=True)),
        seen,
        table["used"][of_view][0],
    )
    return encode_jpeg(image)
