"""Virtual markers on a moving Anny body."""

from __future__ import annotations

import numpy as np

from d3ke.kinematics import MarkerSet, MarkerTrajectories
from d3ke_platform.sources.anny_body import AnnyBody, BodyMotion, t_pose_rotations
from d3ke_platform.sources.anny_phenotype import Phenotype

_STATIC_SECONDS, _STATIC_RATE = 0.6, 10.0
"""Longer than the half second that scaling averages over."""


def virtual_markers(
    body: AnnyBody,
    motion: BodyMotion,
    *,
    rate_hz: float = 10.0,
    floor_height: float | None = None,
) -> MarkerTrajectories:
    """The markers of `MarkerSet.builtin("anny")`, in its order, ground frame.

    43 vertices, 22 joint centres, 12 midpoints, and 12 projections onto the floor, which are NaN
    unless `floor_height` (y of the floor, m) is given: they mean something in a static pose only.
    """
    landmarks = body.landmarks
    surface = motion.vertices[:, list(landmarks.vertices.values())].astype(float)
    joints = [
        np.mean([motion.joints[bone] for bone in bones], axis=0)
        for bones in landmarks.bones.values()
    ]
    measured = MarkerTrajectories(
        names=(*landmarks.vertices, *landmarks.bones),
        positions=np.concatenate([surface, np.stack(joints, axis=1)], axis=1),
        times=np.arange(len(surface)) / rate_hz,
        rate_hz=rate_hz,
    )
    return MarkerSet.builtin("anny").complete(measured, floor_height=floor_height)


def static_markers(body: AnnyBody, phenotype: Phenotype) -> MarkerTrajectories:
    """The static trial of a subject: a T-pose on the floor, facing x."""
    frames = round(_STATIC_SECONDS * _STATIC_RATE) + 1
    motion = body.pose(phenotype, t_pose_rotations(1), np.zeros((1, 3)), grounding="frame")
    still = BodyMotion(
        np.repeat(motion.vertices, frames, axis=0),
        {bone: np.repeat(at, frames, axis=0) for bone, at in motion.joints.items()},
    )
    return virtual_markers(body, still, rate_hz=_STATIC_RATE, floor_height=0.0)
