"""A source whose labels are known exactly: the skeletal-model layer moves, its markers are seen.

Subjects are the generic model scaled evenly. Videos show the markers as dots.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from d3ke.camera import Camera, box_of_points, project
from d3ke.kinematics import MarkerSet, MarkerTrajectories, read_trc, write_trc
from d3ke.skeleton import (
    MeasurementSet,
    PredictedSet,
    SkeletalModelLayer,
    Skeleton,
    full_body_model_path,
)
from d3ke_platform import storage
from d3ke_platform.schema import BOXES
from d3ke_platform.sources import MadeUnit, SourcePlan
from d3ke_platform.sources.video import VideoWriter

RATE_HZ = 10.0
FRAMES = 8
SIZE = 96
SCALE = 1.05
MOVED = {"knee_angle_r": -0.9, "hip_flexion_r": 0.6, "hip_flexion_l": -0.3, "pelvis_rotation": 0.7}


@dataclass(frozen=True)
class LayerSource:
    """`damage`: file below the data set -> one of the functions of `DAMAGES`."""

    subjects: tuple[str, ...] = ("s1",)
    movements: tuple[str, ...] = ("bend",)
    damage: tuple[tuple[str, str], ...] = ()

    name = "layer"

    def plan(self, folder: Path) -> SourcePlan:
        rows = [
            {
                "subject": subject,
                "split": "train",
                "sex": "unknown",
                "height_m": 1.8,
                "mass_kg": 70.0,
                "static_uri": f"subjects/{subject}_static.trc",
                "scale_setup_uri": "",
                "scaled_model_uri": "",
            }
            for subject in self.subjects
        ]
        units = [
            {"unit": f"{subject}_{movement}", "subject": subject, "movement": movement}
            for subject in self.subjects
            for movement in ("static", *self.movements)
        ]
        return SourcePlan(
            model_osim=full_body_model_path(),
            marker_set=MarkerSet.builtin("anny"),
            measurements=MeasurementSet.full_body(),
            predicted=PredictedSet.full_body(),
            subjects=rows,
            units=units,
        )

    def make(self, unit: dict[str, Any], folder: Path) -> MadeUnit:
        subject, name = unit["subject"], unit["unit"]
        if unit["movement"] == "impossible":
            raise ValueError("cannot be made")
        still = unit["movement"] == "static"
        skeleton = Skeleton.load(folder / "skeleton.json")
        coordinates = true_coordinates(skeleton, 0 if still else FRAMES)
        markers = true_markers(skeleton, coordinates)
        uri = f"subjects/{name}.trc" if still else f"trials/{name}.trc"
        (folder / uri).parent.mkdir(parents=True, exist_ok=True)
        write_trc(folder / uri, trajectories(skeleton.markers, markers))
        if still:
            self._damage(folder)
            return MadeUnit()
        camera = Camera.looking_at(
            np.array([4.0, 1.0, 0.5]), np.array([0.0, 0.9, 0.0]), focal=110.0, size=(SIZE, SIZE)
        )
        film(folder, f"{name}_cam", camera, markers)
        self._damage(folder)
        trial = {
            "trial_id": name, "subject": subject, "movement": unit["movement"], "split": "train",
            "rate_hz": RATE_HZ, "frame_count": FRAMES, "markers_uri": uri, "ik_setup_uri": "",
        }  # fmt: skip
        return MadeUnit(trials=[trial], recordings=[recording_row(trial, camera)])

    def _damage(self, folder: Path) -> None:
        for uri, kind in self.damage:
            if (folder / uri).exists():
                DAMAGES[kind](folder / uri)


def true_coordinates(skeleton: Skeleton, frames: int) -> np.ndarray:
    """[T, Q]: the default pose (frames 0: five times), or legs that bend and a turn."""
    values = np.tile(skeleton.coordinate_defaults, (frames or 5, 1))
    for name, amplitude in MOVED.items() if frames else ():
        phase = np.linspace(0.0, np.pi, frames)
        values[:, skeleton.index_of("coordinate", name)] += amplitude * np.sin(phase)
    return values


def true_markers(skeleton: Skeleton, coordinates: np.ndarray) -> np.ndarray:
    """[T, M, 3] m."""
    scales = np.full((len(skeleton.bodies), 3), SCALE)
    layer = SkeletalModelLayer(skeleton)
    return layer(torch.from_numpy(coordinates), torch.from_numpy(scales)).markers.numpy()


def trajectories(names: tuple[str, ...], positions: np.ndarray) -> MarkerTrajectories:
    times = np.arange(len(positions)) / RATE_HZ
    return MarkerTrajectories(names=names, positions=positions, times=times, rate_hz=RATE_HZ)


def film(folder: Path, recording_id: str, camera: Camera, markers: np.ndarray) -> None:
    (folder / "videos").mkdir(exist_ok=True)
    pixels = [project(camera, frame) for frame in markers]
    with VideoWriter(folder / f"videos/{recording_id}.mp4", size=camera.size, fps=RATE_HZ) as video:
        for points in pixels:
            image = np.full((SIZE, SIZE, 3), 60, np.uint8)
            for x, y in points:
                cv2.circle(image, (round(x), round(y)), 2, (240, 200, 40), -1)
            video.write(image)
    boxes = np.stack([box_of_points(points) for points in pixels])
    data = {"frame": np.arange(len(boxes)), "box": boxes, "confidence": np.ones(len(boxes))}
    storage.write_table(folder / f"boxes/{recording_id}.parquet", BOXES.to_arrow(data))


def recording_row(trial: dict[str, Any], camera: Camera) -> dict[str, Any]:
    recording_id = f"{trial['trial_id']}_cam"
    return {
        "recording_id": recording_id,
        **{key: trial[key] for key in ("trial_id", "subject", "movement", "split")},
        "camera": "cam",
        "uri": f"videos/{recording_id}.mp4",
        "content_hash": "",
        "first_frame": 0,
        "start_s": 0.0,
        "fps": RATE_HZ,
        "frame_count": FRAMES,
        "width": SIZE,
        "height": SIZE,
        "intrinsics": camera.intrinsics,
        "rotation": camera.rotation,
        "translation": camera.translation,
        "distortion": camera.distortion,
        "calibrated": True,
    }


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def lose_a_marker(path: Path) -> None:
    """RASI (weighted) is not in the file at all."""
    old = read_trc(path)
    kept = [name for name in old.names if name not in ("RASI", "MASI")]
    write_trc(path, trajectories(tuple(kept), old.reordered(kept).positions))


def make_gaps(path: Path) -> None:
    """LANK is missing in frames 2 and 3, everything in frame 5."""
    old = read_trc(path)
    positions = old.positions.copy()
    positions[2:4, old.names.index("LANK")] = np.nan
    positions[5] = np.nan
    write_trc(path, trajectories(old.names, positions))


DAMAGES = {
    "empty": empty,
    "truncate": truncate,
    "lose_a_marker": lose_a_marker,
    "make_gaps": make_gaps,
}
