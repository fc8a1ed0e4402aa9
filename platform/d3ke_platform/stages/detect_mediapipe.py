"""Person boxes from MediaPipe's pose landmarker (CPU)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke_platform.stages.body_box import body_box
from d3ke_platform.stages.decode import Frame
from d3ke_platform.stages.detect import Detection

LANDMARK_NAMES = (
    "nose",
    *("left_eye_inner", "left_eye", "left_eye_outer"),
    *("right_eye_inner", "right_eye", "right_eye_outer"),
    *("left_ear", "right_ear", "mouth_left", "mouth_right"),
    *(
        f"{side}_{part}"
        for part in ("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "hip", "knee")
        for side in ("left", "right")
    ),
    *(f"{side}_{part}" for part in ("ankle", "heel", "foot_index") for side in ("left", "right")),
)
"""MediaPipe's names of the 33 landmarks, in its order."""


class Landmarks(NamedTuple):
    """The 33 pose landmarks of one person in one frame."""

    pixels: FloatArray
    """[33,2] px; parts outside the picture are extrapolated."""
    metres: FloatArray
    """[33,3] m from the middle of the hips, axes parallel to the image's."""
    presence: FloatArray
    """[33] probability of lying within the picture."""
    visibility: FloatArray
    """[33] probability of lying within the picture and not behind something."""


MOST_PEOPLE = 8
"""People looked for in one frame where each frame is looked at on its own."""


class MediaPipeFinder:
    """Boxes around the landmarks of everybody in a frame, each frame on its own."""

    name = "mediapipe"
    smooth = True
    every_frame = False

    def __init__(self, task_file: str, *, most_people: int = MOST_PEOPLE) -> None:
        """`task_file`: a pose_landmarker .task file (lite, full or heavy)."""
        from mediapipe.tasks.python import vision

        options = {"running_mode": vision.RunningMode.IMAGE, "num_poses": most_people}
        self._landmarker = _landmarker(task_file, **options)

    def people(self, frame: Frame) -> list[Detection]:
        """Everybody in one frame."""
        import mediapipe

        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame.image)
        height, width = frame.image.shape[:2]
        return [_detection(p) for p in _everybody(self._landmarker.detect(image), width, height)]


class MediaPipeDetector:
    """Boxes around the landmarks of the most prominent person.

    A body that the picture's edge cuts keeps its whole extrapolated box, so that its scale in the
    crop is that of a whole body, as in training.
    """

    name = "mediapipe"
    smooth = True

    def __init__(self, task_file: str) -> None:
        """`task_file`: a pose_landmarker .task file (lite, full or heavy)."""
        _check_task_file(task_file)
        self._task_file = task_file

    def boxes(self, frames: Iterable[Frame]) -> list[Detection | None]:
        """Boxes of one video."""
        return [
            None if landmarks is None else _detection(landmarks)
            for landmarks in self.landmarks(frames)
        ]

    def landmarks(self, frames: Iterable[Frame]) -> Iterator[Landmarks | None]:
        """Landmarks of one video's frames, None where no person is found."""
        import mediapipe
        from mediapipe.tasks.python import vision

        last_ms = -1
        # The landmarker follows the person from frame to frame, so each video needs its own.
        with _landmarker(self._task_file, running_mode=vision.RunningMode.VIDEO) as landmarker:
            for frame in frames:
                last_ms = max(last_ms + 1, round(frame.time_s * 1000))
                image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame.image)
                height, width = frame.image.shape[:2]
                found = _everybody(landmarker.detect_for_video(image, last_ms), width, height)
                yield found[0] if found else None


def _check_task_file(task_file: str) -> None:
    if not Path(task_file).is_file():
        raise InvalidInputError(f"--pose-model {task_file}", "no such file")


def _landmarker(task_file: str, **options: Any) -> Any:
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    _check_task_file(task_file)
    base = tasks.BaseOptions(model_asset_path=task_file)
    try:
        return vision.PoseLandmarker.create_from_options(
            vision.PoseLandmarkerOptions(base_options=base, **options)
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise InvalidInputError(
            f"--pose-model {task_file}",
            f"is not a MediaPipe pose landmarker ({str(error).splitlines()[0]})",
        ) from error


def _detection(landmarks: Landmarks) -> Detection:
    box = body_box(landmarks.pixels, landmarks.metres)
    return Detection(box, float(landmarks.presence.mean()))


def _everybody(result: Any, width: int, height: int) -> list[Landmarks]:
    """Landmarks of every person; MediaPipe measures from the corner of the first pixel, boxes
    from its centre."""
    return [
        Landmarks(
            pixels=np.array([[p.x * width - 0.5, p.y * height - 0.5] for p in image]),
            metres=np.array([[p.x, p.y, p.z] for p in world]),
            presence=np.array([p.presence for p in image]),
            visibility=np.array([p.visibility for p in image]),
        )
        for image, world in zip(result.pose_landmarks, result.pose_world_landmarks, strict=True)
    ]
