"""One trial of several views: points in space, smooth trajectories, how well the views agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.camera import Camera, project, to_camera
from d3ke.errors import InvalidInputError
from d3ke.kinematics.trajectories import fill_gaps, missing, smooth_butterworth
from d3ke.kinematics.triangulation import Triangulation, triangulate
from d3ke_platform.schema import Column, Table
from d3ke_platform.sources.multicamera_views import View, sized_camera
from d3ke_platform.sources.static_pose import with_middles
from d3ke_platform.stages.body_box import body_box
from d3ke_platform.stages.detect_mediapipe import LANDMARK_NAMES

if TYPE_CHECKING:
    from d3ke.kinematics import MarkerTrajectories
    from d3ke.kinematics.triangulation import TriangulationSettings

_FEWEST_LANDMARKS = 0.5
"""Share of the landmarks that a frame needs to be part of the trial."""
_SHORTEST_S = 0.2

REPROJECTION = Table(
    "reprojection",
    (
        Column("camera", "string"),
        Column("frame", "int32", description="from the trial's first label"),
        Column("error_px", "float32", ("K",), "px", description="NaN: view not used"),
        Column("used", "bool", ("K",), description="the point rests on this view"),
    ),
)
"""How far a trial's points lie from where each view saw them; K landmarks."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TriangulatedTrial:
    """Trajectories of the part of a trial in which the person is seen."""

    first: int
    """Index in the videos of the first frame."""
    rate_hz: float
    landmarks: tuple[str, ...]
    """K names."""
    trajectories: FloatArray
    """[T, K, 3] m in ground; gaps filled and smoothed, NaN where gaps are long."""
    seen: Triangulation
    """Unfilled, unsmoothed points, errors and views."""
    body: FloatArray
    """[T, 33, 3] m: all of `LANDMARK_NAMES`, filled and smoothed; for boxes."""
    cameras: tuple[Camera, ...]
    """V, at the sizes of the views' pictures."""

    def markers(self) -> MarkerTrajectories:
        """The trajectories as markers."""
        from d3ke.kinematics import MarkerTrajectories

        return MarkerTrajectories(
            names=self.landmarks,
            positions=self.trajectories,
            times=np.arange(len(self.trajectories)) / self.rate_hz,
            rate_hz=self.rate_hz,
        )


def triangulate_trial(
    what: str,
    views: Sequence[View],
    cameras: Mapping[str, Camera],
    landmarks: Sequence[str],
    *,
    count: int,
    settings: TriangulationSettings,
    max_gap_s: float,
    cutoff_hz: float,
) -> TriangulatedTrial:
    """Triangulate, cut, fill and smooth a trial.

    Args:
        what: the trial, for messages.
        views: of the same moments.
        cameras: by name, at the calibration's picture sizes.
        landmarks: K of `LANDMARK_NAMES`.
        count: frames that all views have.
        settings: of triangulation.
        max_gap_s: gaps up to this long are bridged, s.
        cutoff_hz: of the low-pass filter; 0 = none.

    Raises:
        InvalidInputError: the views do not agree on a person anywhere, or a size is wrong.
    """
    sized = tuple(sized_camera(view, cameras[view.camera]) for view in views)
    whole = triangulate(
        sized,
        np.stack([view.pixels[:count] for view in views]),
        np.stack([view.confidence[:count] for view in views]),
        settings,
    )
    chosen = [LANDMARK_NAMES.index(name) for name in landmarks]
    rate = float(np.mean([view.fps for view in views]))
    first, last = _extent(what, whole.points[:, chosen], rate, views, count)
    filled = fill_gaps(whole.points[first:last], round(max_gap_s * rate))
    body = smooth_butterworth(filled, rate_hz=rate, cutoff_hz=cutoff_hz)
    return TriangulatedTrial(
        first=first,
        rate_hz=rate,
        landmarks=tuple(landmarks),
        trajectories=body[:, chosen],
        seen=Triangulation(
            points=whole.points[first:last, chosen],
            errors_px=whole.errors_px[:, first:last, chosen],
            used=whole.used[:, first:last, chosen],
        ),
        body=body,
        cameras=sized,
    )


