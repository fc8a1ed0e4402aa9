"""The worst frame of a trial: the model over the measured markers, and over the video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from d3ke.arrays import FloatArray, IntArray
from d3ke.skeleton import Skeleton
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.evaluation.plotting import Picture, panels, picture, title
from d3ke_platform.quality.label_figures import LabelFigures, TrialFigures
from d3ke_platform.quality.pose_drawing import PoseDrawing, draw_floor, draw_pose, name_markers
from d3ke_platform.quality.reject_groups import relative
from d3ke_platform.quality.video_still import POINTS, VideoStill, find_still
from d3ke_platform.schema import LABELS
from d3ke_platform.stages.overlay import Bones

_COLUMNS = ["time_s", "root_rotation", *POINTS, "marker_error_m", "coordinate_mask"]
_NO_VIDEO = 0.5
"""Width of the empty panel: all pictures have nearly one scale."""
_NAMED = 5
"""Markers named in a picture: those furthest off."""


def worst_trial_pictures(data: DataSet, figures: LabelFigures, *, count: int) -> list[Picture]:
    """A picture of each of the worst `count` trials, worst first."""
    worst = figures.worst_trials(count)
    names = {trial.trial_id for trial in worst}
    recordings: dict[str, list[dict[str, Any]]] = {}
    for row in data.recordings() if worst else ():
        if row["trial_id"] in names:
            recordings.setdefault(row["trial_id"], []).append(row)
    artist = _Artist(data, figures)
    return [artist.picture(trial, recordings.get(trial.trial_id, [])) for trial in worst]


class _Artist:
    """Draws trials of one data set."""

    def __init__(self, data: DataSet, figures: LabelFigures) -> None:
        self._data = data
        self._skeleton = data.skeleton()
        weighted = np.flatnonzero(figures.meaning.weights > 0.0)
        self._drawing = PoseDrawing(
            bones=Bones.of_skeleton(self._skeleton, [self._skeleton.markers[i] for i in weighted]),
            shown=weighted,
            names=self._skeleton.markers,
            holders=_holders(self._skeleton),
            far_m=figures.meaning.threshold_m,
        )

    def picture(self, trial: TrialFigures, recordings: Sequence[Mapping[str, Any]]) -> Picture:
        """Front, right side and, where there is one, a calibrated video."""
        uri = self._data.label_uri(trial.trial_id)
        labels = LABELS.to_numpy(storage.read_table(uri, _COLUMNS), _COLUMNS)
        still, reason = find_still(self._data, recordings, labels, trial.worst_row)
        wide = [1.0, 1.0, still.shape if still else _NO_VIDEO]
        figure, axes = panels(1, 3, width=3.4 * sum(wide), height=3.6, width_ratios=wide)
        errors = labels["marker_error_m"][trial.worst_row]
        named = self._drawing.furthest(errors, _NAMED)
        self._draw_views(axes[0], labels, trial.worst_row, named)
        self._draw_video(axes[0, 2], still)
        note = f" No video: {relative(reason, self._data.root)}." if reason else ""
        if still and still.row != trial.worst_row:
            note = f" The video shows frame {still.row}, the nearest that it has."
        worst = ", ".join(f"{self._drawing.names[i]} {1e3 * errors[i]:.0f}" for i in named)
        return picture(
            figure,
            heading=f"{trial.trial_id} ({trial.subject}, {trial.movement})",
            caption=f"Trial RMS {trial.rms_mm:.1f} mm, masked {trial.masked_rms_mm:.1f} mm, "
            f"{trial.over_percent:.1f} % of its marker-frames over the threshold. Worst frame "
            f"{trial.worst_row} of {trial.frames} ({labels['time_s'][trial.worst_row]:.2f} s): "
            f"{trial.worst_row_rms_mm:.1f} mm, furthest {worst} mm; "
            f"coordinates masked: {(~labels['coordinate_mask'][trial.worst_row]).sum()}.{note}",
            dpi=140,
            kind="jpeg",
        )

    def _draw_views(
        self, axes: Any, labels: Mapping[str, np.ndarray], row: int, named: Sequence[int]
    ) -> None:
        turn = facing(labels["root_rotation"][row])
        points = [labels[key][row] @ turn.T for key in POINTS]
        # Ground axes after turning: x forward, y up, z to the right.
        for axis, name, columns, signs in (
            (axes[0], "From the front", [2, 1], [-1.0, 1.0]),
            (axes[1], "From the right", [0, 1], [1.0, 1.0]),
        ):
            flat = [p[:, columns] * signs for p in points]
            draw_pose(axis, self._drawing, *flat)
            draw_floor(axis, np.concatenate(flat))
            name_markers(axis, self._drawing, flat[1], labels["marker_error_m"][row], named)
            title(axis, name)

    def _draw_video(self, axis: Any, still: VideoStill | None) -> None:
        axis.set_axis_off()
        if still is None:
            axis.text(0.5, 0.5, "no video", ha="center", color="#8a9099", transform=axis.transAxes)
            return
        left, top, right, bottom = still.box
        axis.imshow(still.image, interpolation="lanczos")
        draw_pose(axis, self._drawing, *still.pixels, halo=True)
        axis.set_xlim(left, right)
        axis.set_ylim(bottom, top)
        title(axis, f"Camera {still.camera}")


def _holders(skeleton: Skeleton) -> IntArray:
    """[M] joint that moves the body of each marker, -1 = ground."""
    moved_by = {int(child): joint for joint, child in enumerate(skeleton.joint_children)}
    return np.array([moved_by.get(int(body), -1) for body in skeleton.marker_bodies], int)


def facing(root_rotation: FloatArray) -> FloatArray:
    """Rotation [3,3] about the vertical that turns the pelvis (pelvis -> ground) to face ground x.

    The identity for a pelvis whose front points up or down.
    """
    x, _, z = root_rotation[:, 0]
    length = np.hypot(x, z)
    if not length > 0.1:
        return np.eye(3)
    cosine, sine = x / length, z / length
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
