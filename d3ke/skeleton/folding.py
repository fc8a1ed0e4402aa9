"""What the skeletal-model layer can work out before it runs.

Bodies joined without a moving axis form a *segment*; only the moving joints, one per segment,
are left to compute. Every quantity is expressed in segment axes, so that at run time a body, a
joint centre or a marker costs one rotation of one vector, whatever chain of welds carries it.
Segments are sorted by depth: ground is segment 0, and a parent comes before its children.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from d3ke.arrays import BoolArray, IntArray
from d3ke.errors import UnsupportedModelError
from d3ke.skeleton.functions import CoordinateFunction
from d3ke.skeleton.skeleton import GROUND, Skeleton

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


Terms = dict[int, Array]
"""A position that is linear in the scales of bodies: the sum of map [3, 3] @ scale of a body [3].
Body N (the number of bodies) stands for ground, whose scale is always 1."""


@dataclass(frozen=True, kw_only=True)
class Slide:
    """A moving translation axis of a segment's joint."""

    segment: int
    function: CoordinateFunction
    direction: Array
    """[3] in the axes of the inboard segment, or of the outboard one for a reversed joint."""
    outboard: bool
    scale_body: int
    weights: Array
    """[3] factor = weights . scale; all zero = 1."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Bodies that move as one, and the joint that moves them in their parent segment."""

    parent: int
    """Index of the inboard segment; ground (0) is its own parent."""
    depth: int
    """Joints between it and ground."""
    angles: tuple[CoordinateFunction, ...]
    """Three: the angle about each rotation axis."""
    rotation_terms: Array
    """[3, 3, 3, 3] axis, (1, sin, cos), matrix: factors of the segment's rotation in its parent,
    the fixed rotations before and after folded into the first and last."""
    axes: Array
    """[3, 3] the three rotation axes: the first in the axes of the inboard segment, the second in
    those after the first factor, the third in the segment's own. Negative for a reversed joint."""
    inboard: Terms
    """Joint origin in the inboard segment."""
    outboard: Terms
    """Joint origin in the segment."""
    slides: tuple[Slide, ...]


@dataclass(frozen=True, kw_only=True)
class Folding:
    """Static structure of a skeleton with N bodies, S segments, J joints and M markers."""

    segments: list[Segment]
    """S, ground first."""
    body_segments: Indices
    """[N]"""
    body_rotations: Array
    """[N, 3, 3] in the segment."""
    body_points: list[Terms]
    """N origins of the bodies, in their segments."""
    joint_segments: Indices
    """[J] segment of each joint's child frame."""
    joint_points: list[Terms]
    marker_segments: Indices
    """[M]"""
    marker_points: list[Terms]
    root_segment: int
    """Segment moved by the root joint, or -1."""

    @property
    def parents(self) -> Indices:
        """[S] inboard segments."""
        return np.array([segment.parent for segment in self.segments], dtype=np.int64)

    @property
    def depths(self) -> Indices:
        """[S] joints between each segment and ground, ascending."""
        return np.array([segment.depth for segment in self.segments], dtype=np.int64)

    @property
    def ancestry(self) -> BoolArray:
        """[S, S] True where the column's segment is the row's or carries it; ground carries
        nothing."""
        result = np.eye(len(self.segments), dtype=bool)
        for index, segment in enumerate(self.segments[1:], 1):
            result[index] |= result[segment.parent]
        result[:, 0] = False
        return result

    def selected(self, bodies: IntArray, joints: IntArray, markers: IntArray) -> Folding:
        """Only these rows, in this order, and the segments between them and ground."""
        body_segments = self.body_segments[bodies]
        joint_segments = self.joint_segments[joints]
        marker_segments = self.marker_segments[markers]
        needed = {0, *body_segments, *joint_segments, *marker_segments}
        for index in range(len(self.segments) - 1, 0, -1):
            if index in needed:
                needed.add(self.segments[index].parent)
        kept = sorted(int(index) for index in needed)
        place = {old: new for new, old in enumerate(kept)}
        return Folding(
            segments=[_moved(self.segments[old], place) for old in kept],
            body_segments=_placed(body_segments, place),
            body_rotations=self.body_rotations[bodies],
            body_points=[self.body_points[row] for row in bodies],
            joint_segments=_placed(joint_segments, place),
            joint_points=[self.joint_points[row] for row in joints],
            marker_segments=_placed(marker_segments, place),
            marker_points=[self.marker_points[row] for row in markers],
            root_segment=place.get(self.root_segment, -1),
        )


