"""The person's box in every frame of a video: detectors, the choice among them, the track."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.stages.decode import Frame

DETECTORS = ("auto", "mediapipe", "fasterrcnn", "fallback", "none")
POSE_MODEL_VARIABLE = "D3KE_POSE_MODEL"


class Detection(NamedTuple):
    """A person in one frame."""

    box: FloatArray
    """[x0,y0,x1,y1] px: tight around the body, from the top of the head to hands and feet."""
    confidence: float
    """0 to 1."""


class Detector(Protocol):
    """Finds the one person of a video; called once per video."""

    name: str
    smooth: bool
    """Whether its boxes jitter from frame to frame and gain from smoothing."""

    def boxes(self, frames: Iterable[Frame]) -> list[Detection | None]:
        """One entry per frame, None where no person was found."""
        ...


class PersonFinder(Protocol):
    """Finds everybody in one frame, whatever frames it has seen before: parts of a video can be
    looked at in any order."""

    name: str
    smooth: bool
    """Whether its boxes jitter from frame to frame and gain from smoothing."""
    every_frame: bool
    """Whether it costs next to nothing, so that no frame is left out."""

    def people(self, frame: Frame) -> list[Detection]:
        """One entry per person; the frame's index is that in the video."""
        ...


class KnownBoxes:
    """Boxes that are known beforehand."""

    name = "known"
    smooth = False
    every_frame = True

    def __init__(
        self, indices: Sequence[int] | FloatArray, boxes: FloatArray, confidence: FloatArray
    ) -> None:
        """Rows of a BOXES table: video frame indices [n], boxes [n,4] px, confidence [n]."""
        self._boxes = {
            int(index): Detection(np.asarray(box, float), float(value))
            for index, box, value in zip(indices, boxes, confidence, strict=True)
        }

    def boxes(self, frames: Iterable[Frame]) -> list[Detection | None]:
        """The known box of every frame."""
        return [self._boxes.get(frame.index) for frame in frames]

    def people(self, frame: Frame) -> list[Detection]:
        """The known box, with confidence 0 one between its neighbours, none without any."""
        if frame.index in self._boxes:
            return [self._boxes[frame.index]]
        if not self._boxes:
            return []
        known = sorted(self._boxes)
        sides = np.array([self._boxes[index].box for index in known])
        box = np.array([np.interp(frame.index, known, side) for side in sides.T])
        return [Detection(box, 0.0)]


class WholeImage:
    """Takes the whole picture for the person's box: for videos already cut to the person."""

    name = "none"
    smooth = False
    every_frame = True

    def boxes(self, frames: Iterable[Frame]) -> list[Detection | None]:
        """The picture's edges in every frame."""
        return [self.people(frame)[0] for frame in frames]

    def people(self, frame: Frame) -> list[Detection]:
        """The picture's edges."""
        height, width = frame.image.shape[:2]
        return [Detection(np.array([0.0, 0.0, width - 1.0, height - 1.0]), 1.0)]


class DetectorChoice(NamedTuple):
    """The detector that a job uses, settled once for all of its videos."""

    name: str
    """One of `DETECTORS`, never "auto"."""
    model: str
    """MediaPipe task file or detector weights; "" where none is needed."""
    warning: str
    """What the user should know about the choice; "" when nothing."""


def choose_detector(name: str, *, pose_model: str = "", weights: str = "") -> DetectorChoice:
    """Settle which detector runs.

    Args:
        name: One of `DETECTORS`; "auto" is MediaPipe where a task file is known, else the
            fallback with a warning.
        pose_model: MediaPipe pose landmarker task file; "" looks at the environment variable
            D3KE_POSE_MODEL.
        weights: Local weights of the Faster R-CNN; "" downloads them.

    Raises:
        UnknownNameError: no such detector.
        InvalidInputError: a file that was named does not exist.
    """
    if name not in DETECTORS:
        raise UnknownNameError("detector", name, DETECTORS)
    if weights and not Path(weights).is_file():
        raise InvalidInputError(f"--detector-weights {weights}", "no such file")
    if name in ("fasterrcnn", "none", "fallback"):
        return DetectorChoice(name, weights if name == "fasterrcnn" else "", "")
    task_file = pose_model or os.environ.get(POSE_MODEL_VARIABLE, "")
    if task_file:
        if not Path(task_file).is_file():
            raise InvalidInputError(
                f"pose model {task_file}",
                "no such file",
                f"Give the MediaPipe pose_landmarker .task file by --pose-model "
                f"or {POSE_MODEL_VARIABLE}.",
            )
        return DetectorChoice("mediapipe", task_file, "")
    if name == "mediapipe":
        raise InvalidInputError(
            "detector mediapipe",
            "no pose model is given",
            "Download a pose_landmarker .task file from the MediaPipe model page and give it by "
            f"--pose-model or {POSE_MODEL_VARIABLE}.",
        )
    warning = (
        "no pose model (--pose-model): people are found by the simple built-in detector, whose "
        "boxes are rough; angles suffer"
    )
    return DetectorChoice("fallback", "", warning)


