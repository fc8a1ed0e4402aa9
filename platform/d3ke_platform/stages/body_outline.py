"""Points of a posed skeleton that span the outline of the body."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_NOT_ON_BODY = "Virtual_"
# The model ends at the wrists. Hands reach this far beyond them, in forearm lengths.
_HANDS = (("elbow", "radiocarpal"), ("elbow_l", "radiocarpal_l"))
_HAND_LENGTH = 0.72


def surface_markers(skeleton: Any) -> tuple[str, ...]:
    """Markers on or in the body; those that are projected onto the floor are left out."""
    return tuple(name for name in skeleton.markers if not name.startswith(_NOT_ON_BODY))


def outline_points(skeleton: Any, joint_centers: Tensor, markers: Tensor) -> Tensor:
    """Joint centres, markers and finger tips [T,K,3], m, in the frame of the inputs.

    Args:
        skeleton: Names the joints and markers.
        joint_centers: [T,J,3] m.
        markers: [T,M,3] m.
    """
    shown = skeleton.index_of("marker", surface_markers(skeleton))
    hands = [
        _beyond(joint_centers, skeleton.index_of("joint", elbow), skeleton.index_of("joint", wrist))
        for elbow, wrist in _HANDS
        if elbow in skeleton.joints and wrist in skeleton.joints
    ]
    return torch.cat([joint_centers, markers[..., shown, :], *hands], dim=-2)


def _beyond(joint_centers: Tensor, near: int, far: int) -> Tensor:
    """[T,1,3] the point on the line from one joint through the other, a hand's length further."""
    start, end = joint_centers[..., near, :], joint_centers[..., far, :]
    return (end + _HAND_LENGTH * (end - start)).unsqueeze(-2)