def _moved(segment: Segment, place: dict[int, int]) -> Segment:
    """A segment after renumbering."""
    slides = tuple(replace(slide, segment=place[slide.segment]) for slide in segment.slides)
    return replace(segment, parent=place[segment.parent], slides=slides)


def _placed(segments: Indices, place: dict[int, int]) -> Indices:
    return np.array([place[int(segment)] for segment in segments], dtype=np.int64)


def _skew(axis: Array) -> Array:
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def _rotation_terms(axis: Array) -> Array:
    """[3, 3, 3]: the matrices of 1, sin and cos in Rodrigues' formula."""
    along = np.outer(axis, axis)
    return np.stack([along, _skew(axis), np.eye(3) - along])


def _rotation(axis: Array, angle: float) -> Array:
    return np.tensordot([1.0, np.sin(angle), np.cos(angle)], _rotation_terms(axis), 1)


def _tree(skeleton: Skeleton) -> Iterator[tuple[int, bool]]:
    """(joint, reversed) from ground outwards; a joint is reversed if its child is nearer ground."""
    reached = {GROUND}
    waiting = list(range(len(skeleton.joints)))
    while waiting:
        progress = False
        for joint in list(waiting):
            ends = int(skeleton.joint_parents[joint]), int(skeleton.joint_children[joint])
            inside = [end in reached for end in ends]
            if all(inside):
                raise UnsupportedModelError(
                    f"joint {skeleton.joints[joint]!r}", "closed loop of bodies", ["trees"]
                )
            if any(inside):
                waiting.remove(joint)
                reached.update(ends)
                progress = True
                yield joint, inside[1]
        if not progress:
            name = skeleton.joints[waiting[0]]
            raise UnsupportedModelError(
                f"joint {name!r}", "joint of bodies without a path to ground", ["trees"]
            )
    for index, body in enumerate(skeleton.bodies):
        if index not in reached:
            raise UnsupportedModelError(f"body {body!r}", "body without a joint", ["trees"])


