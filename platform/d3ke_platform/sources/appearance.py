"""How a person looks: skin, hair and clothes as colours and thickness of the mesh vertices."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, UInt8

from d3ke_platform.sources.body_parts import BodyParts

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
    texture: UInt8[np.ndarray, "S S 3"] | None = None
    """The same looks drawn on the mesh's texture, where the renderer has one."""


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
    part = BodyParts.of(vertices, joints, bones)
    colors, thickness = layered(appearance, part)
    colors = colors * rng.uniform(0.96, 1.04, (len(vertices), 1))
    return Outfit((np.clip(colors, 0, 1) * 255).astype(np.uint8), thickness)


def layered(
    appearance: Appearance, part: BodyParts
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N"]]:
    """Colour (RGB, 0 to 1) and thickness (m) of the outermost layer at each point of a body."""
    colors = np.tile(np.array(appearance.skin), (part.count, 1))
    thickness = np.zeros(part.count)
    shirt = part.shirt(appearance.sleeve, appearance.waist, appearance.neckline_m)
    layers = (
        (part.starts("eye"), EYE_COLOR, 0.0),
        (part.hair(appearance.hair_length), appearance.hair, appearance.hair_m),
        (part.socks(appearance.leg), appearance.socks, 0.002),
        (part.trousers(appearance.leg, appearance.waist), appearance.trousers, appearance.cloth_m),
        (shirt, appearance.shirt, appearance.cloth_m),
        (shirt & part.stripes(), appearance.stripe, appearance.cloth_m),
        (part.shoes(), appearance.shoes, 0.004),
    )
    for where, color, depth in layers:
        colors[where] = color
        thickness[where] = depth
    return colors, thickness


def _cloth_color(rng: np.random.Generator) -> Color:
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.85), rng.uniform(0.18, 0.95))


def _color(rgb: Float[np.ndarray, "3"]) -> Color:
    red, green, blue = np.clip(rgb, 0.0, 1.0).tolist()
    return red, green, blue
