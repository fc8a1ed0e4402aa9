"""Person boxes without a learned model file: OpenCV's pedestrian detector, else motion.

Rough by nature; it exists so that a first run needs no download. The histogram detector finds
upright people; where it finds too little, the box is that of what moves before a still background.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from d3ke.arrays import FloatArray, ImageArray
from d3ke_platform.stages.decode import Frame
from d3ke_platform.stages.detect import Detection

_SEARCH_SIDE = 640
_MINIMUM_WEIGHT = 0.7
# The detector's 64 x 128 window holds a person 96 px high in its middle.
_PERSON_HEIGHT, _PERSON_WIDTH = 0.75, 0.62
_ENOUGH_FRAMES = 0.5
_LEAST_HEIGHT, _LEAST_WIDTH, _MOST_ENLARGED = 160, 80, 8.0

_MOTION_SIDE = 240
_MOTION_FRAMES = 2000
_MOTION_THRESHOLD = 25
_MINIMUM_MOTION_HEIGHT = 0.1
_WHOLE_PICTURE = 0.6


class FallbackDetector:
    """Pedestrian detector; motion where that finds a person in too few frames."""

    name = "fallback"
    smooth = True

    def boxes(self, frames: Iterable[Frame]) -> list[Detection | None]:
        """Boxes of one video."""
        hog = _pedestrian_detector()
        motion = _Motion()
        found: list[Detection | None] = []
        for frame in frames:
            motion.add(frame.image)
            found.append(_pedestrian(hog, frame.image))
        if sum(item is not None for item in found) >= _ENOUGH_FRAMES * len(found):
            return found
        moving = motion.boxes()
        return moving if any(item is not None for item in moving) else found


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a look at a few frames of a video says about all of them."""

    background: FloatArray | None
    """Median small grey picture [h,w], against which a moving person stands out; None: people
    are found as pedestrians."""
    scale: float
    """Side of the small picture over the video's."""


SURVEYED_FRAMES = 24


def survey(frames: Iterable[Frame]) -> Survey | None:
    """Settle from frames spread over a video how people are found in it; None without frames."""
    hog, motion = _pedestrian_detector(), _Motion()
    seen = found = 0
    for frame in frames:
        motion.add(frame.image)
        seen += 1
        found += _pedestrian(hog, frame.image) is not None
    if not seen:
        return None
    upright = found >= _ENOUGH_FRAMES * seen
    background = None if upright else motion.background()
    return Survey(background=background, scale=motion.scale)


class FallbackFinder:
    """Pedestrian detector or motion, as a survey of the video has settled."""

    name = "fallback"
    smooth = True
    every_frame = False

    def __init__(self, survey: Survey | None) -> None:
        """`survey` of the same video; None finds pedestrians."""
        self._survey = survey
        self._hog = _pedestrian_detector()

    def people(self, frame: Frame) -> list[Detection]:
        """At most one person."""
        if self._survey is None or self._survey.background is None:
            found = _pedestrian(self._hog, frame.image)
        else:
            picture = _small_grey(frame.image, self._survey.scale)
            found = _moving_box(picture, self._survey.background, self._survey.scale)
        return [] if found is None else [found]


def _pedestrian_detector() -> Any:
    hog = cv2.HOGDescriptor()
    # OpenCV's type stubs lack this function.
    hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())  # type: ignore[attr-defined]
    return hog


def _small_grey(image: ImageArray, scale: float) -> ImageArray:
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _pedestrian(hog: Any, image: ImageArray) -> Detection | None:
    """The pedestrian of the highest weight, its window cut down to the body."""
    height, width = image.shape[:2]
    scale = min(1.0, _SEARCH_SIDE / max(height, width))
    # OpenCV ends the process on a picture smaller than the detector's window.
    scale = max(scale, _LEAST_HEIGHT / height, _LEAST_WIDTH / width)
    if scale > _MOST_ENLARGED:
        return None
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    windows, weights = hog.detectMultiScale(
        cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), winStride=(8, 8), padding=(16, 16), scale=1.05
    )
    if not len(windows) or float(np.max(weights)) < _MINIMUM_WEIGHT:
        return None
    x, y, wide, high = (float(value) for value in windows[int(np.argmax(weights))])
    half = np.array([wide * _PERSON_WIDTH, high * _PERSON_HEIGHT]) / 2
    center = np.array([x + wide / 2, y + high / 2])
    box = np.concatenate([center - half, center + half]) / scale
    return Detection(box, float(1 / (1 + np.exp(-np.max(weights)))))


class _Motion:
    """Difference of every frame to the video's median picture, on small grey copies."""

    def __init__(self) -> None:
        self._pictures: list[ImageArray] = []
        self._every = 1
        self._count = 0
        self.scale = 1.0

    def add(self, image: ImageArray) -> None:
        """Keep a small copy; every second copy is dropped when there are too many."""
        if self._count % self._every == 0:
            self.scale = min(1.0, _MOTION_SIDE / max(image.shape))
            self._pictures.append(_small_grey(image, self.scale))
        self._count += 1
        if len(self._pictures) > _MOTION_FRAMES:
            self._pictures = self._pictures[::2]
            self._every *= 2

    def boxes(self) -> list[Detection | None]:
        """One entry per added frame; None where nothing as large as a person moves."""
        found: list[Detection | None] = [None] * self._count
        if self._count:
            background = self.background()
            for number, picture in enumerate(self._pictures):
                found[number * self._every] = _moving_box(picture, background, self.scale)
        return found

    def background(self) -> FloatArray:
        """Median of the pictures [h,w]."""
        return np.median(self._pictures[:: max(1, len(self._pictures) // 50)], axis=0)


def _moving_box(picture: ImageArray, background: FloatArray, scale: float) -> Detection | None:
    """Box of the largest region that differs from the background."""
    differs = np.abs(picture.astype(float) - background) > _MOTION_THRESHOLD
    if differs.mean() > _WHOLE_PICTURE:
        return None  # the light or the camera changed, not a person
    kernel = np.ones((5, 5), np.uint8)
    mask = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_CLOSE, kernel, iterations=2)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    x, y, width, height = (float(value) for value in stats[largest, :4])
    if height < _MINIMUM_MOTION_HEIGHT * picture.shape[0]:
        return None
    box = (np.array([x, y, x + width, y + height]) - 0.5) / scale
    return Detection(box, 0.3)
