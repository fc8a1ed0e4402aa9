"""Points of a posed skeleton that span the outline of the body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_COMPUTED = "Virtual_"
# The built-in model ends at the wrists and below the crown. What is missing lies on a line from
# one part of the body through another, at a multiple of their distance: from, through, multiple.
# The multiples are fitted to the silhouettes of rendered bodies (distance then within 3 %).
_ENDS: tuple[tuple[tuple[str, ...], tuple[str, ...], float], ...] = (
    (("elbow",), ("radiocarpal",), 0.72),
    (("elbow_l",), ("radiocarpal_l",), 0.72),
    (("T1_head_neck",), ("LFHD", "RFHD", "LBHD", "RBHD"), 0.62),
)


def surface_markers(skeleton: Any) -> tuple[str, ...]:
    """Markers that are measured; those computed from others (on the floor, ...) are left out."""
    return tuple(name for name in skeleton.markers if not name.startswith(_COMPUTED))


def outline_points(skeleton: Any, joint_centers: Tensor, markers: Tensor) -> Tensor:
    """Joint centres, markers, crown and finger tips [T,K,3], m, in the frame of the inputs.

    Markers on the floor belong to the feet: they are the soles.

    Args:
        skeleton: Names the joints and markers; ends that it has no names for are left out.
        joint_centers: [T,J,3] m.
        markers: [T,M,3] m.
    """
    points = torch.cat([joint_centers, markers], dim=-2)
    names = (*skeleton.joints, *skeleton.markers)
    known = set(names)
    ends = [
        _beyond(
            points, [names.index(n) for n in start], [names.index(n) for n in through], multiple
        )
        for start, through, multiple in _ENDS
        if known.issuperset((*start, *through))
    ]
    return torch.cat([points, *ends], dim=-2)


def _beyond(
    points: Tensor, start: Sequence[int], through: Sequence[int], multiple: float
) -> Tensor:
    """[T,1,3] the point past the middle of `through`, seen from the middle of `start`."""
    first = points[..., start, :].mean(dim=-2, keepdim=True)
    second = points[..., through, :].mean(dim=-2, keepdim=True)
    return second + multiple * (second - first)
