"""Readers of motion files: rotations of body segments over time (see `motions`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from d3ke.errors import InvalidInputError
from d3ke.kinematics.mot import read_mot
from d3ke_platform.sources.key_poses import CHANNELS
from d3ke_platform.sources.motions import segment_rotations

Clip: TypeAlias = tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]
"""Times [T] s, segment -> local rotations [T, 3, 3], height of the pelvis [T] m where known."""

_DEEPMIMIC_NUMBERS = 44
_QUATERNIONS = {
    "root": 4, "chest": 8, "neck": 12, "hip_r": 16, "ankle_r": 21, "shoulder_r": 25,
    "hip_l": 30, "ankle_l": 35, "shoulder_l": 39,
}  # fmt: skip
_HINGES = {"knee_r": 20, "elbow_r": 29, "knee_l": 34, "elbow_l": 43}
"""Segment -> its first number in a frame of DeepMimic."""
_REQUIRED = tuple(f"{name}_{side}" for name in ("hip_flexion", "knee_angle") for side in "rl")
_ARM_SWING = 0.6
"""Forward swing of an arm of which the file says nothing, in swings of the other leg."""


def read_deepmimic(path: Path) -> Clip:
    """A motion file of DeepMimic's humanoid: 44 numbers a frame, quaternions real part first.

    Its segments rest as ours do: x forward, y up, z right, arms down. Raises InvalidInputError.
    """
    try:
        frames = json.loads(path.read_text(encoding="utf-8"))["Frames"]
        numbers = np.array(frames, dtype=float)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        reason = f"it is no motion file of DeepMimic ({error})"
        raise InvalidInputError(f"clip {path}", reason) from error
    if numbers.ndim != 2 or numbers.shape[1] != _DEEPMIMIC_NUMBERS:
        reason = f"frames of {numbers.shape[1:]} numbers; a humanoid's have {_DEEPMIMIC_NUMBERS}"
        raise InvalidInputError(f"clip {path}", reason)
    times = np.concatenate([[0.0], np.cumsum(numbers[:-1, 0])])
    rotations = {
        name: Rotation.from_quat(numbers[:, [at + 1, at + 2, at + 3, at]]).as_matrix()
        for name, at in _QUATERNIONS.items()
    }
    rotations |= {
        name: Rotation.from_euler("Z", numbers[:, [at]]).as_matrix() for name, at in _HINGES.items()
    }
    return times, rotations, numbers[:, 2]


def read_opensim(path: Path) -> Clip:
    """Coordinates over time under the names of gait2354's or Rajagopal's model.

    Coordinates that a file lacks are at rest, but for arms, which swing against the legs. Raises
    InvalidInputError for a file without the flexions of hips and knees.
    """
    motion = read_mot(path)
    missing = [name for name in _REQUIRED if name not in motion.names]
    if missing:
        reason = f"coordinate {', '.join(missing)} is missing; there are {', '.join(motion.names)}"
        raise InvalidInputError(f"clip {path}", reason)
    degrees = np.rad2deg(motion.values)

    def of(name: str) -> Float[np.ndarray, "T"]:
        if name in motion.names:
            return np.asarray(degrees[:, motion.names.index(name)])
        return np.zeros(len(motion.times))

    angles = {channel: np.zeros((len(motion.times), 3)) for channel in CHANNELS}
    lumbar = (-of("lumbar_extension"), of("lumbar_bending"), of("lumbar_rotation"))
    angles["chest"] = np.stack(lumbar, axis=1)
    for side, other in ("rl", "lr"):
        knee = of(f"knee_angle_{side}")
        knee = -knee if knee.mean() < 0 else knee  # gait2354 counts extension
        hip = (of(f"hip_flexion_{side}"), -of(f"hip_adduction_{side}"), of(f"hip_rotation_{side}"))
        angles[f"hip_{side}"] = np.stack(hip, axis=1)
        angles[f"knee_{side}"][:, 0] = np.maximum(knee, 0.0)
        angles[f"ankle_{side}"][:, 0] = of(f"ankle_angle_{side}")
        angles[f"ankle_{side}"][:, 1] = of(f"subtalar_angle_{side}")
        swing = of(f"hip_flexion_{other}")
        angles[f"shoulder_{side}"][:, 0] = 8.0
        angles[f"shoulder_{side}"][:, 1] = _ARM_SWING * (swing - swing.mean())
        angles[f"elbow_{side}"][:, 0] = 20.0
        if f"elbow_flex_{side}" in motion.names:
            angles[f"elbow_{side}"][:, 0] = np.maximum(of(f"elbow_flex_{side}"), 0.0)
    rotations = segment_rotations(angles)
    pelvis = (of("pelvis_tilt"), of("pelvis_list"), of("pelvis_rotation"))
    rotations["root"] = _zxy(np.stack(pelvis, axis=1))
    for side, sign in (("r", 1.0), ("l", -1.0)):
        if f"arm_flex_{side}" in motion.names:
            arm = (
                of(f"arm_flex_{side}"),
                sign * of(f"arm_add_{side}"),
                sign * of(f"arm_rot_{side}"),
            )
            rotations[f"shoulder_{side}"] = _zxy(np.stack(arm, axis=1))
    names = motion.names
    height = motion.values[:, names.index("pelvis_ty")] if "pelvis_ty" in names else None
    return motion.times, rotations, height


def _zxy(degrees: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3 3"]:
    """About z, then x, then y, as OpenSim's pelvis, hip and arm joints turn."""
    return Rotation.from_euler("ZXY", degrees, degrees=True).as_matrix()