def build_detector(choice: DetectorChoice, *, device: str = "auto") -> Detector:
    """The detector of a choice, in this process."""
    if choice.name == "mediapipe":
        from d3ke_platform.stages.detect_mediapipe import MediaPipeDetector

        return MediaPipeDetector(choice.model)
    if choice.name == "fasterrcnn":
        from d3ke_platform.stages.detect_fasterrcnn import FasterRCNNDetector

        return FasterRCNNDetector(choice.model, device=device)
    if choice.name == "fallback":
        from d3ke_platform.stages.detect_fallback import FallbackDetector

        return FallbackDetector()
    return WholeImage()


def build_finder(
    choice: DetectorChoice, *, device: str = "auto", survey: Any = None
) -> PersonFinder:
    """The finder of a choice, in this process.

    Args:
        choice: What `choose_detector` settled.
        device: Of a detector that is a network.
        survey: What the fallback needs to know of the video, a `detect_fallback.Survey`.
    """
    if choice.name == "mediapipe":
        from d3ke_platform.stages.detect_mediapipe import MediaPipeFinder

        return MediaPipeFinder(choice.model)
    if choice.name == "fasterrcnn":
        from d3ke_platform.stages.detect_fasterrcnn import FasterRCNNDetector

        return FasterRCNNDetector(choice.model, device=device)
    if choice.name == "fallback":
        from d3ke_platform.stages.detect_fallback import FallbackFinder

        return FallbackFinder(survey)
    return WholeImage()


@dataclass(frozen=True, kw_only=True)
class Track:
    """One person's box in every frame of a video."""

    boxes: FloatArray
    """[n,4] px."""
    confidence: FloatArray
    """[n]; 0 where the box is interpolated."""
    detected: int
    """Frames in which the detector found the person."""


def complete_track(
    what: str,
    detections: Sequence[Detection | None],
    times_s: FloatArray,
    *,
    smoothing_s: float = 0.0,
) -> Track:
    """Fill gaps between detections and, if wanted, smooth the boxes over time.

    Missing boxes are interpolated linearly in time between their neighbours, and held before
    the first and after the last detection.

    Args:
        what: The video, for messages.
        detections: One entry per frame.
        times_s: [n] s, increasing.
        smoothing_s: Standard deviation of the Gaussian over time, s; 0 leaves boxes as they are.

    Raises:
        InvalidInputError: "no person found" when there is no detection at all.
    """
    found = np.array([detection is not None for detection in detections], bool)
    if not found.any():
        raise InvalidInputError(what, f"no person found in its {len(detections)} frames")
    known = np.array([item.box for item in detections if item is not None])
    confidence = np.zeros(len(detections))
    confidence[found] = [item.confidence for item in detections if item is not None]
    boxes = np.stack(
        [np.interp(times_s, times_s[found], known[:, side]) for side in range(4)], axis=1
    )
    if smoothing_s > 0:
        boxes = _smooth(boxes, times_s, smoothing_s)
    return Track(boxes=boxes, confidence=confidence, detected=int(found.sum()))


def _smooth(values: FloatArray, times_s: FloatArray, sigma_s: float) -> FloatArray:
    """Gaussian mean over time of [n,C], exact for uneven times; no lag."""
    result = np.empty_like(values)
    first = np.searchsorted(times_s, times_s - 4 * sigma_s)
    last = np.searchsorted(times_s, times_s + 4 * sigma_s, side="right")
    for index, (begin, end) in enumerate(zip(first, last, strict=True)):
        offset = (times_s[begin:end] - times_s[index]) / sigma_s
        weight = np.exp(-0.5 * offset**2)
        # Near the ends the window is one-sided; a symmetric one avoids pulling the box inwards.
        reach = min(index - begin, end - 1 - index)
        near = slice(index - reach - begin, index + reach + 1 - begin)
        part = weight[near] / weight[near].sum()
        result[index] = part @ values[begin:end][near]
    return result
