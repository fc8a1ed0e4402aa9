"""A picture of each view: where the landmarker saw the body, and where triangulation puts it."""

from __future__ import annotations

import cv2
import numpy as np

from d3ke.arrays import BoolArray, FloatArray, ImageArray

Color = tuple[int, int, int]

BONES: tuple[tuple[str, str], ...] = (
    *(("right_" + a, "left_" + a) for a in ("hip", "shoulder")),
    *(
        (f"{side}_{a}", f"{side}_{b}")
        for side in ("right", "left")
        for a, b in (
            ("hip", "knee"),
            ("knee", "ankle"),
            ("ankle", "heel"),
            ("heel", "foot_index"),
            ("ankle", "foot_index"),
            ("hip", "shoulder"),
            ("shoulder", "elbow"),
            ("elbow", "wrist"),
            ("shoulder", "ear"),
            ("ear", "eye"),
        )
    ),
    *((f"{side}_eye", "nose") for side in ("right", "left")),
)
"""Lines between landmarks."""

_RIGHT, _LEFT, _MIDDLE = (255, 138, 48), (64, 170, 255), (245, 245, 245)
_USED, _LEFT_OUT, _SHADOW = (120, 255, 160), (255, 60, 60), (20, 20, 20)
_LONGEST_SIDE = 1280


def draw_landmarks(
    image: ImageArray, points: dict[str, FloatArray], seen: FloatArray, used: BoolArray
) -> ImageArray:
    """The picture with lines between the points and rings where they were seen.

    Args:
        image: [H, W, 3] RGB.
        points: landmark -> [2] px; NaN = none.
        seen: [K, 2] px.
        used: [K] bool.
    """
    scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    drawn = np.array(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    unit = max(size) / 720.0
    places = {name: (point + 0.5) * scale - 0.5 for name, point in points.items()}
    for thickness, shadow in ((4.0, True), (2.0, False)):
        for start, end in BONES:
            if start not in places or end not in places:
                continue
            if np.isfinite([places[start], places[end]]).all():
                color = _SHADOW if shadow else _side(start, end)
                ends = _pixel(places[start]), _pixel(places[end])
                cv2.line(drawn, *ends, color, max(1, round(thickness * unit)), cv2.LINE_AA)
    for point, is_used in zip((seen + 0.5) * scale - 0.5, used, strict=True):
        if np.isfinite(point).all():
            color = _USED if is_used else _LEFT_OUT
            cv2.circle(
                drawn, _pixel(point), round(3.5 * unit), color, max(1, round(unit)), cv2.LINE_AA
            )
    return drawn


def _side(start: str, end: str) -> Color:
    sides = {name.split("_")[0] for name in (start, end)}
    if sides <= {"right", "nose"}:
        return _RIGHT
    return _LEFT if sides <= {"left", "nose"} else _MIDDLE


def _pixel(point: FloatArray) -> tuple[int, int]:
    x, y = np.clip(point, -1e4, 1e4)
    return round(float(x)), round(float(y))
