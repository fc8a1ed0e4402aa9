"""Which landmarks of the pose landmarker become markers, and what they can tell of the model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.kinematics import MarkerSet
from d3ke_platform.sources.keypoint_model import LOCKED

# Side, suffix of the legs' bodies, of the arms' bodies.
_SIDES = (("right", "_r", ""), ("left", "_l", "_l"))

LANDMARKS: Mapping[str, str] = {
    "nose": "skull",
    **{f"{side}_{part}": "skull" for part in ("eye", "ear") for side in ("left", "right")},
    **{f"{side}_shoulder": f"humerus{arm}" for side, _, arm in _SIDES},
    **{f"{side}_elbow": f"humerus{arm}" for side, _, arm in _SIDES},
    **{f"{side}_wrist": f"radius{arm}" for side, _, arm in _SIDES},
    **{f"{side}_hip": "pelvis" for side, _, _ in _SIDES},
    **{f"{side}_knee": f"femur{leg}" for side, leg, _ in _SIDES},
    **{f"{side}_ankle": f"tibia{leg}" for side, leg, _ in _SIDES},
    **{f"{side}_heel": f"calcn{leg}" for side, leg, _ in _SIDES},
    **{f"{side}_foot_index": f"calcn{leg}" for side, leg, _ in _SIDES},
}
"""Landmark (MediaPipe's name) -> body of the built-in model. Fingers are too small in a picture of
a whole body to tell the hand's pose; the face's other landmarks add nothing to nose, eyes, ears."""

_WEIGHTS: Mapping[str, float] = {"nose": 2.0, "eye": 2.0, "ear": 2.0, "heel": 5.0, "wrist": 10.0}
"""Weights in inverse kinematics by part; the joints the body is measured by weigh 10."""
_JOINT_WEIGHT = 10.0

MIDPOINTS: Mapping[str, str] = {"mid_hip": "pelvis", "mid_shoulder": "thorax", "mid_ear": "skull"}
"""Computed markers and their bodies: the ends of the trunk and the middle of the head."""


def landmark_marker_set(places: FloatArray, middles: FloatArray | None = None) -> MarkerSet:
    """The marker set of the landmarks.

    Args:
        places: [K, 3] m, in the axes of the bodies, in the order of `LANDMARKS`.
        middles: [3, 3] m, those of `MIDPOINTS`; None leaves these markers out.
    """
    weights = [_WEIGHTS.get(name.split("_")[-1], _JOINT_WEIGHT) for name in LANDMARKS]
    added = MIDPOINTS if middles is not None else {}
    locations = places if middles is None else np.concatenate([places, middles])
    used = np.array([*weights, *(0.0 for _ in added)])
    return MarkerSet(
        names=(*LANDMARKS, *added),
        bodies=(*LANDMARKS.values(), *added.values()),
        locations=np.round(locations, 6),
        ik_weights=used,
        scaling_weights=used,
        fixed=np.ones(len(used), dtype=bool),
        midpoints={
            name: (f"right_{part}", f"left_{part}")
            for name in added
            for part in [name.removeprefix("mid_")]
        },
        undetermined=LOCKED,
    )


def other_side(landmark: str) -> str:
    """The landmark on the other side; itself in the middle."""
    if landmark.startswith("left_"):
        return "right_" + landmark.removeprefix("left_")
    return landmark.replace("right_", "left_", 1) if landmark.startswith("right_") else landmark