class _Folder:
    """Collects a `Folding` while walking the joints from ground outwards."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        count = len(skeleton.bodies)
        self.count = count
        still = np.stack([_rotation_terms(np.eye(3)[0])] * 3)
        ground = Segment(
            parent=0,
            depth=0,
            angles=(CoordinateFunction(),) * 3,
            rotation_terms=still,
            axes=np.zeros((3, 3)),
            inboard={},
            outboard={},
            slides=(),
        )
        self.segments = [ground]
        self.body_segments = np.zeros(count + 1, dtype=np.int64)
        self.body_rotations = np.tile(np.eye(3), (count + 1, 1, 1))
        self.body_points: list[Terms] = [{} for _ in range(count + 1)]
        self.root_segment = -1

    def body(self, index: int) -> int:
        return self.count if index == GROUND else index

    def constant_slide_map(self, joint: int) -> Array:
        """Constant translations as a map of the parent body's scale (or of ones)."""
        skeleton, result = self.skeleton, np.zeros((3, 3))
        for slot in range(3):
            function = skeleton.functions[joint][3 + slot]
            weights = skeleton.translation_weights[joint, slot]
            if not function.is_constant or function.constant == 0.0:
                continue
            along = skeleton.parent_rotations[joint] @ skeleton.axes[joint, 3 + slot]
            if not weights.any():
                raise UnsupportedModelError(
                    f"axis {slot + 4} of joint {skeleton.joints[joint]!r}",
                    "constant translation that scaling leaves alone",
                    ["constant translations that scale with the parent body"],
                )
            result += function.constant * np.outer(along, weights)
        return result

    def add(self, joint: int, is_reversed: bool) -> None:
        """Take in the next joint."""
        skeleton = self.skeleton
        parent = self.body(int(skeleton.joint_parents[joint]))
        child = self.body(int(skeleton.joint_children[joint]))
        parent_map = skeleton.parent_offset_maps[joint] + self.constant_slide_map(joint)
        child_map = skeleton.child_offset_maps[joint]
        if is_reversed:
            ends = (child, child_map, parent, parent_map)
        else:
            ends = (parent, parent_map, child, child_map)
        if all(function.is_constant for function in skeleton.functions[joint]):
            self._weld(joint, is_reversed, *ends)
        else:
            self._move(joint, is_reversed, *ends)

    def _weld(
        self, joint: int, is_reversed: bool, near: int, near_map: Array, far: int, far_map: Array
    ) -> None:
        skeleton = self.skeleton
        turn = skeleton.parent_rotations[joint]
        for slot in range(3):
            angle = skeleton.functions[joint][slot].constant
            turn = turn @ _rotation(skeleton.axes[joint, slot], angle)
        turn = turn @ skeleton.child_rotations[joint].T
        turn = turn.T if is_reversed else turn
        rotation = self.body_rotations[near]
        self.body_segments[far] = self.body_segments[near]
        self.body_rotations[far] = rotation @ turn
        joint_origin = _plus(self.body_points[near], near, rotation @ near_map)
        own = -self.body_rotations[far] @ far_map
        self.body_points[far] = _plus(joint_origin, far, own)

    def _move(
        self, joint: int, is_reversed: bool, near: int, near_map: Array, far: int, far_map: Array
    ) -> None:
        skeleton = self.skeleton
        rotation = self.body_rotations[near]
        terms = np.stack([_rotation_terms(skeleton.axes[joint, slot]) for slot in range(3)])
        terms[0] = skeleton.parent_rotations[joint] @ terms[0]
        terms[2] = terms[2] @ skeleton.child_rotations[joint].T
        angles = skeleton.functions[joint][:3]
        # In the frames between the factors; the last in the segment's own axes.
        axes = skeleton.axes[joint, :3].copy()
        if is_reversed:
            terms, angles = terms[::-1].swapaxes(-1, -2), angles[::-1]
            axes = -axes[::-1]
        terms = terms.copy()
        terms[0] = rotation @ terms[0]
        frames = (skeleton.parent_rotations[joint], skeleton.child_rotations[joint])
        before, after = frames[::-1] if is_reversed else frames
        axes[0], axes[2] = rotation @ before @ axes[0], after @ axes[2]
        segment = len(self.segments)
        inboard = int(self.body_segments[near])
        self.body_segments[far] = segment
        self.segments.append(
            Segment(
                parent=inboard,
                depth=self.segments[inboard].depth + 1,
                angles=angles,
                rotation_terms=terms,
                axes=axes,
                inboard=_plus(self.body_points[near], near, rotation @ near_map),
                outboard=_plus({}, far, far_map),
                slides=tuple(self._slides(joint, segment, is_reversed, rotation)),
            )
        )
        if joint == skeleton.root_joint:
            self.root_segment = segment

    def _slides(
        self, joint: int, segment: int, is_reversed: bool, rotation: Array
    ) -> Iterator[Slide]:
        skeleton = self.skeleton
        for slot in range(3):
            function = skeleton.functions[joint][3 + slot]
            if function.is_constant:
                continue
            direction = skeleton.parent_rotations[joint] @ skeleton.axes[joint, 3 + slot]
            yield Slide(
                segment=segment,
                function=function,
                direction=direction if is_reversed else rotation @ direction,
                outboard=is_reversed,
                scale_body=self.body(int(skeleton.joint_parents[joint])),
                weights=skeleton.translation_weights[joint, slot],
            )

    def _points(self, bodies: Indices, maps: Array) -> tuple[Indices, list[Terms]]:
        """Segments and terms of points given as maps in the axes of their bodies."""
        rows = [self.body(int(body)) for body in bodies]
        turned = [self.body_rotations[row] @ maps[i] for i, row in enumerate(rows)]
        terms = [_plus(self.body_points[r], r, t) for r, t in zip(rows, turned, strict=True)]
        return self.body_segments[rows], terms

    def result(self) -> Folding:
        """The finished structure, segments sorted by depth."""
        skeleton = self.skeleton
        order = np.argsort([segment.depth for segment in self.segments], kind="stable")
        place = {int(old): new for new, old in enumerate(order)}
        joints, joint_points = self._points(skeleton.joint_children, skeleton.child_offset_maps)
        markers, marker_points = self._points(skeleton.marker_bodies, skeleton.marker_offset_maps)
        return Folding(
            segments=[_moved(self.segments[old], place) for old in order],
            body_segments=_placed(self.body_segments[:-1], place),
            body_rotations=self.body_rotations[:-1],
            body_points=self.body_points[:-1],
            joint_segments=_placed(joints, place),
            joint_points=joint_points,
            marker_segments=_placed(markers, place),
            marker_points=marker_points,
            root_segment=place.get(self.root_segment, -1),
        )


def _plus(terms: Terms, body: int, more: Array) -> Terms:
    """Terms with a map added to one body's."""
    return terms | {body: terms.get(body, 0.0) + more}


def fold(skeleton: Skeleton) -> Folding:
    """Work out a skeleton's static structure; UnsupportedModelError for a closed loop."""
    folder = _Folder(skeleton)
    for joint, is_reversed in _tree(skeleton):
        folder.add(joint, is_reversed)
    return folder.result()
