"""What networks predict of any model, and are judged by."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float

from d3ke.errors import InvalidInputError
from d3ke.skeleton.layer import Pose, SkeletalModelLayer
from d3ke.skeleton.predicted import PredictedSet
from d3ke.skeleton.skeleton import GROUND, Skeleton

_LEGS = re.compile(r"hip|knee|ankle|subtalar|mtp|toe|foot|patell|femur|tibia|leg", re.I)
_ARMS = re.compile(
    r"arm|shoulder|elbow|elv|wrist|pro_sup|clav|scap|humer|radi|ulna|hand|finger|thumb|gleno", re.I
)
_MINOR = re.compile(r"subtalar|mtp|toe|wrist|pro_sup|finger|thumb|hand|patell", re.I)
_SIDES = (
    (re.compile(r"_r$"), "_l"),
    (re.compile(r"_R$"), "_L"),
    (re.compile(r"^R(?=[._A-Z\d])"), "L"),
    (re.compile(r"^r(?=[._A-Z\d])"), "l"),
    (re.compile(r"^right", re.I), "left"),
    (re.compile(r"_right$"), "_left"),
    (re.compile(r"_r(?=_)"), "_l"),
    (re.compile(r"(?<!_l)$"), "_l"),
)
_WEIGHTS = (0.5, 2.0)
_SYMMETRIC_M = 0.005
_MIRROR = np.array([1.0, 1.0, -1.0])
"""Left and right lie along ground's z."""


def default_predicted_set(
    skeleton: Skeleton, *, landmarks: Sequence[str] = (), left_out: Sequence[str] = ()
) -> PredictedSet:
    """Predicts every independent coordinate outside the root joint that can move.

    Left out are coordinates that couplers determine (the layer computes them), locked ones, and
    those without a range. Wider ranges weigh more in the loss, half to twice the mean. Groups go by
    the names of coordinates and joints that OpenSim models commonly have. A model whose joints are
    not mirror images of each other gets no mirror coordinates.

    Args:
        skeleton: with the data set's markers.
        landmarks: markers of the position error; all if left out.
        left_out: further coordinates that are not predicted, such as those no marker tells.

    Raises:
        InvalidInputError: there is no root joint of six coordinates, no such coordinate, or no
            marker.
    """
    what = f"model {skeleton.name!r}"
    if skeleton.root_joint < 0:
        reason = "no joint gives a body six free coordinates on ground, so it cannot be placed"
        raise InvalidInputError(what, reason, "Free its root joint (a free joint on ground).")
    if not skeleton.markers:
        raise InvalidInputError(what, "has no markers")
    excluded = {*skeleton.root_coordinates, *skeleton.coupled, *left_out}
    reach = np.ptp(skeleton.coordinate_ranges, axis=1)
    chosen = [
        index
        for index, name in enumerate(skeleton.coordinates)
        if name not in excluded and not skeleton.coordinate_locked[index] and reach[index] > 0.0
    ]
    if not chosen:
        raise InvalidInputError(what, "has no coordinate to predict beside its root joint's")
    names = tuple(skeleton.coordinates[index] for index in chosen)
    return PredictedSet(
        coordinates=names,
        angle_loss_weights=_weights(skeleton, np.array(chosen), reach[chosen]),
        marker_loss_weights=dict.fromkeys(skeleton.markers, 1.0),
        bony_landmarks=tuple(n for n in landmarks if n in skeleton.markers) or skeleton.markers,
        groups=_groups(skeleton, names),
        mirror_coordinates=_mirror_coordinates(skeleton) if _is_symmetric(skeleton) else {},
        mirror_markers={name: other_side(name, skeleton.markers) for name in skeleton.markers},
        body_longest_axis=_longest_axes(skeleton),
    )


def other_side(name: str, names: Collection[str]) -> str:
    """The name of the other side's body, coordinate or marker; itself where there is none."""
    for pattern, left in _SIDES:
        mirrored = pattern.sub(left, name)
        if mirrored != name and mirrored in names:
            return mirrored
    for other in names:
        # From left to right: the name of which this one is the mirrored.
        if any(pattern.sub(left, other) == name != other for pattern, left in _SIDES):
            return other
    return name


