"""Key poses: what movements are written in.

A movement is a list of key poses with the seconds it takes to reach each from the one before.
A pose names the angles (degrees) that differ from standing at rest:

- root, chest, neck: forward bend, bend to the right, turn to the left
- hip: flexion, abduction, internal rotation; knee: flexion; ankle: dorsiflexion, inversion
- toe: extension
- shoulder: abduction, flexion, external rotation; elbow: flexion, pronation
- wrist: flexion, deviation towards the thumb
- lift: height of the body's lowest point above the floor, m

`hip_r` and `hip_l` name one side, `hip` both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Angles: TypeAlias = tuple[float, ...]
Pose: TypeAlias = Mapping[str, Angles]

TRUNK = ("root", "chest", "neck")
PAIRED = ("hip", "knee", "ankle", "shoulder", "elbow")
FINE = ("wrist", "toe")
"""Small joints: they only move where fine motion is asked for."""
CHANNELS = (*TRUNK, *(f"{name}_{side}" for name in PAIRED for side in "rl"))
FINE_CHANNELS = tuple(f"{name}_{side}" for name in FINE for side in "rl")
LIFT = "lift"


@dataclass(frozen=True)
class KeyPose:
    """A pose and the seconds from the key pose before it (0 for the first)."""

    seconds: float
    pose: Pose


def pose(**angles: float | Angles) -> Pose:
    """Pose by channel; a paired channel without a side stands for both sides."""
    result: dict[str, Angles] = {}
    for name, value in angles.items():
        values = value if isinstance(value, tuple) else (value,)
        for channel in (f"{name}_r", f"{name}_l") if name in (*PAIRED, *FINE) else (name,):
            result[channel] = values
    return result


def repeat(times: int, *keys: KeyPose) -> tuple[KeyPose, ...]:
    """The keys, `times` over."""
    return keys * times


REST: Pose = pose(shoulder=8, elbow=12)
"""Standing at ease; a channel not named here is at 0."""
