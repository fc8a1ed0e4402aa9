"""The estimated skeleton drawn over the video it was estimated from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from d3ke.arrays import FloatArray, ImageArray, IntArray
from d3ke.camera import Camera, project
from d3ke_platform.sources.video import VideoWriter
from d3ke_platform.stages.decode import Frame

Color = tuple[int, int, int]

RIGHT: Color = (255, 138, 48)
LEFT: Color = (64, 170, 255)
MIDDLE: Color = (245, 245, 245)
_MARKER: Color = (120, 255, 160)
_SHADOW: Color = (20, 20, 20)

_LONGEST_SIDE = 1280
_REFERENCE_SIDE = 720.0
_SUBPIXEL_BITS = 4
_SHORTEST_END_M = 0.03
# Read-outs: label, coordinate of the right side, of the left side; those the model has are shown.
_READ_OUTS = (
    ("hip flexion", "hip_flexion_r", "hip_flexion_l"),
    ("knee", "knee_angle_r", "knee_angle_l"),
    ("ankle", "ankle_angle_r", "ankle_angle_l"),
    ("shoulder", "shoulder_elv", "shoulder_elv_l"),
    ("elbow", "elbow_flexion", "elbow_flexion_l"),
)


@dataclass(frozen=True, kw_only=True)
class Bones:
    """What is drawn between which points: joint centres first, then markers."""

    pairs: IntArray
    """[L,2] indices into joint centres [J] followed by markers [M]."""
    colors: tuple[Color, ...]
    """Colour of each line."""
    markers: IntArray
    """Markers drawn as dots, indices into the skeleton's markers."""

    @classmethod
    def of_skeleton(cls, skeleton: Any, landmarks: Sequence[str]) -> Bones:
        """Lines along the joint tree; bodies at its ends get a line to their farthest landmark.

        `landmarks`: markers on the body's surface, by name; those the skeleton lacks are ignored.
        """
        shown = [
            skeleton.index_of("marker", name) for name in landmarks if name in skeleton.markers
        ]
        moved_by = {int(child): joint for joint, child in enumerate(skeleton.joint_children)}
        pairs: list[tuple[int, int]] = []
        bodies: list[int] = []
        for joint, parent in enumerate(skeleton.joint_parents):
            if int(parent) in moved_by:
                pairs.append((moved_by[int(parent)], joint))
                # The line lies in the parent body, but its side is that of the joint it leads to.
                bodies.append(int(skeleton.joint_children[joint]))
        parents = {int(parent) for parent in skeleton.joint_parents}
        for body in sorted(set(moved_by) - parents):
            end = _farthest_marker(skeleton, body, shown)
            if end is not None:
                pairs.append((moved_by[body], len(skeleton.joints) + end))
                bodies.append(body)
        names = skeleton.bodies
        return cls(
            pairs=np.array(pairs, int).reshape(-1, 2),
            colors=tuple(side_color(names[body], names) for body in bodies),
            markers=np.array(shown, int),
        )


def _farthest_marker(skeleton: Any, body: int, markers: Sequence[int]) -> int | None:
    """The marker of a body farthest from its joint; None when all are close to it."""
    own = [index for index in markers if int(skeleton.marker_bodies[index]) == body]
    if not own:
        return None
    # The joint frame's offset in its child body is small, the body's own origin stands for it.
    distance = np.linalg.norm(skeleton.marker_locations[own], axis=1)
    best = int(np.argmax(distance))
    return own[best] if distance[best] > _SHORTEST_END_M else None


def side_color(name: str, names: Sequence[str]) -> Color:
    """Colour of a body by its side, which names tell by _l and _r, or by having a twin in _l."""
    if name.endswith("_l"):
        return LEFT
    return RIGHT if name.endswith("_r") or f"{name}_l" in names else MIDDLE


class Overlay:
    """Draws results of one recording on its frames."""

    def __init__(
        self, skeleton: Any, landmarks: Sequence[str], camera: Camera, results: Mapping[str, Any]
    ) -> None:
        """Project everything once.

        Args:
            skeleton: The bundle's skeleton.
            landmarks: Names of the markers to draw.
            camera: Camera of the video, at the video's size.
            results: Columns of RESULTS for one person.
        """
        self._bones = Bones.of_skeleton(skeleton, landmarks)
        points = np.concatenate([results["joint_centers"], results["markers"]], axis=1)
        self._pixels = project(camera, points)
        self._joint_count = len(skeleton.joints)
        self._boxes, self._confidence = results["box"], results["confidence"]
        self._rows = {int(frame): row for row, frame in enumerate(results["frame"])}
        self._angles = _read_outs(skeleton, results["coordinates"])

    def draw(self, image: ImageArray, frame: Frame) -> bool:
        """Draw on `canvas(frame)`; returns whether the person is in the frame."""
        row = self._rows.get(frame.index)
        if row is None:
            return False
        self._draw_person(image, row, *_scale(image, frame))
        return True

    def draw_angles(self, image: ImageArray, frame: Frame) -> None:
        """A table of the person's angles in a corner of `canvas(frame)`."""
        row = self._rows.get(frame.index)
        if row is not None:
            angles = [(label, *values[row]) for label, values in self._angles.items()]
            _draw_panel(image, angles, frame.time_s, _scale(image, frame)[1])

    def _draw_person(self, image: ImageArray, row: int, factors: FloatArray, unit: float) -> None:
        _draw_box(image, self._boxes[row], factors, self._confidence[row] > 0, unit)
        points = (self._pixels[row] + 0.5) * factors - 0.5
        draw_bones(image, points, self._bones, unit)
        for point in points[self._joint_count :][self._bones.markers]:
            _dot(image, point, _MARKER, 1.8 * unit)