def _weights(
    skeleton: Skeleton, chosen: np.ndarray, reach: Float[np.ndarray, " P"]
) -> tuple[float, ...]:
    angles = skeleton.coordinate_rotational[chosen]
    mean = reach[angles].mean() if angles.any() else 1.0
    relative = np.where(angles, reach / mean, 1.0)
    return tuple(float(weight) for weight in np.round(np.clip(relative, *_WEIGHTS), 4))


def _groups(skeleton: Skeleton, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    joints = {
        skeleton.coordinates[coordinate]: joint
        for joint, functions in zip(skeleton.joints, skeleton.functions, strict=True)
        for function in functions
        for coordinate in function.inputs
    }

    def part(name: str) -> str:
        for text in (name, joints.get(name, "")):
            if _LEGS.search(text):
                return "legs"
            if _ARMS.search(text):
                return "arms"
        return "trunk"

    groups = {g: tuple(n for n in names if part(n) == g) for g in ("legs", "arms", "trunk")}
    main = tuple(n for n in groups["legs"] + groups["arms"] if not _MINOR.search(n))
    return {"main": main or names, **groups}


def _default_pose(skeleton: Skeleton) -> Pose:
    import torch

    with torch.no_grad():
        return SkeletalModelLayer(skeleton)(
            torch.from_numpy(skeleton.coordinate_defaults.copy())[None],
            torch.ones(1, len(skeleton.bodies), 3, dtype=torch.float64),
        )


def _is_symmetric(skeleton: Skeleton) -> bool:
    """Whether left and right joints are mirror images in the default pose."""
    centers = _default_pose(skeleton).joint_centers[0].numpy()
    middle = centers[skeleton.root_joint] * [0.0, 0.0, 1.0]
    for joint, name in enumerate(skeleton.joints):
        other = skeleton.joints.index(other_side(name, skeleton.joints))
        mirrored = (centers[joint] - middle) * _MIRROR
        if np.abs(mirrored - (centers[other] - middle)).max() > _SYMMETRIC_M:
            return False
    return True


def _mirror_coordinates(skeleton: Skeleton) -> dict[str, tuple[str, int]]:
    axes = _ground_axes(skeleton)
    found = {}
    for name in skeleton.coordinates:
        other = other_side(name, skeleton.coordinates)
        sign = 1
        if name in axes and other in axes:
            turns, axis = axes[name]
            # A rotation's axis is a pseudovector: mirrored it points the other way as well.
            mirrored = -axis * _MIRROR if turns else axis * _MIRROR
            sign = 1 if mirrored @ axes[other][1] >= 0.0 else -1
        found[name] = (other, sign)
    return found


def _ground_axes(skeleton: Skeleton) -> dict[str, tuple[bool, Float[np.ndarray, "3"]]]:
    """Coordinate -> whether it turns, and its first axis in ground in the default pose."""
    rotations = _default_pose(skeleton).body_rotations[0].numpy()
    found: dict[str, tuple[bool, Float[np.ndarray, "3"]]] = {}
    for joint, functions in enumerate(skeleton.functions):
        parent = int(skeleton.joint_parents[joint])
        frame = np.eye(3) if parent == GROUND else rotations[parent]
        frame = frame @ skeleton.parent_rotations[joint]
        for slot, function in enumerate(functions):
            for coordinate, slope in zip(function.inputs, function.slopes, strict=False):
                axis = frame @ skeleton.axes[joint, slot] * (np.sign(slope) or 1.0)
                found.setdefault(skeleton.coordinates[coordinate], (slot < 3, axis))
    return found


def _longest_axes(skeleton: Skeleton) -> dict[str, tuple[str, float]]:
    """Extent of each body over its joints and markers, where it has any."""
    found = {}
    for index, body in enumerate(skeleton.bodies):
        offsets = skeleton.parent_offset_maps[skeleton.joint_parents == index].sum(-1)
        markers = skeleton.marker_locations[skeleton.marker_bodies == index]
        extents = np.ptp(np.concatenate([np.zeros((1, 3)), offsets, markers]), axis=0)
        if extents.any():
            axis = int(extents.argmax())
            found[body] = ("xyz"[axis], round(float(extents[axis]), 4))
    return found
