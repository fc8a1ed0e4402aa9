"""What the skeletal-model layer can work out before it runs.

Bodies joined without a moving axis form a *segment*; only the moving joints, one per segment,
are left to compute. Every quantity is expressed in segment axes, so that at run time a body, a
joint centre or a marker costs one rotation of one vector, whatever chain of welds carries it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d3ke.errors import UnsupportedModelError
from d3ke.skeleton.functions import CoordinateFunction
from d3ke.skeleton.skeleton import GROUND, Skeleton

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


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
class Folding:
    """Static structure of a skeleton with N bodies, S segments (the last one is ground), J joints
    and M markers. Body index N stands for ground, whose scale is always 1.

    A *link map* pair gives where a body sits in its segment: the position of its welded parent
    plus link_parent_maps @ scale[link_parents] + link_own_maps @ scale[own].
    """

    segment_parents: Indices
    """[S] ground is its own parent."""
    depth: int
    """Segments on the longest path from ground."""
    angle_functions: list[tuple[CoordinateFunction, ...]]
    """S-1 triples."""
    rotation_terms: Array
    """[S, 3, 3, 3, 3] axis, (1, sin, cos), matrix: factors of the segment's rotation in its
    parent, the fixed rotations before and after folded into the first and last."""
    slides: list[Slide]
    body_segments: Indices
    """[N+1]"""
    body_rotations: Array
    """[N+1, 3, 3] in the segment."""
    link_bodies: Indices
    """[N+1] the body each one is welded to, itself for the first body of a segment."""
    weld_depth: int
    link_parents: Indices
    """[N+1] body whose scale moves the weld's inboard frame."""
    link_parent_maps: Array
    link_own_maps: Array
    """[N+1, 3, 3] both."""
    inboard_bodies: Indices
    """[S]"""
    inboard_maps: Array
    """[S, 3, 3] joint origin beyond the inboard body's position, in inboard segment axes."""
    outboard_bodies: Indices
    outboard_maps: Array
    """[S, 3, 3] joint origin in the segment."""
    point_bodies: Indices
    """[N+J+M] bodies, joint centres, markers."""
    point_maps: Array
    """[N+J+M, 3, 3] beyond the body's position, in segment axes."""
    root_segment: int
    """Segment moved by the root joint, or -1."""


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
        self.segments: list[dict[str, object]] = []
        self.body_segments = np.full(count + 1, -1)
        self.body_rotations = np.tile(np.eye(3), (count + 1, 1, 1))
        self.link_bodies = np.arange(count + 1)
        self.link_parents = np.full(count + 1, count)
        self.link_parent_maps = np.zeros((count + 1, 3, 3))
        self.link_own_maps = np.zeros((count + 1, 3, 3))
        self.parents: list[int] = []
        self.angles: list[tuple[CoordinateFunction, ...]] = []
        self.terms: list[Array] = []
        self.slides: list[Slide] = []
        self.inboard: list[tuple[int, Array]] = []
        self.outboard: list[tuple[int, Array]] = []
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
        self.link_bodies[far] = near
        self.link_parents[far] = near
        self.link_parent_maps[far] = rotation @ near_map
        self.link_own_maps[far] = -self.body_rotations[far] @ far_map

    def _move(
        self, joint: int, is_reversed: bool, near: int, near_map: Array, far: int, far_map: Array
    ) -> None:
        skeleton = self.skeleton
        rotation = self.body_rotations[near]
        terms = np.stack([_rotation_terms(skeleton.axes[joint, slot]) for slot in range(3)])
        terms[0] = skeleton.parent_rotations[joint] @ terms[0]
        terms[2] = terms[2] @ skeleton.child_rotations[joint].T
        angles = skeleton.functions[joint][:3]
        if is_reversed:
            terms, angles = terms[::-1].swapaxes(-1, -2), angles[::-1]
        terms = terms.copy()
        terms[0] = rotation @ terms[0]
        segment = len(self.parents)
        self.body_segments[far] = segment
        self.parents.append(int(self.body_segments[near]))
        self.angles.append(angles)
        self.terms.append(terms)
        self.inboard.append((near, rotation @ near_map))
        self.outboard.append((far, far_map))
        self._add_slides(joint, segment, is_reversed, rotation)
        if joint == skeleton.root_joint:
            self.root_segment = segment

    def _add_slides(self, joint: int, segment: int, is_reversed: bool, rotation: Array) -> None:
        skeleton = self.skeleton
        for slot in range(3):
            function = skeleton.functions[joint][3 + slot]
            if function.is_constant:
                continue
            direction = skeleton.parent_rotations[joint] @ skeleton.axes[joint, 3 + slot]
            self.slides.append(
                Slide(
                    segment=segment,
                    function=function,
                    direction=direction if is_reversed else rotation @ direction,
                    outboard=is_reversed,
                    scale_body=self.body(int(skeleton.joint_parents[joint])),
                    weights=skeleton.translation_weights[joint, slot],
                )
            )

    def points(self) -> tuple[Indices, Array]:
        """Base bodies and maps of bodies, joint centres and markers."""
        skeleton, count = self.skeleton, self.count
        children = [self.body(int(child)) for child in skeleton.joint_children]
        markers = [self.body(int(body)) for body in skeleton.marker_bodies]
        maps = [np.zeros((count, 3, 3))]
        maps.append(self.body_rotations[children] @ skeleton.child_offset_maps)
        maps.append(self.body_rotations[markers] @ skeleton.marker_offset_maps)
        return np.array([*range(count), *children, *markers], dtype=np.int64), np.concatenate(maps)

    def result(self) -> Folding:
        """The finished structure."""
        ground = len(self.parents)
        segments = np.where(self.body_segments < 0, ground, self.body_segments)
        parents = [ground if parent < 0 else parent for parent in self.parents]
        still = np.stack([_rotation_terms(np.array([1.0, 0.0, 0.0]))] * 3)
        point_bodies, point_maps = self.points()
        self.inboard.append((self.count, np.zeros((3, 3))))
        self.outboard.append((self.count, np.zeros((3, 3))))
        return Folding(
            segment_parents=np.array([*parents, ground], dtype=np.int64),
            depth=_longest_path([*parents, ground]),
            angle_functions=self.angles,
            rotation_terms=np.stack([*self.terms, still]),
            slides=self.slides,
            body_segments=segments,
            body_rotations=self.body_rotations,
            link_bodies=self.link_bodies,
            weld_depth=_longest_path(self.link_bodies.tolist()),
            link_parents=self.link_parents,
            link_parent_maps=self.link_parent_maps,
            link_own_maps=self.link_own_maps,
            inboard_bodies=np.array([body for body, _ in self.inboard], dtype=np.int64),
            inboard_maps=np.stack([offset for _, offset in self.inboard]),
            outboard_bodies=np.array([body for body, _ in self.outboard], dtype=np.int64),
            outboard_maps=np.stack([offset for _, offset in self.outboard]),
            point_bodies=point_bodies,
            point_maps=point_maps,
            root_segment=self.root_segment,
        )


def _longest_path(parents: list[int]) -> int:
    """Most steps from any node to a node that is its own parent."""
    longest = 0
    for node in range(len(parents)):
        steps = 0
        while parents[node] != node:
            node, steps = parents[node], steps + 1
        longest = max(longest, steps)
    return longest


def fold(skeleton: Skeleton) -> Folding:
    """Work out a skeleton's static structure; UnsupportedModelError for a closed loop."""
    folder = _Folder(skeleton)
    for joint, is_reversed in _tree(skeleton):
        folder.add(joint, is_reversed)
    return folder.result()
