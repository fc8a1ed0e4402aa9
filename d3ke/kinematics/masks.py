"""Which labels to trust: the paper's 2 cm rule (section 2.2.1).

A marker that inverse kinematics could not bring close to its measurement says that the joints
that move it are wrong there. The published code looked the joint up in the model before knee and
ankle markers were re-parented, so that a bad ankle marker masked the knee; here it is the joint
of the body that the marker belongs to while the trial is solved.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from d3ke.kinematics.ik_result import IKResult
from d3ke.kinematics.marker_set import MarkerSet
from d3ke.skeleton import Skeleton

THRESHOLD_M = 0.02

_GIRDLE = ("clavicle", "clavphant", "scapula", "scapphant", "humphant", "humphant1")
SHOULDER_GROUPS = (_GIRDLE, tuple(f"{body}_l" for body in _GIRDLE))
"""Bodies of one shoulder: their angles share one motion, so that one bad marker masks them all."""


def marker_mask(
    result: IKResult, marker_set: MarkerSet, threshold_m: float = THRESHOLD_M
) -> Bool[np.ndarray, "T M"]:
    """True where a marker was measured and its model marker is within the threshold [m].

    Markers in the marker set's order; one of weight 0 is judged too, but masks no coordinate.
    """
    _require_same_markers(result, marker_set)
    with np.errstate(invalid="ignore"):
        return np.asarray(result.marker_error <= threshold_m)


def coordinate_mask(
    result: IKResult,
    skeleton: Skeleton,
    marker_set: MarkerSet,
    threshold_m: float = THRESHOLD_M,
) -> Bool[np.ndarray, "T Q"]:
    """False where a marker of full weight is further than the threshold [m] from its measurement.

    Such a marker masks every coordinate of the joint that moves its body, found by going up over
    welded bodies, and all of a shoulder if the body is part of one. A marker that was not
    measured masks nothing: the others of its body still hold the joint. Coordinates that the set
    leaves undetermined are False throughout.
    """
    _require_same_markers(result, marker_set)
    mask = np.ones((len(result.marker_error), len(skeleton.coordinates)), dtype=bool)
    mask[:, skeleton.index_of("coordinate", marker_set.undetermined)] = False
    weights = np.asarray(marker_set.ik_weights)
    for column in np.flatnonzero((weights == weights.max()) & (weights > 0.0)):
        name = marker_set.names[column]
        body = marker_set.reparent.get(name, marker_set.bodies[column])
        with np.errstate(invalid="ignore"):
            bad = result.marker_error[:, column] > threshold_m
        moved = np.zeros(len(skeleton.coordinates), dtype=bool)
        moved[_coordinates_moving(skeleton, body)] = True
        mask &= ~(bad[:, None] & moved)
    return mask


def _coordinates_moving(skeleton: Skeleton, body: str) -> list[int]:
    """Indices of the coordinates that an error of a marker on this body puts in doubt."""
    children = {int(child): joint for joint, child in enumerate(skeleton.joint_children)}
    index = skeleton.index_of("body", body)
    while index in children:
        joint = children[index]
        own = _joint_coordinates(skeleton, [joint])
        if own:
            return sorted(set(own) | set(_shoulder_coordinates(skeleton, skeleton.bodies[index])))
        index = int(skeleton.joint_parents[joint])
    return []


def _shoulder_coordinates(skeleton: Skeleton, body: str) -> list[int]:
    group = next((group for group in SHOULDER_GROUPS if body in group), ())
    joints = [
        joint
        for joint, child in enumerate(skeleton.joint_children)
        if skeleton.bodies[child] in group
    ]
    return _joint_coordinates(skeleton, joints)


def _joint_coordinates(skeleton: Skeleton, joints: Sequence[int]) -> list[int]:
    used = {
        coordinate
        for joint in joints
        for function in skeleton.functions[joint]
        for coordinate in function.inputs
    }
    return sorted(used)


def _require_same_markers(result: IKResult, marker_set: MarkerSet) -> None:
    assert result.marker_names == tuple(marker_set.names), "result of another marker set"