def _extent(
    what: str, points: FloatArray, rate: float, views: Sequence[View], count: int
) -> tuple[int, int]:
    """First frame, and the one after the last, in which most landmarks are placed."""
    there = (~missing(points)).mean(axis=1) >= _FEWEST_LANDMARKS
    if there.sum() < min(max(2.0, _SHORTEST_S * rate), count):
        people = ", ".join(f"{view.camera} {view.found[:count].mean():.0%}" for view in views)
        raise InvalidInputError(
            what,
            f"the views agree on a person in {there.sum()} of {count} frames only (someone is "
            f"found in: {people})",
            "Check that all videos start at the same moment, that the calibration is of these "
            "cameras and this session, and that all show the same person.",
        )
    frames = np.flatnonzero(there)
    return int(frames[0]), int(frames[-1]) + 1


def body_boxes(trial: TriangulatedTrial, view: View, camera: Camera) -> FloatArray:
    """[T, 4] px around the whole body in a view; NaN in frames in which nobody is found.

    From the triangulated body, which other views keep right where this one confuses the legs; from
    the view's own landmarks where a part of the body is not triangulated.
    """
    boxes = view.boxes[trial.first : trial.first + len(trial.body)].copy()
    pixels, metres = project(camera, trial.body), to_camera(camera, trial.body)
    for frame in np.flatnonzero(np.isfinite(pixels).all(axis=(1, 2))):
        boxes[frame] = body_box(pixels[frame], metres[frame] - metres[frame].mean(axis=0))
    return boxes


def reprojection_table(trial: TriangulatedTrial, views: Sequence[View]) -> Any:
    """Arrow table REPROJECTION of a trial."""
    shape = trial.seen.used.shape
    return REPROJECTION.to_arrow(
        {
            "camera": [view.camera for view in views for _ in range(shape[1])],
            "frame": np.tile(np.arange(shape[1]), shape[0]),
            "error_px": trial.seen.errors_px.reshape(-1, shape[2]),
            "used": trial.seen.used.reshape(-1, shape[2]),
        },
        {"K": shape[2]},
    )


def trial_summary(trial: TriangulatedTrial, views: Sequence[View]) -> dict[str, Any]:
    """Figures of a trial for people and reports; JSON values."""
    seen = trial.seen
    placed = ~missing(seen.points)
    return {
        "frames": len(seen.points),
        "first_frame": trial.first,
        "mean_reprojection_px": _rounded(seen.mean_error_px),
        "mean_reprojection_px_by_camera": {
            view.camera: _mean(errors) for view, errors in zip(views, seen.errors_px, strict=True)
        },
        "mean_reprojection_px_by_landmark": {
            name: _mean(seen.errors_px[:, :, column]) for column, name in enumerate(trial.landmarks)
        },
        "mean_views": _rounded(float(seen.used.sum(axis=0)[placed].mean())),
        "views": len(views),
        "share_missing": _rounded(float(1.0 - placed.mean())),
        "share_missing_after_filling": _rounded(float(missing(trial.trajectories).mean())),
    }


def trunk_vectors(
    views: Sequence[View],
    cameras: Mapping[str, Camera],
    settings: TriangulationSettings,
    *,
    most_frames: int = 60,
) -> FloatArray:
    """[n, 3] m from the hips to the shoulders, in the axes the cameras are given in."""
    names = [f"{side}_{part}" for part in ("hip", "shoulder") for side in ("right", "left")]
    chosen = [LANDMARK_NAMES.index(name) for name in names]
    count = min(len(view.times) for view in views)
    at = np.unique(np.linspace(0, count - 1, min(most_frames, count)).round().astype(int))
    seen = triangulate(
        [sized_camera(view, cameras[view.camera]) for view in views],
        np.stack([view.pixels[at][:, chosen] for view in views]),
        np.stack([view.confidence[at][:, chosen] for view in views]),
        settings,
    )
    points = {name: seen.points[:, column] for column, name in enumerate(names)}
    joined = with_middles(points)
    return np.asarray(joined["mid_shoulder"] - joined["mid_hip"])


def _mean(errors: FloatArray) -> float | None:
    known = errors[np.isfinite(errors)]
    return _rounded(float(known.mean())) if known.size else None


def _rounded(value: float) -> float:
    return round(value, 4)
