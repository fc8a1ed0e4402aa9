"""From rotations of body segments to rotations of Anny's bones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.transform import Rotation

from d3ke.arrays import FloatArray
from d3ke_platform.sources.anny_joints import SIDES

_PARENTS: dict[str, str | None] = {
    "root": None,
    "chest": "root",
    "neck": "chest",
    "hip_r": "root",
    "knee_r": "hip_r",
    "ankle_r": "knee_r",
    "toe_r": "ankle_r",
    "shoulder_r": "chest",
    "elbow_r": "shoulder_r",
    "forearm_r": "elbow_r",
    "wrist_r": "forearm_r",
    "hip_l": "root",
    "knee_l": "hip_l",
    "ankle_l": "knee_l",
    "toe_l": "ankle_l",
    "shoulder_l": "chest",
    "elbow_l": "shoulder_l",
    "forearm_l": "elbow_l",
    "wrist_l": "forearm_l",
}
SEGMENTS: tuple[str, ...] = tuple(_PARENTS)
"""Segments that can be turned, parents first."""

_SPINE = {"spine05": 0.0, "spine04": 0.3, "spine03": 0.55, "spine02": 0.8, "spine01": 1.0}
_NECK = {"neck01": 0.25, "neck02": 0.5, "neck03": 0.75, "head": 1.0}
"""Share of the chest's (neck's) rotation that each bone has taken, from the pelvis up."""

CLAVICLE_LIFT, CLAVICLE_SWING = 0.22, 0.15
SCAPULA_LIFT, SCAPULA_SWING = 0.35, 0.20
"""Rotation of the shoulder girdle, rad: lift between arm down and arm up, swing between arm
sideways and arm forward. Chosen so that the model's shoulder can follow: less moves the mesh's
shoulder joint too little for the model's, more drags the skin of chest and neck along."""


def bone_rotations(
    bones: Sequence[str],
    neutral: Mapping[str, FloatArray],
    local: Mapping[str, FloatArray],
    frames: int,
) -> FloatArray:
    """Rotation of every bone from the rest pose, ground axes, [T, bones, 3, 3].

    Args:
        bones: Anny's bone names.
        neutral: see RestBody.neutral.
        local: segment -> rotation relative to its parent segment, [T, 3, 3].
        frames: T.
    """
    turned = _segment_rotations(local, frames)
    out = dict.fromkeys(bones, turned["root"])
    _turn_trunk(out, turned, local)
    for segment, side, sign in SIDES:
        _turn_leg(out, turned, neutral, segment, side)
        _turn_arm(out, turned, neutral, segment, side, sign)
    return np.stack([out[name] for name in bones], axis=1)


def _segment_rotations(local: Mapping[str, FloatArray], frames: int) -> dict[str, FloatArray]:
    """Segment -> its rotation from the neutral pose, ground axes, [T, 3, 3]."""
    identity = np.tile(np.eye(3), (frames, 1, 1))
    turned: dict[str, FloatArray] = {}
    for name, parent in _PARENTS.items():
        own = local.get(name, identity)
        turned[name] = own if parent is None else turned[parent] @ own
    return turned


def _turn_trunk(
    out: dict[str, FloatArray], turned: Mapping[str, FloatArray], local: Mapping[str, FloatArray]
) -> None:
    for parent, segment, shares in (("root", "chest", _SPINE), ("chest", "neck", _NECK)):
        for bone, share in shares.items():
            out[bone] = turned[parent] @ _part(local.get(segment), share)
    for eye in ("eye.L", "eye.R"):
        out[eye] = turned["neck"]


def _turn_leg(
    out: dict[str, FloatArray],
    turned: Mapping[str, FloatArray],
    neutral: Mapping[str, FloatArray],
    segment: str,
    side: str,
) -> None:
    bones_of = {"hip": ("upperleg",), "knee": ("lowerleg",), "ankle": ("foot",)}
    for joint, prefixes in bones_of.items():
        name = f"{joint}_{segment}"
        _assign(out, prefixes, side, turned[name] @ neutral[name])
    _assign(out, ("toe",), side, turned[f"toe_{segment}"] @ neutral[f"ankle_{segment}"])


def _turn_arm(
    out: dict[str, FloatArray],
    turned: Mapping[str, FloatArray],
    neutral: Mapping[str, FloatArray],
    segment: str,
    side: str,
    sign: float,
) -> None:
    shoulder, elbow = f"shoulder_{segment}", f"elbow_{segment}"
    chest = turned["chest"]
    # The upper arm's direction in the chest; it hangs along -y in the neutral pose.
    direction = -(np.swapaxes(chest, 1, 2) @ turned[shoulder])[:, :, 1]
    _assign(
        out, ("clavicle",), side, chest @ _girdle(direction, sign, CLAVICLE_LIFT, CLAVICLE_SWING)
    )
    _assign(
        out, ("shoulder01",), side, chest @ _girdle(direction, sign, SCAPULA_LIFT, SCAPULA_SWING)
    )
    _assign(out, ("upperarm",), side, turned[shoulder] @ neutral[shoulder])
    # The skin of the elbow stays with the upper half of the forearm, which does not twist.
    _assign(out, ("lowerarm01",), side, turned[elbow] @ neutral[elbow])
    _assign(out, ("lowerarm02",), side, turned[f"forearm_{segment}"] @ neutral[elbow])
    hand = turned[f"wrist_{segment}"] @ neutral[elbow]
    _assign(out, ("wrist", "finger", "metacarpal"), side, hand)


def _girdle(direction: FloatArray, sign: float, lift: float, swing: float) -> FloatArray:
    """How the shoulder girdle follows the arm, [T, 3, 3] in chest axes.

    A smooth function of the arm's direction alone: a share of the arm's rotation would flip where
    that rotation passes 180 degrees, and would turn the clavicle when the arm twists.
    """
    elevation = lift * (1.0 + direction[:, 1]) / 2.0
    protraction = swing * direction[:, 0]
    zero = np.zeros_like(elevation)
    return Rotation.from_rotvec(
        np.stack([-sign * elevation, sign * protraction, zero], axis=1)
    ).as_matrix()


def _assign(
    out: dict[str, FloatArray], prefixes: tuple[str, ...], side: str, rotation: FloatArray
) -> None:
    for bone in out:
        if bone.endswith(f".{side}") and bone.startswith(prefixes):
            out[bone] = rotation


def _part(rotation: FloatArray | None, share: float) -> FloatArray:
    """A share of each rotation, about the same axis; [T, 3, 3]."""
    if rotation is None:
        return np.eye(3)
    return Rotation.from_rotvec(share * Rotation.from_matrix(rotation).as_rotvec()).as_matrix()