def draw_bones(
    image: ImageArray, points: FloatArray, bones: Bones, unit: float, color: Color | None = None
) -> None:
    """Draw lines between points [J+M,2] px in place, in their sides' colours or in `color`.

    Lines are 2.2 `unit` wide; those with an end that is not finite are left out.
    """
    ends = points[bones.pairs]
    colors = bones.colors if color is None else (color,) * len(bones.colors)
    for thickness, shadow in ((4.5, True), (2.2, False)):
        for (start, stop), own in zip(ends, colors, strict=True):
            if np.isfinite([start, stop]).all():
                _line(image, start, stop, _SHADOW if shadow else own, thickness * unit)
    for (_, stop), own in zip(ends, colors, strict=True):
        _dot(image, stop, own, 2.6 * unit)


def canvas(frame: Frame) -> ImageArray:
    """A copy of the frame to draw on, at most 1280 px large, sides even."""
    height, width = frame.image.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = (max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.array(cv2.resize(frame.image, size, interpolation=interpolation), np.uint8)


def draw_people(frame: Frame, overlays: Sequence[Overlay]) -> ImageArray:
    """The frame with everybody's skeleton, and the angles of the first who is in it."""
    image = canvas(frame)
    seen = [overlay for overlay in overlays if overlay.draw(image, frame)]
    if seen:
        seen[0].draw_angles(image, frame)
    return image


def write_overlay(
    target: Path, frames: Iterable[Frame], overlays: Sequence[Overlay], *, fps: float, crf: int = 23
) -> int:
    """Encode the drawn frames as .mp4, atomically; returns their number."""
    drawn = (draw_people(frame, overlays) for frame in frames)
    first = next(drawn, None)
    if first is None:
        return 0
    with VideoWriter(target, size=(first.shape[1], first.shape[0]), fps=fps, crf=crf) as writer:
        writer.write(first)
        for image in drawn:
            writer.write(image)
        return writer.frame_count


def _scale(image: ImageArray, frame: Frame) -> tuple[FloatArray, float]:
    """Canvas over frame in x and y, and the unit of line widths."""
    height, width = image.shape[:2]
    factors = np.array([width / frame.image.shape[1], height / frame.image.shape[0]])
    return factors, max(width, height) / _REFERENCE_SIDE


def _read_outs(skeleton: Any, coordinates: FloatArray) -> dict[str, FloatArray]:
    """[T,2] degrees, right and left, by label."""
    known = skeleton.coordinates
    return {
        label: np.rad2deg(coordinates[:, skeleton.index_of("coordinate", [right, left])])
        for label, right, left in _READ_OUTS
        if right in known and left in known
    }


def _draw_box(
    image: ImageArray, box: FloatArray, factors: FloatArray, detected: bool, unit: float
) -> None:
    """Corner marks of the person's box; grey where it was interpolated."""
    color = (250, 220, 90) if detected else (150, 150, 150)
    x0, y0, x1, y1 = (box.reshape(2, 2) * factors).reshape(4)
    reach = 0.12 * min(x1 - x0, y1 - y0)
    for x, inward_x in ((x0, reach), (x1, -reach)):
        for y, inward_y in ((y0, reach), (y1, -reach)):
            corner = np.array([[x + inward_x, y], [x, y], [x, y + inward_y]])
            for start, stop in pairwise(corner):
                _line(image, start, stop, color, 1.2 * unit)


def _draw_panel(
    image: ImageArray, angles: Sequence[tuple[str, float, float]], time_s: float, unit: float
) -> None:
    """Table of angles on a darkened corner."""
    size = max(0.36, 0.42 * unit)
    line = round(17 * max(unit, 0.8))
    width, height = round(line * 11.2), line * (len(angles) + 2) + line // 2
    corner = image[:height, :width]
    corner[:] = (corner * 0.35).astype(np.uint8)
    columns = (line // 2, round(line * 5.9), round(line * 8.6))
    rows = [("degrees", "right", "left")]
    rows += [(name, f"{right:5.0f}", f"{left:5.0f}") for name, right, left in angles]
    rows.append((f"{time_s:.2f} s", "", ""))
    for number, row in enumerate(rows):
        for x, text, color in zip(columns, row, (MIDDLE, RIGHT, LEFT), strict=True):
            place = (x, line * (number + 1))
            cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def _line(
    image: ImageArray, start: FloatArray, stop: FloatArray, color: Color, thickness: float
) -> None:
    cv2.line(
        image,
        _fixed_point(start),
        _fixed_point(stop),
        color,
        max(1, round(thickness)),
        cv2.LINE_AA,
        _SUBPIXEL_BITS,
    )


def _dot(image: ImageArray, point: FloatArray, color: Color, radius: float) -> None:
    if np.isfinite(point).all():
        fixed = max(1, round(radius * 2**_SUBPIXEL_BITS))
        cv2.circle(image, _fixed_point(point), fixed, color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _fixed_point(point: FloatArray) -> tuple[int, int]:
    """OpenCV's fixed-point coordinates; far outside points are limited, it overflows else."""
    x, y = np.clip(point, -1e5, 1e5) * 2**_SUBPIXEL_BITS
    return round(float(x)), round(float(y))
