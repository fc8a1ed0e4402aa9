"""Virtual markers on the SMPL-H mesh, and the static pose from which a subject is scaled.

Names and vertex ids are the reference's: 66 vertices, 52 joints, 12 midpoints and 12 projections
onto the floor, 142 in all. `MarkerSet.builtin("smplh")` places those on the model that it has
bodies for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from d3ke_platform.sources.smplh_body import MeshPose, SMPLHBody, mesh_volume

if TYPE_CHECKING:
    from d3ke.kinematics import MarkerTrajectories

_BODY_DENSITY = 1008.5
"""kg/m^3, the reference's: 78.1165 kg over 0.0774582 m^3 (facts 3.4)."""
STATIC_FRAMES, STATIC_RATE_HZ = 66, 120.0
"""0.55 s: more than the half second that scaling averages over."""
_GROUND_FROM_SMPL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""A quarter turn about y: SMPL's zero pose faces z, its left is x; the ground's x is forward, y up,
z right."""


@dataclass(frozen=True, kw_only=True)
class MarkerTable:
    """Where the virtual markers are on the mesh."""

    vertices: dict[str, int]
    """Marker -> vertex."""
    joints: tuple[str, ...]
    """Markers that are joint centres, in the model's order."""
    midpoints: dict[str, tuple[str, ...]]
    """Marker -> those whose mean it is."""
    ground_projections: dict[str, str]
    """Marker -> the one whose projection onto the floor it is."""

    @property
    def names(self) -> tuple[str, ...]:
        """All markers, in the order of `virtual_markers`."""
        return (*self.vertices, *self.joints, *self.midpoints, *self.ground_projections)


@dataclass(frozen=True, kw_only=True, eq=False)
class StaticPose:
    """A subject in the zero pose, ground frame."""

    markers: MarkerTrajectories
    """0.55 s of standing still."""
    height_m: float
    """From sole to crown."""
    mass_kg: float
    """Of the mesh's volume."""


@cache
def marker_table() -> MarkerTable:
    """The built-in table."""
    file = resources.files("d3ke_platform.sources") / "smplh_landmarks.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    return MarkerTable(
        vertices=content["vertices"],
        joints=tuple(content["joints"]),
        midpoints={name: tuple(sources) for name, sources in content["midpoints"].items()},
        ground_projections=content["ground_projections"],
    )


def virtual_markers(
    vertices: Float[np.ndarray, "T 66 3"],
    joints: Float[np.ndarray, "T 52 3"],
    *,
    rate_hz: float,
    floor_height: float | None = None,
) -> MarkerTrajectories:
    """All markers in the order of the table, ground frame.

    Args:
        vertices: m, the table's vertices.
        joints: m, the model's joints.
        rate_hz: frames per second; the first frame is at time 0.
        floor_height: y of the floor, m; None leaves the projections NaN: in a moving trial they
            mean nothing.
    """
    from d3ke.kinematics import MarkerTrajectories

    table = marker_table()
    at = dict(zip(table.vertices, vertices.swapaxes(0, 1), strict=True))
    at |= dict(zip(table.joints, joints.swapaxes(0, 1), strict=True))
    for name, sources in table.midpoints.items():
        at[name] = np.mean([at[source] for source in sources], axis=0)
    for name, source in table.ground_projections.items():
        at[name] = np.full_like(at[source], np.nan)
        if floor_height is not None:
            at[name] = at[source] * [1.0, 0.0, 1.0] + [0.0, floor_height, 0.0]
    return MarkerTrajectories(
        names=table.names,
        positions=np.stack([at[name] for name in table.names], axis=1),
        times=np.arange(len(vertices)) / rate_hz,
        rate_hz=rate_hz,
    )


def static_pose(body: SMPLHBody, betas: Float[np.ndarray, "16"]) -> StaticPose:
    """The zero pose of a body shape, facing x; the floor is at its lowest vertex."""
    rest = to_ground(body.at_rest(betas), _GROUND_FROM_SMPL)
    mesh, joints = rest.vertices[0], rest.joints[0]
    floor = float(mesh[:, 1].min())
    surface = mesh[list(marker_table().vertices.values())]
    return StaticPose(
        markers=virtual_markers(
            np.tile(surface, (STATIC_FRAMES, 1, 1)),
            np.tile(joints, (STATIC_FRAMES, 1, 1)),
            rate_hz=STATIC_RATE_HZ,
            floor_height=floor,
        ),
        height_m=float(mesh[:, 1].max()) - floor,
        mass_kg=_BODY_DENSITY * mesh_volume(mesh, body.faces),
    )


def to_ground(pose: MeshPose, rotation: Float[np.ndarray, "3 3"]) -> MeshPose:
    """The pose in ground, where `rotation` turns its axes into the ground's."""
    return MeshPose(pose.vertices @ rotation.T, pose.joints @ rotation.T)
