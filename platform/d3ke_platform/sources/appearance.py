"""How a person looks: skin, hair and clothes as colours and thickness of the mesh vertices.

Garments end at heights and arm lengths of the T-pose, not at the border between two bones'
vertices: that border zigzags over the waist.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, UInt8

Color: TypeAlias = tuple[float, float, float]

SKIN_TONES: tuple[Color, ...] = (
    (0.95, 0.78, 0.68),
    (0.87, 0.66, 0.53),
    (0.76, 0.56, 0.42),
    (0.60, 0.42, 0.30),
    (0.42, 0.29, 0.21),
    (0.33, 0.22, 0.16),
)
EYE_COLOR: Color = (0.15, 0.11, 0.09)

# First letters of the bones of each part of the body.
TRUNK = ("root", "spine", "pelvis", "breast", "clavicle", "shoulder01")
ARMS = ("upperarm", "lowerarm")
LEGS = ("upperleg", "lowerleg", "foot", "toe")
HEAD = ("head", "jaw", "oris", "temporalis", "levator", "orbicularis", "risorius", "oculi")


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """One person's looks; colours are RGB from 0 to 1, lengths fractions of the limb or body."""

    skin: Color
    hair: Color
    shirt: Color
    stripe: Color
    """Second colour of a striped shirt; the same as `shirt` for a plain one."""
    trousers: Color
    shoes: Color
    socks: Color
    sleeve: float
    """Where sleeves end, from the shoulder (0) to the wrist (1)."""
    leg: float
    """Where trousers end, from the hip (0) to the ankle (1)."""
    waist: float
    """Height of the border between shirt and trousers, as a fraction of body height."""
    neckline_m: float
    """Radius of the shirt's opening around the base of the neck."""
    hair_length: float
    """0 bald, 1 short, 2 down to the shoulders."""
    cloth_m: float
    """Distance of cloth from the skin."""
    hair_m: float
    """Thickness of the hair."""


@dataclass(frozen=True)
class Outfit:
    """An appearance on one body's vertices."""

    colors: UInt8[np.ndarray, "V 3"]
    thickness_m: Float[np.ndarray, "V"]
    """How far the surface lies outside the skin, along the normal."""


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """A person dressed by chance."""
    tone = np.array(SKIN_TONES[rng.integers(len(SKIN_TONES))]) * rng.uniform(0.92, 1.05)
    hair = np.array([0.08, 0.06, 0.05]) + rng.random() * np.array([0.45, 0.30, 0.15])
    shirt = _cloth_color(rng)
    return Appearance(
        skin=_color(tone),
        hair=_color(hair),
        shirt=shirt,
        stripe=_cloth_color(rng) if rng.random() < 0.35 else shirt,
        trousers=_color(np.array(_cloth_color(rng)) * rng.uniform(0.35, 0.9)),
        shoes=_color(np.array(_cloth_color(rng)) * rng.uniform(0.3, 1.0)),
        socks=_color(np.full(3, rng.uniform(0.1, 0.9))),
        sleeve=float(rng.choice([0.12, 0.36, 0.45, 0.97]) + rng.uniform(-0.03, 0.03)),
        leg=float(rng.choice([0.35, 0.5, 1.0, 1.0])),
        waist=rng.uniform(0.565, 0.60),
        neckline_m=rng.uniform(0.07, 0.10),
        hair_length=float(rng.choice([0, 1, 1, 1, 1, 2, 2, 2])),
        cloth_m=rng.uniform(0.004, 0.012),
        hair_m=rng.uniform(0.006, 0.018),
    )


