"""Keypoints of one view: a pose landmarker on one video, stored as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.camera import Camera
from d3ke.errors import InvalidInputError
from d3ke_platform import files
from d3ke_platform.calibration import camera_for_video
from d3ke_platform.schema import BOXES, Column, Table
from d3ke_platform.stages.body_box import body_box
from d3ke_platform.stages.crop import DETECTION_SMOOTHING_S
from d3ke_platform.stages.decode import Frame, frames, probe
from d3ke_platform.stages.detect import Detection, complete_track
from d3ke_platform.stages.detect_mediapipe import LANDMARK_NAMES, MediaPipeDetector

KEYPOINTS = Table(
    "keypoints",
    (
        Column("frame", "int32", description="index in the video"),
        Column("time_s", "float64", unit="s", description="after the video's first frame"),
        Column("pixels", "float32", (len(LANDMARK_NAMES), 2), "px", "image", "NaN: no person"),
        Column("confidence", "float32", (len(LANDMARK_NAMES),), description="visible, 0 to 1"),
        Column("box", "float64", (4,), "px", "image", "around the whole body; NaN: no person"),
    ),
)
"""One video's landmarks, in the order of `LANDMARK_NAMES`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """What one camera's video shows."""

    camera: str
    video: Path
    fps: float
    size: tuple[int, int]
    """Width and height, px."""
    times: FloatArray
    """[T] s."""
    pixels: FloatArray
    """[T, 33, 2] px; NaN where nobody is found."""
    confidence: FloatArray
    """[T, 33]"""
    boxes: FloatArray
    """[T, 4] px; NaN where nobody is found."""

    @property
    def found(self) -> BoolArray:
        """[T] frames with a person."""
        return np.asarray(np.isfinite(self.boxes).all(axis=-1))


def detect_view(video: Path, detector: MediaPipeDetector, uri: files.Location) -> None:
    """Write the KEYPOINTS table of a video.

    Raises:
        InvalidInputError: the video is broken, or nobody is found in it.
    """
    times: list[float] = []

    def noted() -> Iterator[Frame]:
        for frame in frames(video):
            times.append(frame.time_s)
            yield frame

    blank = np.full((len(LANDMARK_NAMES), 2), np.nan)
    pixels, confidence, boxes = [], [], []
    for found in detector.landmarks(noted()):
        pixels.append(blank if found is None else found.pixels)
        confidence.append(np.zeros(len(blank)) if found is None else found.visibility)
        boxes.append(np.full(4, np.nan) if found is None else body_box(found.pixels, found.metres))
    if not np.isfinite(boxes).any():
        raise InvalidInputError(str(video), f"no person found in its {len(times)} frames")
    table = KEYPOINTS.to_arrow(
        {
            "frame": np.arange(len(times)),
            "time_s": times,
            "pixels": np.array(pixels),
            "confidence": np.array(confidence),
            "box": np.array(boxes),
        }
    )
    files.write_table(uri, table)


def read_view(uri: files.Location, camera: str, video: Path) -> View:
    """The view of a KEYPOINTS table. Raises InvalidInputError when the video is gone."""
    columns = KEYPOINTS.to_numpy(files.read_table(uri))
    info = probe(video)
    return View(
        camera=camera,
        video=video,
        fps=info.fps,
        size=(info.width, info.height),
        times=columns["time_s"],
        pixels=columns["pixels"].astype(float),
        confidence=columns["confidence"].astype(float),
        boxes=columns["box"],
    )


def sized_camera(view: View, camera: Camera) -> Camera:
    """The calibrated camera at the size of the view's pictures."""
    return camera_for_video(camera, view.size, f"{view.camera} ({view.video.name})")


def write_boxes(view: View, boxes: FloatArray, first: int, uri: files.Location) -> None:
    """BOXES of the part of a view from frame `first` on, [T, 4] px: smoothed, gaps bridged."""
    times = view.times[first : first + len(boxes)]
    found: BoolArray = np.asarray(np.isfinite(boxes).all(axis=-1))
    detections = [Detection(box, 1.0) if f else None for box, f in zip(boxes, found, strict=True)]
    track = complete_track(str(view.video), detections, times, smoothing_s=DETECTION_SMOOTHING_S)
    table = BOXES.to_arrow(
        {"frame": np.arange(len(boxes)), "box": track.boxes, "confidence": track.confidence}
    )
    files.write_table(uri, table)


def check_synchronous(views: list[View], *, max_difference: int) -> int:
    """Number of frames that all views have.

    Raises:
        InvalidInputError: lengths differ by more than `max_difference` frames, or frame rates by
            more than half a percent; each video with its own.
    """
    counts = {view.video.name: len(view.times) for view in views}
    shortest, longest = min(counts.values()), max(counts.values())
    if longest - shortest > max_difference:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InvalidInputError(
            "videos of one trial",
            f"differ in length by {longest - shortest} frames: {listed}",
            "Cut them so that frame i of all was taken at the same moment, or raise "
            "multicamera.max_frame_difference if only their ends differ.",
        )
    rates = {view.video.name: view.fps for view in views}
    if max(rates.values()) > 1.005 * min(rates.values()):
        listed = ", ".join(f"{name} {rate:.2f}" for name, rate in rates.items())
        raise InvalidInputError(
            "videos of one trial",
            f"differ in frame rate (1/s): {listed}",
            "Convert them to one rate.",
        )
    return shortest
