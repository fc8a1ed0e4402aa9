"""Where the chair of a seated movement stands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d3ke_platform.sources.anny_body import BodyMotion

_SITTING = ("upperleg01", "pelvis")
FRONT_EDGE_M = 0.10
"""From the knees back to the seat."""
HALF_DEPTH_M = 0.22


def seat_of(moved: BodyMotion, bones: Sequence[str]) -> tuple[float, float, float, float]:
    """x, y, z of the middle of the seat (m) under a body at its lowest, and its direction (rad).

    `bones` names the bone that moves each vertex most.
    """
    frame = int(moved.joints["root"][:, 1].argmin())
    at = {name: joint[frame] for name, joint in moved.joints.items()}
    under = np.char.startswith(np.asarray(bones, dtype=str), _SITTING[0])
    under |= np.char.startswith(np.asarray(bones, dtype=str), _SITTING[1])
    height = np.percentile(moved.vertices[frame][under, 1], 5.0)
    right = at["upperleg01.R"] - at["upperleg01.L"]
    forward = np.array([right[2], -right[0]]) / np.hypot(right[0], right[2])
    hips = (at["upperleg01.R"] + at["upperleg01.L"])[[0, 2]] / 2
    knees = np.stack([at[f"lowerleg01.{side}"][[0, 2]] for side in "RL"])
    ahead = ((knees - hips) @ forward).max() - FRONT_EDGE_M - HALF_DEPTH_M
    x, z = hips + ahead * forward
    return float(x), float(height), float(z), float(np.arctan2(-forward[1], forward[0]))
