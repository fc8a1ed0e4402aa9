"""A tiny multi-camera input folder whose keypoints are known: no landmarker is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from d3ke.arrays import FloatArray
from d3ke.camera import Camera, project
from d3ke_platform import files
from d3ke_platform.calibration import ground_from_world
from d3ke_platform.sources.multicamera_views import KEYPOINTS
from d3ke_platform.sources.video import VideoWriter
from d3ke_platform.stages.detect_mediapipe import LANDMARK_NAMES

SIZE = (96, 160)
RATE = 30.0


def cameras(count: int = 3) -> dict[str, Camera]:
    """cam01, cam02, ...: 4 m around the origin."""
    made = {}
    for index in range(count):
        angle = 2.0 * np.pi * index / count + 0.4
        place = np.array([4.0 * np.cos(angle), 1.3, 4.0 * np.sin(angle)])
        made[f"cam{index + 1:02d}"] = Camera.looking_at(
            place, np.array([0.0, 0.9, 0.0]), focal=130.0, size=SIZE
        )
    return made


def calibration_toml(views: Mapping[str, Camera], *, up_axis: str = "z") -> str:
    """Pose2Sim's format, the world's `up_axis` pointing up."""
    tables = []
    for name, camera in views.items():
        to_world = ground_from_world(up_axis)
        rotation, _ = cv2.Rodrigues(camera.rotation @ to_world)
        tables.append(
            f'[{name}]\nname = "{name}"\nsize = [{SIZE[0]}, {SIZE[1]}]\n'
            f"matrix = {camera.intrinsics.tolist()}\ndistortions = [0.0, 0.0, 0.0, 0.0]\n"
            f"rotation = {rotation.ravel().tolist()}\n"
            f"translation = {camera.translation.tolist()}\nfisheye = false\n"
        )
    return "\n".join([*tables, "[metadata]\nerror = 0.0\n"])


def standing_body(frames: int = 12, *, turn: float = 0.3, size: float = 1.0) -> FloatArray:
    """[T, 33, 3] m: a person of simple shape who bends the knees and raises the arms slowly."""
    points = np.zeros((frames, 33, 3))
    for frame in range(frames):
        bend = 0.5 * np.sin(np.pi * frame / max(frames - 1, 1))
        for name, place in _pose(bend).items():
            points[frame, LANDMARK_NAMES.index(name)] = place
    heading = np.array(
        [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    )
    return size * points @ heading.T


def _pose(bend: float) -> dict[str, FloatArray]:
    """Landmarks with bent knees (rad) and arms raised to the side by as much."""
    hip_height = 0.08 + 0.38 + 0.40 * np.cos(bend)
    places: dict[str, FloatArray] = {}
    for side, z in (("right", 1.0), ("left", -1.0)):
        hip = np.array([0.0, hip_height, 0.09 * z])
        knee = hip + 0.40 * np.array([np.sin(bend), -np.cos(bend), 0.0])
        ankle = knee + np.array([0.0, -0.38, 0.0])
        shoulder = hip + np.array([0.0, 0.50, 0.09 * z])
        elbow = shoulder + 0.28 * np.array([0.0, -np.cos(bend), np.sin(bend) * z])
        wrist = elbow + 0.25 * np.array([0.1, -np.cos(bend), np.sin(bend) * z])
        ear = np.array([0.02, hip_height + 0.68, 0.07 * z])
        places |= {
            f"{side}_hip": hip,
            f"{side}_knee": knee,
            f"{side}_ankle": ankle,
            f"{side}_heel": ankle + np.array([-0.05, -0.06, 0.0]),
            f"{side}_foot_index": ankle + np.array([0.15, -0.07, 0.02 * z]),
            f"{side}_shoulder": shoulder,
            f"{side}_elbow": elbow,
            f"{side}_wrist": wrist,
            f"{side}_ear": ear,
            f"{side}_eye": ear + np.array([0.08, 0.02, -0.04 * z]),
            f"{side}_eye_inner": ear + np.array([0.09, 0.02, -0.05 * z]),
            f"{side}_eye_outer": ear + np.array([0.07, 0.02, -0.03 * z]),
            f"mouth_{side}": ear + np.array([0.09, -0.05, -0.04 * z]),
            f"{side}_pinky": wrist + 0.3 * (wrist - elbow),
            f"{side}_index": wrist + 0.35 * (wrist - elbow) + np.array([0.03, 0.0, 0.0]),
            f"{side}_thumb": wrist + 0.2 * (wrist - elbow) + np.array([0.05, 0.0, 0.0]),
        }
    places["nose"] = np.array([0.13, hip_height + 0.66, 0.0])
    return places


def write_keypoints(uri: files.Location, pixels: FloatArray, confidence: FloatArray) -> None:
    """A KEYPOINTS table as `detect_view` writes it."""
    boxes = np.concatenate([pixels.min(axis=1) - 2.0, pixels.max(axis=1) + 2.0], axis=1)
    table = KEYPOINTS.to_arrow(
        {
            "frame": np.arange(len(pixels)),
            "time_s": np.arange(len(pixels)) / RATE,
            "pixels": pixels,
            "confidence": confidence,
            "box": boxes,
        }
    )
    files.write_table(uri, table)


@dataclass(frozen=True)
class FakeDetector:
    """Writes the keypoints of known bodies in place of looking at the videos."""

    bodies: Mapping[str, FloatArray]
    """Trial folder's name -> [T, 33, 3] m."""
    views: Mapping[str, Camera]

    def __call__(self, video: Path, _detector: object, uri: files.Location) -> None:
        body = self.bodies[video.parent.parent.name]
        pixels = project(self.views[video.stem], body)
        write_keypoints(uri, pixels, np.ones(pixels.shape[:2]))


def write_video(path: Path, frames: int) -> None:
    """A grey video."""
    with VideoWriter(path, size=SIZE, fps=RATE) as writer:
        for _ in range(frames):
            writer.write(np.full((SIZE[1], SIZE[0], 3), 120, np.uint8))


def write_trial(folder: Path, names: Sequence[str], frames: int = 12) -> None:
    """videos/<name>.mp4 in a trial's folder."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for name in names:
        write_video(folder / f"videos/{name}.mp4", frames)


def write_calibration(folder: Path, text: str, name: str = "Calib.toml") -> Path:
    """calibration/<name> in a folder."""
    (folder / "calibration").mkdir(parents=True, exist_ok=True)
    path = folder / "calibration" / name
    path.write_text(text)
    return path
