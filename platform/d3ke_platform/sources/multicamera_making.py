"""Making the units of multi-camera recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError
from d3ke.kinematics import MarkerSet, MarkerTrajectories, read_trc, write_trc
from d3ke.kinematics.triangulation import TriangulationSettings
from d3ke_platform import files
from d3ke_platform.calibration import (
    camera_from_json,
    camera_to_json,
    ground_from_world,
    read_cameras,
)
from d3ke_platform.sources import MadeUnit, calibrated_columns
from d3ke_platform.sources.ground_axes import settle_up_axis, up_axis_of
from d3ke_platform.sources.landmarks import LANDMARKS
from d3ke_platform.sources.multicamera_report import write_report
from d3ke_platform.sources.multicamera_settings import MultiCameraSettings
from d3ke_platform.sources.multicamera_trial import (
    TriangulatedTrial,
    body_boxes,
    reprojection_table,
    trial_summary,
    triangulate_trial,
    trunk_vectors,
)
from d3ke_platform.sources.multicamera_units import GROUND, REPORT, TRIAL, VIEW
from d3ke_platform.sources.multicamera_views import (
    View,
    check_synchronous,
    detect_view,
    read_view,
    write_boxes,
)
from d3ke_platform.sources.static_pose import by_name, choose_static_frame, static_points

if TYPE_CHECKING:
    from d3ke_platform.stages.detect_mediapipe import MediaPipeDetector

_STATIC_FRAMES, _STATIC_RATE_HZ = 7, 10.0  # longer than the half second that scaling averages


class MultiCameraMaker:
    """Makes units, one after the other, in one process."""

    def __init__(self, settings: MultiCameraSettings, task_file: str) -> None:
        self.settings = settings
        self._task_file = task_file
        self._triangulation = TriangulationSettings(
            min_views=settings.min_views,
            confidence_threshold=settings.confidence_threshold,
            scale_px=settings.scale_px,
            outlier_px=settings.outlier_px,
            max_error_px=settings.max_error_px,
        )

    def make(self, unit: Mapping[str, Any], folder: Path) -> MadeUnit:
        """One unit; raises InvalidInputError when its recordings cannot be used."""
        if unit["phase"] == TRIAL:
            return self._make_trial(unit, folder)
        if unit["phase"] == VIEW:
            detect_view(Path(unit["video"]), self._detector, _keypoints_uri(folder, unit["view"]))
        elif unit["phase"] == GROUND:
            self._make_ground(unit, folder)
        elif unit["phase"] == REPORT:
            write_report(folder, unit["trials"])
        else:
            self._make_static(unit, folder)
        return MadeUnit()

    @cached_property
    def _detector(self) -> MediaPipeDetector:
        from d3ke_platform.stages.detect_mediapipe import MediaPipeDetector

        return MediaPipeDetector(self._task_file)

    def _make_ground(self, unit: Mapping[str, Any], folder: Path) -> None:
        """Which axis points up, and the cameras in ground."""
        file = Path(unit["calibration"])
        cameras = read_cameras(file, up_axis="y")  # the file's own axes
        trunks = []
        for trial in unit["trials"]:
            views = _views(folder, trial)
            if len(views) >= self._triangulation.min_views:
                trunks.append(trunk_vectors(views, cameras, self._triangulation))
        found = up_axis_of(np.concatenate(trunks)) if trunks else ""
        # A .json calibration is in ground by definition: people may only confirm it.
        wanted = "y" if file.suffix == ".json" else self.settings.up_axis
        up_axis = settle_up_axis(file.name, wanted, found)
        to_ground = ground_from_world(up_axis)
        content = {
            "calibration": str(file),
            "up_axis": up_axis,
            "cameras": {
                name: camera_to_json(replace(camera, rotation=camera.rotation @ to_ground.T))
                for name, camera in cameras.items()
            },
        }
        files.write_json(_ground_uri(folder, unit["ground"]), content)

    def _make_trial(self, unit: Mapping[str, Any], folder: Path) -> MadeUnit:
        ground = _ground_uri(folder, unit["ground"])
        if not files.exists(ground):
            raise InvalidInputError(
                f"trial {unit['trial_id']}",
                f"its calibration could not be oriented; see the reject {unit['ground']!r}",
            )
        cameras = {
            name: camera_from_json(values)
            for name, values in files.read_json(ground)["cameras"].items()
        }
        views = _views(folder, unit["views"])
        _require_views(unit, views, self._triangulation.min_views)
        trial = triangulate_trial(
            f"trial {unit['trial_id']}",
            views,
            cameras,
            tuple(LANDMARKS),
            count=check_synchronous(views, max_difference=self.settings.max_frame_difference),
            settings=self._triangulation,
            max_gap_s=self.settings.max_gap_s,
            cutoff_hz=self.settings.cutoff_hz,
        )
        return self._write_trial(unit, trial, views, folder)

    def _write_trial(
        self,
        unit: Mapping[str, Any],
        trial: TriangulatedTrial,
        views: list[View],
        folder: Path,
    ) -> MadeUnit:
        name, count = unit["trial_id"], len(trial.trajectories)
        (folder / "trials").mkdir(parents=True, exist_ok=True)
        write_trc(folder / f"trials/{name}.trc", trial.markers())
        files.write_table(
            folder / f"views/{name}_reprojection.parquet", reprojection_table(trial, views)
        )
        files.write_json(folder / f"views/{name}.json", trial_summary(trial, views))
        row = {
            "trial_id": name,
            "subject": unit["subject"],
            "movement": unit["movement"],
            "split": unit["split"],
            "rate_hz": trial.rate_hz,
            "frame_count": count,
            "markers_uri": f"trials/{name}.trc",
            "ik_setup_uri": "",
        }
        recordings = []
        for view, camera in zip(views, trial.cameras, strict=True):
            recording = unit["views"][view.camera]["view"]
            boxes = body_boxes(trial, view, camera)
            write_boxes(view, boxes, trial.first, folder / f"boxes/{recording}.parquet")
            recordings.append(_recording_row(row, recording, view, camera, trial))
        return MadeUnit(trials=[row], recordings=recordings)

    def _make_static(self, unit: Mapping[str, Any], folder: Path) -> None:
        what = f"static pose of {unit['subject']}"
        paths = {name: folder / f"trials/{name}.trc" for name in unit["trials"]}
        trials = {name: read_trc(path) for name, path in paths.items() if path.is_file()}
        name, frame = choose_static_frame(
            what, trials, trial=unit["static_trial"], frame=unit["static_frame"]
        )
        points = {n: by_name(trial) for n, trial in trials.items()}
        pose = {landmark: position[frame] for landmark, position in points[name].items()}
        placed = static_points(what, pose, list(points.values()), symmetric=self.settings.symmetric)
        still = MarkerTrajectories(
            names=tuple(placed),
            positions=np.tile(np.stack(list(placed.values())), (_STATIC_FRAMES, 1, 1)),
            times=np.arange(_STATIC_FRAMES) / _STATIC_RATE_HZ,
            rate_hz=_STATIC_RATE_HZ,
        )
        markers = self._marker_set().complete(still)
        path = folder / _static_uri(unit["subject"])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_trc(path, markers)
        files.write_json(folder / f"views/{unit['unit']}.json", {"trial": name, "frame": frame})

    def _marker_set(self) -> MarkerSet:
        own = self.settings.marker_set
        return MarkerSet.load(own) if own else MarkerSet.builtin("mediapipe")


def _views(folder: Path, views: Mapping[str, Mapping[str, str]]) -> list[View]:
    """Those whose keypoints could be made."""
    return [
        read_view(uri, camera, Path(view["video"]))
        for camera, view in sorted(views.items())
        if files.exists(uri := _keypoints_uri(folder, view["view"]))
    ]


def _require_views(unit: Mapping[str, Any], views: list[View], least: int) -> None:
    if len(views) < least:
        lost = sorted(set(unit["views"]) - {view.camera for view in views})
        raise InvalidInputError(
            f"trial {unit['trial_id']}",
            f"{len(views)} of its {len(unit['views'])} views can be used, {least} are needed",
            f"See the rejects of {', '.join(lost)}." if lost else "",
        )


def _recording_row(
    trial: Mapping[str, Any],
    recording: str,
    view: View,
    camera: Camera,
    triangulated: TriangulatedTrial,
) -> dict[str, Any]:
    return {
        **{key: trial[key] for key in ("trial_id", "subject", "movement", "split", "frame_count")},
        "recording_id": recording,
        "camera": view.camera,
        "uri": str(view.video),
        "content_hash": files.content_hash(view.video),
        "first_frame": triangulated.first,
        "start_s": 0.0,
        "fps": view.fps,
        **calibrated_columns(camera),
    }


def _keypoints_uri(folder: Path, view: str) -> str:
    return str(folder / f"views/{view}_keypoints.parquet")


def _ground_uri(folder: Path, ground: str) -> str:
    return str(folder / f"views/{ground}.json")


def _static_uri(subject: str) -> str:
    return f"subjects/{subject}_static.trc"
