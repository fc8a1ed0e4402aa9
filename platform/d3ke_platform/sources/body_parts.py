"""Parts of a body: where garments, hair and skin are on points of a T-pose.

Garments end at heights and arm lengths, not at the border between two bones' vertices: that border
zigzags over the waist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

# First letters of the bones of each part of the body.
TRUNK = ("root", "spine", "pelvis", "breast", "clavicle", "shoulder01")
ARMS = ("upperarm", "lowerarm")
LEGS = ("upperleg", "lowerleg", "foot", "toe")
HEAD = ("head", "jaw", "oris", "temporalis", "levator", "orbicularis", "risorius", "oculi")


class BodyParts:
    """Which points on a body in T-pose belong to what."""

    def __init__(
        self,
        points: Float[np.ndarray, "N 3"],
        joints: Mapping[str, Float[np.ndarray, "3"]],
        names: Sequence[str],
        bones: Int[np.ndarray, "N"],
    ) -> None:
        """Args: points and joints (bone heads) in ground, m; `names[bones[i]]` moves point i."""
        self.points, self.joints, self.count = points, joints, len(points)
        self._forward, self._height, right = points.astype(np.float64).T
        self._side = np.abs(right)
        self._names, self._bones = np.asarray(names, dtype=str), bones
        self._stature = float(self._height.max())

    @classmethod
    def of(
        cls,
        points: Float[np.ndarray, "N 3"],
        joints: Mapping[str, Float[np.ndarray, "3"]],
        bones: Sequence[str],
    ) -> BodyParts:
        """`bones` names the bone that moves each point most."""
        names, index = np.unique(np.asarray(bones, dtype=str), return_inverse=True)
        return cls(points, joints, names.tolist(), index)

    def starts(self, *prefixes: str) -> Bool[np.ndarray, "N"]:
        """Points of the bones whose names start with one of the prefixes."""
        found = np.logical_or.reduce([np.char.startswith(self._names, p) for p in prefixes])
        return np.asarray(found)[self._bones]

    def shirt(self, sleeve: float, waist: float, neckline_m: float) -> Bool[np.ndarray, "N"]:
        shoulder = abs(self.joints["upperarm01.R"][2])
        wrist = abs(self.joints["wrist.R"][2])
        sleeve_end = shoulder + sleeve * (wrist - shoulder)
        trunk = self.starts(*TRUNK) & (self._height > waist * self._stature)
        arms = self.starts(*ARMS) & (self._side < sleeve_end)
        throat = np.linalg.norm(self.points - self.joints["neck01"], axis=1)
        return (trunk & (throat > neckline_m)) | arms

    def trousers(self, leg: float, waist: float) -> Bool[np.ndarray, "N"]:
        hip, ankle = self.joints["upperleg01.R"][1], self.joints["foot.R"][1]
        hem = hip + leg * (ankle - hip)
        trunk = self.starts(*TRUNK) & (self._height <= waist * self._stature)
        return trunk | (self.starts(*LEGS) & (self._height > hem))

    def socks(self, leg: float) -> Bool[np.ndarray, "N"]:
        """Above the shoes, where trousers are long enough not to show bare legs, or short."""
        top = self.joints["foot.R"][1] + (0.08 if leg < 1 else 0.03)
        return self.starts(*LEGS) & (self._height < top)

    def shoes(self) -> Bool[np.ndarray, "N"]:
        return self.starts(*LEGS) & (self._height < self.joints["foot.R"][1] + 0.005)

    def stripes(self) -> Bool[np.ndarray, "N"]:
        """Bands of 5 cm: around the trunk by height, around the sleeves by length."""
        along = np.where(self.starts(*ARMS), self._side, self._height)
        return np.floor(along / 0.05).astype(int) % 2 == 0

    def hair(self, length: float) -> Bool[np.ndarray, "N"]:
        """The scalp above a hairline that falls from the forehead to the nape, and long hair."""
        if length == 0:
            return np.zeros(len(self._height), dtype=bool)
        head = self.starts(*HEAD)
        front, back = self._forward[head].max(), self._forward[head].min()
        top, chin = self._height[head].max(), self._height[head].min()
        depth = np.clip((front - self._forward) / (front - back), 0, 1)
        fall = np.clip((depth - 0.25) / 0.45, 0, 1)
        hairline = top - (top - chin) * (0.22 + 0.58 * fall * fall * (3 - 2 * fall))
        scalp = head & (self._height > hairline)
        if length < 2:
            return scalp
        neck = self.joints["neck01"]
        behind = (self._forward < neck[0] - 0.015) & (self._side < 0.10)
        return scalp | (
            behind & (self._height > neck[1] - 0.08) & ~self.starts(*ARMS, "clavicle", "shoulder")
        )
