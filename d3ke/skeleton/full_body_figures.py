"""The published figures of the full-body model, read and made symmetric.

Used once, by build_full_body. Frames are OpenSim's (x forward, y up, z right); the mirror plane
is z = 0: a position changes the sign of z, a rotation axis the signs of x and y, so that an
angle keeps its anatomical sense on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_POSITION = np.array([1.0, 1.0, -1.0])
_ROTATION = np.array([-1.0, -1.0, 1.0])
_PRODUCTS = np.array([1.0, -1.0, -1.0])  # xy, xz, yz of an inertia
_NEGLIGIBLE = 1e-4  # rad: left-over of the model's scaling, not a posture

JOINT_CENTER_MARKERS = {
    "RHIPJ": ("hip_r", "parent"),
    "LHIPJ": ("hip_l", "parent"),
    "RKJC": ("knee_r", "parent"),
    "LKJC": ("knee_l", "parent"),
    "RAJC": ("ankle_r", "parent"),
    "LAJC": ("ankle_l", "parent"),
    "RSHOULDER": ("shoulder2", "child"),
    "LSHOULDER": ("shoulder2_l", "child"),
    "RELC": ("elbow", "parent"),
    "LELC": ("elbow_l", "parent"),
    "RWRIST": ("radiocarpal", "parent"),
    "LWRIST": ("radiocarpal_l", "parent"),
}
"""Markers at (joint, body of that end): what the limb measurements are taken between."""


def other_side(name: str, names: Collection[str]) -> str:
    """The name of the mirrored body, joint, coordinate or marker; itself on the midline."""
    candidates = [f"{name}_l", name.removesuffix("_l")]
    if name.endswith(("_r", "_l")):
        candidates.append(name[:-1] + {"r": "l", "l": "r"}[name[-1]])
    for prefix in ("Virtual_Ground_", "Virtual_", ""):
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and rest[:1] in {"R", "L"}:
            candidates.append(prefix + {"R": "L", "L": "R"}[rest[0]] + rest[1:])
    return next((other for other in candidates if other != name and other in names), name)


class Figures:
    """Symmetric figures by name: every number is the mean of the right side and the mirrored left.

    The left ankle's axis and range are corrupt in the source (its axis holds pi/3, its range
    pi/3 less): the right ones are taken. Ranges are the wider of the two sides.
    """

    def __init__(self, folder: Path) -> None:
        skeleton = json.loads((folder / "skeleton.json").read_text())
        markers = json.loads((folder / "markers.json").read_text())["markers"]
        self.measurements = json.loads((folder / "scale_measurements.json").read_text())
        self.predicted = json.loads((folder / "predicted_sets.json").read_text())
        self.bodies = {body["name"]: body for body in skeleton["bodies"]}
        self.joints = {joint["name"]: joint for joint in skeleton["joints"]}
        self.couplers = {c["dependent"]: c for c in skeleton["constraints"]}
        self.coordinates = {
            c["name"]: c for joint in self.joints.values() for c in joint["coordinates"]
        }
        extra = {f"Virtual_{side}{end}" for side in "RL" for end in ("ELC", "WRIST")}
        self.markers = {
            name: marker
            for name, marker in markers.items()
            if marker["in_full_body_wo_hands"] or name in extra
        }

    def _mean(self, table: dict[str, Any], name: str, key: str, mirror: Array) -> Array:
        own = np.array(table[name][key], dtype=float)
        other = np.array(table[other_side(name, table)][key], dtype=float)
        return (own + mirror * other) / 2

    def mass(self, body: str) -> float:
        """kg."""
        other = self.bodies[other_side(body, self.bodies)]
        return float(self.bodies[body]["mass_kg"] + other["mass_kg"]) / 2

    def mass_center(self, body: str) -> Array:
        """[3] m."""
        return self._mean(self.bodies, body, "mass_center_m", _POSITION)

    def inertia(self, body: str) -> Array:
        """[6] xx yy zz xy xz yz, kg m2."""
        mirror = np.concatenate([np.ones(3), _PRODUCTS])
        return self._mean(self.bodies, body, "inertia_kgm2_xx_yy_zz_xy_xz_yz", mirror)

    def bone_extents(self, body: str) -> Array:
        """[3] size of the body's bone along its axes in the model as loaded [m]; 0 without one."""
        sides = [self.bodies[body], self.bodies[other_side(body, self.bodies)]]
        if not all(side["has_mesh"] for side in sides):
            return np.zeros(3)
        sizes = [
            np.array(side["mesh_extent_unscaled_m_xyz"]) * side["default_scale_xyz"]
            for side in sides
        ]
        return np.asarray(np.mean(sizes, axis=0))

    def offset(self, joint: str, end: str) -> Array:
        """[3] joint frame in the "parent" or "child" body [m]."""
        return self._mean(self.joints, joint, f"{end}_translation_m", _POSITION)

    def orientation(self, joint: str, end: str) -> Array:
        """[3] body-fixed XYZ angles of that frame [rad]."""
        key = f"{end}_orientation_xyz_bodyfixed_rad"
        return self._mean(self.joints, joint, key, _ROTATION)

    def axes(self, joint: str) -> list[tuple[str | None, Array]]:
        """Six (coordinate, unit axis): three rotations, three translations."""
        own = self.joints[joint]
        other = self.joints[other_side(joint, self.joints)]
        result = []
        for slot, axis in enumerate(own["spatial_transform"]):
            names = axis["coordinates"]
            if slot >= 3:
                direction = np.eye(3)[slot - 3]
            else:
                direction = self._rotation_axis(own, other, slot, bool(names))
            result.append((names[0] if names else None, direction))
        return result

    def _rotation_axis(
        self, own: dict[str, Any], other: dict[str, Any], slot: int, driven: bool
    ) -> Array:
        axis = np.array(own["rotation_axes_effective_unit"][slot])
        mirrored = _ROTATION * np.array(other["rotation_axes_effective_unit"][slot])
        if own["name"] == "ankle_l":
            axis = mirrored
        elif own["name"] != "ankle_r" and own is not other and driven:
            axis = axis + mirrored
        elif own["name"].endswith("_l") and own is not other:
            axis = mirrored
        return axis / np.linalg.norm(axis)

    def range(self, coordinate: str) -> tuple[float, float]:
        """(lowest, highest) rad or m."""
        both = [coordinate, other_side(coordinate, self.coordinates)]
        lows, highs = zip(*(self.coordinates[name]["range"] for name in both), strict=True)
        return min(lows), max(highs)

    def default(self, coordinate: str) -> float:
        """rad or m."""
        both = [coordinate, other_side(coordinate, self.coordinates)]
        value = float(np.mean([self.coordinates[name]["default"] for name in both]))
        return value if abs(value) > _NEGLIGIBLE else 0.0

    def locked(self, coordinate: str) -> bool:
        """Held in inverse kinematics."""
        return bool(self.coordinates[coordinate]["locked_after_scaling_for_ik"])

    def coupler(self, coordinate: str) -> dict[str, Any] | None:
        """The coupler that determines a coordinate, taken from the other side if it is missing."""
        if coordinate in self.couplers:
            return dict(self.couplers[coordinate])
        other = other_side(coordinate, self.coordinates)
        if other not in self.couplers:
            return None
        found = dict(self.couplers[other])
        found["name"] = f"{found['name']}_l"
        found["dependent"] = coordinate
        found["independent"] = [other_side(found["independent"][0], self.coordinates)]
        return found

    def marker_body(self, marker: str) -> str:
        """The body that carries a marker while scaling."""
        return str(self.markers[marker]["parent_body"])

    def marker_location(self, marker: str) -> Array:
        """[3] m in its body; joint-centre markers sit in the joint centres."""
        if marker in JOINT_CENTER_MARKERS:
            joint, end = JOINT_CENTER_MARKERS[marker]
            return self.offset(joint, end)
        if marker == "MHIPJ":
            return self.marker_location("RHIPJ") * [1.0, 1.0, 0.0]
        return self._mean(self.markers, marker, "location_m", _POSITION)

    def mirror_sign(self, coordinate: str) -> int:
        """Sign of a coordinate under mirroring: + if it moves both sides alike."""
        if other_side(coordinate, self.coordinates) != coordinate:
            return 1
        for joint in self.joints:
            for slot, (name, axis) in enumerate(self.axes(joint) if self._moves(joint) else ()):
                if name == coordinate:
                    mirrored = (_ROTATION if slot < 3 else _POSITION) * axis
                    return int(np.sign(mirrored @ axis))
        return 1

    def _moves(self, joint: str) -> bool:
        return self.joints[joint]["type"] == "CustomJoint"