def dress(
    appearance: Appearance,
    vertices: Float[np.ndarray, "V 3"],
    joints: Mapping[str, Float[np.ndarray, "3"]],
    bones: Sequence[str],
    rng: np.random.Generator,
) -> Outfit:
    """Colours and thickness for a body whose T-pose has these vertices and bone heads (ground, m).

    `bones` names the bone that moves each vertex most; `rng` gives the grain of the colours.
    """
    part = _Parts(vertices, joints, np.asarray(bones, dtype=str))
    colors = np.tile(np.array(appearance.skin), (len(vertices), 1))
    thickness = np.zeros(len(vertices))
    layers = (
        (part.starts("eye"), EYE_COLOR, 0.0),
        (part.hair(appearance.hair_length), appearance.hair, appearance.hair_m),
        (part.socks(appearance.leg), appearance.socks, 0.002),
        (part.trousers(appearance), appearance.trousers, appearance.cloth_m),
        (part.shirt(appearance), appearance.shirt, appearance.cloth_m),
        (part.shirt(appearance) & part.stripes(), appearance.stripe, appearance.cloth_m),
        (part.shoes(), appearance.shoes, 0.004),
    )
    for where, color, depth in layers:
        colors[where] = color
        thickness[where] = depth
    colors = colors * rng.uniform(0.96, 1.04, (len(vertices), 1))
    return Outfit((np.clip(colors, 0, 1) * 255).astype(np.uint8), thickness)


class _Parts:
    """Which vertices of a T-pose belong to what."""

    def __init__(
        self,
        vertices: Float[np.ndarray, "V 3"],
        joints: Mapping[str, Float[np.ndarray, "3"]],
        bones: np.ndarray,
    ) -> None:
        self._forward, self._height, right = vertices.astype(np.float64).T
        self._side = np.abs(right)
        self._vertices, self._joints, self._bones = vertices, joints, bones
        self._stature = float(self._height.max())

    def starts(self, *prefixes: str) -> Bool[np.ndarray, "V"]:
        """Vertices of the bones whose names start with one of the prefixes."""
        return np.logical_or.reduce([np.char.startswith(self._bones, p) for p in prefixes])

    def shirt(self, appearance: Appearance) -> Bool[np.ndarray, "V"]:
        shoulder = abs(self._joints["upperarm01.R"][2])
        wrist = abs(self._joints["wrist.R"][2])
        sleeve_end = shoulder + appearance.sleeve * (wrist - shoulder)
        trunk = self.starts(*TRUNK) & (self._height > appearance.waist * self._stature)
        arms = self.starts(*ARMS) & (self._side < sleeve_end)
        throat = np.linalg.norm(self._vertices - self._joints["neck01"], axis=1)
        return (trunk & (throat > appearance.neckline_m)) | arms

    def trousers(self, appearance: Appearance) -> Bool[np.ndarray, "V"]:
        hip, ankle = self._joints["upperleg01.R"][1], self._joints["foot.R"][1]
        hem = hip + appearance.leg * (ankle - hip)
        trunk = self.starts(*TRUNK) & (self._height <= appearance.waist * self._stature)
        return trunk | (self.starts(*LEGS) & (self._height > hem))

    def socks(self, leg: float) -> Bool[np.ndarray, "V"]:
        """Above the shoes, where trousers are long enough not to show bare legs, or short."""
        top = self._joints["foot.R"][1] + (0.08 if leg < 1 else 0.03)
        return self.starts(*LEGS) & (self._height < top)

    def shoes(self) -> Bool[np.ndarray, "V"]:
        return self.starts(*LEGS) & (self._height < self._joints["foot.R"][1] + 0.005)

    def stripes(self) -> Bool[np.ndarray, "V"]:
        """Bands of 5 cm: around the trunk by height, around the sleeves by length."""
        along = np.where(self.starts(*ARMS), self._side, self._height)
        return np.floor(along / 0.05).astype(int) % 2 == 0

    def hair(self, length: float) -> Bool[np.ndarray, "V"]:
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
        neck = self._joints["neck01"]
        behind = (self._forward < neck[0] - 0.015) & (self._side < 0.10)
        return scalp | (
            behind & (self._height > neck[1] - 0.08) & ~self.starts(*ARMS, "clavicle", "shoulder")
        )


def _cloth_color(rng: np.random.Generator) -> Color:
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.85), rng.uniform(0.18, 0.95))


def _color(rgb: Float[np.ndarray, "3"]) -> Color:
    red, green, blue = np.clip(rgb, 0.0, 1.0).tolist()
    return red, green, blue
