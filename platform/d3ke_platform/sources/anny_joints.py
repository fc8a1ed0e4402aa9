"""Anatomical joint centres and the neutral pose of an Anny body, from its rest shape.

Anny's bones start where an animator puts them: the hip 114 mm beside the midline, where anatomy
has about 89 mm. Limbs turned about such points move no real skeleton can follow, so the limb joints
are placed from surface landmarks, as a motion laboratory does.
All points and rotations are in ground axes (x forward, y up, z right; metres).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from d3ke.arrays import FloatArray

SIDES = (("r", "R", 1.0), ("l", "L", -1.0))
"""Suffix of segments, suffix of bones (and prefix of markers), sign of z."""
_DOWN = np.array([0.0, -1.0, 0.0])
_RIGHT = np.array([0.0, 0.0, 1.0])
_TOE_OUT_REMOVED = 0.6
"""Share of Anny's toe-out at rest that neutral takes back: people stand turned out a little."""
_ULNA_SHARE = 0.85
"""Of the way from the middle of the wrist to the skin over the ulna's end."""
_MIDPOINT_JOINTS = {
    "lowerleg01": ("KNE", "KNI"),
    "foot": ("ANK", "ANI"),
    "lowerarm01": ("ELB", "ELBIN"),
}
"""Bone -> the two surface markers its joint centre lies between."""


def joint_pivots(
    bones: Sequence[str], heads: FloatArray, vertices: FloatArray, markers: Mapping[str, int]
) -> FloatArray:
    """The point each bone turns about, [bones, 3] m.

    The lower half of the forearm twists about the ulna, at the outer wrist marker: the radius and
    the hand go around it. Knee, ankle and elbow: between the two epicondyle or malleolus markers.
    Hip: Harrington's regression from the four iliac markers sideways, and halfway between it and
    Anny's bone in the other two directions (the mesh's iliac skin points are too far from bone to
    trust alone).
    """
    pivots = heads.copy()
    point = {name: vertices[vertex] for name, vertex in markers.items()}
    for _, side, sign in SIDES:
        for bone, (lateral, medial) in _MIDPOINT_JOINTS.items():
            middle = (point[side + lateral] + point[side + medial]) / 2.0
            pivots[bones.index(f"{bone}.{side}")] = middle
        wrist = heads[bones.index(f"wrist.{side}")]
        ulna = wrist + _ULNA_SHARE * (point[side + "OWR"] - wrist)
        pivots[bones.index(f"lowerarm02.{side}")] = ulna
        hip = bones.index(f"upperleg01.{side}")
        regression = harrington_hip(point, sign)
        pivots[hip, :2] = (regression[:2] + heads[hip, :2]) / 2.0
        pivots[hip, 2] = regression[2]
    return pivots


def harrington_hip(point: Mapping[str, FloatArray], sign: float) -> FloatArray:
    """Hip joint centre [3] m after Harrington et al. 2007 (pelvic depth and width only).

    Args:
        point: positions of RASI, LASI, RPSI, LPSI, [3] m.
        sign: 1 for the right hip, -1 for the left.
    """
    front = (point["RASI"] + point["LASI"]) / 2.0
    back = (point["RPSI"] + point["LPSI"]) / 2.0
    width = float(np.linalg.norm(point["RASI"] - point["LASI"]))
    depth = float(np.linalg.norm(front - back))
    forward = _unit(front - back)
    up = _unit(np.cross(_RIGHT, forward))
    return (
        front
        - (0.24 * depth + 0.0099) * forward
        - (0.30 * width + 0.0109) * up
        + sign * (0.33 * width + 0.0073) * _RIGHT
    )


def neutral_rotations(bones: Sequence[str], pivots: FloatArray) -> dict[str, FloatArray]:
    """Segment -> rotation [3, 3] from the rest to the neutral pose.

    Neutral: thigh, shank, upper arm and forearm straight down, elbow axis sideways.
    """
    at = {name: pivots[index] for index, name in enumerate(bones)}
    rotations: dict[str, FloatArray] = {}
    down = _frame(_DOWN, _RIGHT)
    for segment, side, _ in SIDES:
        shoulder, elbow, wrist = (
            at[f"{bone}.{side}"] for bone in ("upperarm01", "lowerarm01", "wrist")
        )
        # Anny rests with bent elbows, so the plane of the arm gives the elbow's axis.
        axis = np.cross(elbow - shoulder, wrist - elbow)
        rotations[f"shoulder_{segment}"] = down @ _frame(elbow - shoulder, axis).T
        rotations[f"elbow_{segment}"] = down @ _frame(wrist - elbow, axis).T
        hip, knee, ankle = (at[f"{bone}.{side}"] for bone in ("upperleg01", "lowerleg01", "foot"))
        rotations[f"hip_{segment}"] = down @ _frame(knee - hip, _RIGHT).T
        rotations[f"knee_{segment}"] = down @ _frame(ankle - knee, _RIGHT).T
        toe = at[f"toe3-1.{side}"] - ankle
        rotations[f"ankle_{segment}"] = _about_vertical(
            _TOE_OUT_REMOVED * np.arctan2(toe[2], toe[0])
        )
    return rotations


def _frame(along: FloatArray, across: FloatArray) -> FloatArray:
    """Right-handed axes [3, 3] as columns: `along`, `across` made orthogonal to it, their cross."""
    first = _unit(along)
    second = _unit(across - first * (first @ across))
    return np.stack([first, second, np.cross(first, second)], axis=1)


def _unit(vector: FloatArray) -> FloatArray:
    return vector / np.linalg.norm(vector)


def _about_vertical(angle: float) -> FloatArray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
