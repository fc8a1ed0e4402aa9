"""A frame of a trial's video with the label row that belongs to it, seen by the camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from d3ke.arrays import FloatArray, ImageArray
from d3ke.camera import project
from d3ke.errors import InvalidInputError
from d3ke_platform.data_set import DataSet
from d3ke_platform.stages.crop import camera_of
from d3ke_platform.stages.decode import frames

POINTS = ("joint_centers", "markers_measured", "markers_model")
"""Columns of LABELS that are drawn, in this order."""
_MARGIN = 0.18
"""Around the person, in longer sides of the person."""
_FEWEST_SEEN = 0.3
"""Share of the measured markers that must be in the picture."""


@dataclass(frozen=True, kw_only=True)
class VideoStill:
    """A picture and where the labelled points are in it."""

    camera: str
    frame: int
    """Index in the recording."""
    row: int
    """Row of the labels nearest in time."""
    image: ImageArray
    pixels: tuple[FloatArray, FloatArray, FloatArray]
    """[n,2] each, as `POINTS`; NaN behind the camera."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom [px] of the person with a margin."""

    @property
    def shape(self) -> float:
        """Width over height of a panel for the box."""
        left, top, right, bottom = self.box
        return float(np.clip((right - left) / (bottom - top), 0.5, 1.6))


def find_still(
    data: DataSet,
    recordings: Sequence[Mapping[str, Any]],
    labels: Mapping[str, np.ndarray],
    row: int,
) -> tuple[VideoStill | None, str]:
    """The first view of a label row that can be shown, or None and why there is none.

    Args:
        data: The data set.
        recordings: Rows of RECORDINGS of the trial.
        labels: time_s and the columns `POINTS` of the trial.
        row: Row of the labels.
    """
    reasons = []
    for recording in recordings:
        try:
            return _still(data, recording, labels, row), ""
        except InvalidInputError as error:
            reasons.append(f"camera {recording['camera']}: {str(error).rstrip('.')}")
    return None, "; ".join(reasons)


def _still(
    data: DataSet, recording: Mapping[str, Any], labels: Mapping[str, np.ndarray], row: int
) -> VideoStill:
    name = f"recording {recording['recording_id']}"
    if not recording["calibrated"] or not recording["uri"]:
        raise InvalidInputError(name, "has no calibrated camera or no video")
    frame, shown = frame_and_row(recording, labels["time_s"], row)
    path = data.resolve(recording["uri"])
    image = next(frames(path, first=int(recording["first_frame"]) + frame, count=1)).image
    camera = camera_of(dict(recording))
    if image.shape[1::-1] != camera.size:
        reason = f"has pictures of {image.shape[1::-1]} px, its camera of {camera.size}"
        raise InvalidInputError(str(path), reason)
    joints, measured, model = (project(camera, labels[key][shown]) for key in POINTS)
    seen = np.isfinite(measured).all(axis=1)
    inside = (measured[seen] >= 0).all(axis=1) & (measured[seen] < camera.size).all(axis=1)
    if not inside.size or inside.mean() < _FEWEST_SEEN:
        raise InvalidInputError(name, f"does not show the markers in its frame {frame}")
    return VideoStill(
        camera=str(recording["camera"]),
        frame=frame,
        row=shown,
        image=image,
        pixels=(joints, measured, model),
        box=_box(np.concatenate([joints, measured]), camera.size),
    )


def frame_and_row(recording: Mapping[str, Any], time_s: FloatArray, row: int) -> tuple[int, int]:
    """Frame of a recording nearest in time to a label row, and the label row nearest to it.

    Args:
        recording: A row of RECORDINGS.
        time_s: [T] s, of the trial's labels.
        row: Row of the labels.
    """
    moment = time_s[row] - time_s[0] - recording["start_s"]
    frame = int(np.clip(round(moment * recording["fps"]), 0, recording["frame_count"] - 1))
    shown_at = time_s[0] + recording["start_s"] + frame / recording["fps"]
    return frame, int(np.abs(time_s - shown_at).argmin())


def _box(points: FloatArray, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Around the points [n,2] px, within the picture of that width and height."""
    points = np.clip(points[np.isfinite(points).all(axis=1)], 0, np.array(size) - 1)
    low, high = points.min(axis=0), points.max(axis=0)
    pad = _MARGIN * max(float((high - low).max()), 8.0)
    left, top = np.maximum(low - pad, -0.5)
    right, bottom = np.minimum(high + pad, np.array(size) - 0.5)
    return float(left), float(top), float(right), float(bottom)
