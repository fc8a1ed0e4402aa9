"""Looks drawn pixel by pixel on the unwrapped skin: straight hems, cloth with patterns, a face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8

from d3ke_platform.sources.appearance import Appearance, layered
from d3ke_platform.sources.body_parts import ARMS, HEAD, LEGS, TRUNK, BodyParts
from d3ke_platform.sources.skin_map import SkinMap, Texels

TEXTURE_PX = 768
FOLDS = 7
PRINTED = 0.25
"""Share of plain shirts with a print on the chest."""

Colors = Float[np.ndarray, "N 3"]
Shade = Float[np.ndarray, "N"]
Where = Bool[np.ndarray, "N"]


@cache
def texels_of(skin: SkinMap) -> Texels:
    """Computed once per process: two seconds."""
    return skin.texels(TEXTURE_PX)


def paint(
    appearance: Appearance,
    skin: SkinMap,
    vertices: Float[np.ndarray, "V 3"],
    joints: Mapping[str, Float[np.ndarray, "3"]],
    bones: Sequence[str],
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "S S 3"]:
    """The texture of a dressed body whose T-pose has these vertices and bone heads (ground, m).

    `bones` names the bone that moves each vertex most; `rng` decides patterns and grain.
    """
    texels = texels_of(skin)
    names, index = np.unique(np.asarray(bones, dtype=str), return_inverse=True)
    part = BodyParts(texels.points(vertices), joints, names.tolist(), index[texels.nearest])
    colors, _ = layered(appearance, part)
    shirt = part.shirt(appearance.sleeve, appearance.waist, appearance.neckline_m)
    trousers = part.trousers(appearance.leg, appearance.waist) & ~shirt
    shoes = part.shoes()
    hair = part.hair(appearance.hair_length)
    _weave(colors, part, shirt & ~shoes, appearance, rng)
    _finish_trousers(colors, part, trousers & ~shoes, appearance, rng)
    cloth = (shirt | trousers) & ~shoes
    colors[cloth] *= _folds(part.points, rng)[cloth, None]
    colors[shoes & (part.points[:, 1] < 0.009)] = rng.choice([0.12, 0.85]) * np.ones(3)
    _face(colors, part, ~(cloth | hair | shoes), appearance)
    strands = rng.normal(0, 1, part.count)
    colors[hair] *= (1 + 0.12 * strands)[hair, None]
    colors *= 1 + 0.025 * rng.normal(0, 1, (part.count, 1))
    picture = np.clip(colors, 0, 1) * 255
    return picture.astype(np.uint8).reshape(texels.size, texels.size, 3)


def _weave(
    colors: Colors, part: BodyParts, shirt: Where, looks: Appearance, rng: np.random.Generator
) -> None:
    """A pattern of two colours, a print on the chest, and seams."""
    forward, height, right = part.points.T
    on_arm = part.starts(*ARMS)
    along = np.where(on_arm, np.abs(right), height)
    around = np.where(on_arm, height, right)
    first, second = np.array(looks.shirt), np.array(looks.stripe)
    if looks.shirt != looks.stripe:
        kind, width = rng.integers(4), rng.uniform(0.012, 0.06)
        bands = [np.floor(at / width).astype(int) % 2 == 0 for at in (along, around)]
        colors[shirt] = first
        if kind == 0:
            colors[shirt & bands[0]] = second
        elif kind == 1:
            colors[shirt & bands[1]] = second
        elif kind == 2:
            mixed = (bands[0].astype(float) + bands[1]) / 2
            colors[shirt] = (first + mixed[:, None] * (second - first))[shirt]
        else:
            colors[shirt & on_arm] = second
    elif rng.random() < PRINTED:
        middle = part.joints["neck01"][1] - rng.uniform(0.20, 0.26)
        size = rng.uniform(0.05, 0.11, 2)
        on_chest = (forward > part.joints["neck01"][0]) & ~on_arm
        where = on_chest & (np.abs(right) < size[0]) & (np.abs(height - middle) < size[1])
        colors[shirt & where] = rng.uniform(0.05, 0.95, 3)
    sleeve_end = _sleeve_end(part, looks)
    hem = on_arm & (np.abs(np.abs(right) - sleeve_end) < 0.012)
    throat = np.linalg.norm(part.points - part.joints["neck01"], axis=1)
    collar = ~on_arm & (throat < looks.neckline_m + 0.014)
    lowest = ~on_arm & (height < looks.waist * height.max() + 0.014)
    colors[shirt & (hem | collar | lowest)] *= rng.uniform(0.65, 0.9)


def _finish_trousers(
    colors: Colors, part: BodyParts, trousers: Where, looks: Appearance, rng: np.random.Generator
) -> None:
    """A belt, seams along the legs, worn thighs."""
    height, right = part.points[:, 1], np.abs(part.points[:, 2])
    waist = looks.waist * height.max()
    if rng.random() < 0.5:
        belt = part.starts(*TRUNK) & (height > waist - 0.035)
        colors[trousers & belt] = rng.uniform(0.05, 0.35) * np.array([1.0, 0.8, 0.6])
    hip, ankle = part.joints["upperleg01.R"], part.joints["foot.R"]
    down = (hip[1] - height) / (hip[1] - ankle[1])
    outer = hip[2] + (ankle[2] - hip[2]) * down
    middle = np.abs(part.points[:, 0] - hip[0] - (ankle[0] - hip[0]) * down)
    seam = part.starts(*LEGS) & (middle < 0.006) & (right > outer)
    colors[trousers & seam] *= 0.72
    if rng.random() < 0.4:
        worn = np.exp(-(((down - 0.3) / 0.2) ** 2)) * (part.points[:, 0] > hip[0])
        colors[trousers] *= (1 + 0.25 * worn)[trousers, None]
    hem_height = hip[1] + looks.leg * (ankle[1] - hip[1])
    hem = part.starts(*LEGS) & (np.abs(height - hem_height) < 0.015)
    colors[trousers & hem] *= 0.78


def _folds(points: Float[np.ndarray, "N 3"], rng: np.random.Generator) -> Shade:
    """Light and shadow of wrinkled cloth, about 1."""
    shade = np.zeros(len(points), np.float32)
    for _ in range(FOLDS):
        direction = rng.normal(0, 1, 3) * (1.0, 0.6, 1.0)
        wave = points @ (direction / np.linalg.norm(direction)).astype(np.float32)
        bent = wave + 0.03 * np.sin(points @ rng.normal(0, 14, 3).astype(np.float32))
        shade += np.sin(2 * np.pi * bent / rng.uniform(0.05, 0.2) + rng.uniform(0, 6.3))
    return 1 + np.float32(rng.uniform(0.02, 0.05)) * shade


def _face(colors: Colors, part: BodyParts, bare: Where, looks: Appearance) -> None:
    """Eyes with an iris, brows and lips: what the measure of the eyes' distance says."""
    forward, height, right = part.points.T
    eye = part.joints["eye.R"]
    apart = 2 * abs(float(eye[2]))
    balls = part.starts("eye")
    off = np.hypot(np.abs(right) - eye[2], height - eye[1])
    colors[balls] = (0.86, 0.84, 0.82)
    colors[balls & (off < 0.0065)] = (0.20, 0.15, 0.11)
    front = bare & part.starts(*HEAD) & (forward > eye[0] - 0.02) & ~balls
    skin = np.array(looks.skin)
    arch = eye[1] + 0.30 * apart - 0.08 * apart * ((np.abs(right) - eye[2]) / (0.3 * apart)) ** 2
    brow = front & (np.abs(np.abs(right) - eye[2]) < 0.3 * apart)
    brow &= np.abs(height - arch) < 0.055 * apart
    colors[brow] = 0.35 * skin + 0.65 * np.minimum(np.array(looks.hair), 0.6 * skin)
    mouth = eye[1] - 1.08 * apart
    lips = front & (((height - mouth) / (0.12 * apart)) ** 2 + (right / (0.38 * apart)) ** 2 < 1)
    colors[lips] = skin * (0.88, 0.66, 0.66)


def _sleeve_end(part: BodyParts, looks: Appearance) -> float:
    shoulder = abs(float(part.joints["upperarm01.R"][2]))
    return shoulder + looks.sleeve * (abs(float(part.joints["wrist.R"][2])) - shoulder)
