"""Surfaces of furnished rooms, drawn to scale: floors, walls with doors and windows, cabinets.

A picture shows a square of `SPAN_M` metres; x runs to the right and y up from its lower left
corner. Everything is drawn by chance for this project: no photographs.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from d3ke_platform.sources.texture import noise_texture

SPAN_M = 10.0
FLOOR_LINE_M = 3.0
"""Height of the floor in the picture of a wall."""

Picture = UInt8[np.ndarray, "S S 3"]
Color = Float[np.ndarray, "3"]

WOODS = ((0.62, 0.46, 0.30), (0.48, 0.33, 0.21), (0.74, 0.60, 0.43), (0.33, 0.23, 0.16))
PAINTS = (
    (0.86, 0.84, 0.78), (0.78, 0.81, 0.83), (0.80, 0.76, 0.68), (0.63, 0.70, 0.66),
    (0.70, 0.62, 0.58), (0.55, 0.60, 0.68), (0.88, 0.88, 0.88), (0.74, 0.70, 0.56),
)  # fmt: skip


class _Canvas:
    """A picture in metres."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self._scale = len(picture) / SPAN_M

    def box(
        self, x: float, y: float, width: float, height: float, color: Color, line_m: float = 0.0
    ) -> None:
        """A rectangle from its lower left corner, filled or (line_m > 0) outlined."""
        top = len(self.picture) - 1 - (y + height) * self._scale
        corner = (round(x * self._scale), round(top))
        far = (round((x + width) * self._scale), round(top + height * self._scale))
        thickness = max(1, round(line_m * self._scale)) if line_m else cv2.FILLED
        cv2.rectangle(self.picture, corner, far, tuple((color * 255).tolist()), thickness)

    def paste(self, x: float, y: float, width: float, height: float, part: np.ndarray) -> None:
        """A picture stretched over a rectangle."""
        columns, rows = round(width * self._scale), round(height * self._scale)
        left, top = round(x * self._scale), round(len(self.picture) - (y + height) * self._scale)
        self.picture[top : top + rows, left : left + columns] = cv2.resize(part, (columns, rows))


def floor_picture(rng: np.random.Generator, size: int) -> Picture:
    """Planks, tiles, carpet or linoleum."""
    kind = rng.integers(4)
    if kind == 0:
        return _bricks(rng, size, _tone(rng, WOODS), (rng.uniform(1.2, 2.2), 0.14), 0.16, 0.004)
    if kind == 1:
        side = rng.uniform(0.3, 0.6)
        base = _tone(rng, PAINTS) * rng.uniform(0.45, 0.95)
        return _bricks(rng, size, base, (side, side), 0.04, 0.008, shifted=False)
    base = _tone(rng, PAINTS) * rng.uniform(0.35, 0.85)
    picture = noise_texture(rng, size=size, base=base, contrast=0.008 if kind == 2 else 0.014)
    grain = rng.normal(0, 9 if kind == 2 else 3, (size, size, 1))
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def wall_picture(rng: np.random.Generator, size: int) -> Picture:
    """A wall with a skirting board, and a door, window, shelf or pictures here and there."""
    canvas = _Canvas(_bare_wall(rng, size))
    wood = _tone(rng, (*WOODS, (0.9, 0.9, 0.88)))
    canvas.box(0, FLOOR_LINE_M, SPAN_M, rng.uniform(0.06, 0.12), wood * 0.9)
    kinds: tuple[Callable[..., None], ...] = (_door, _window, _shelf, _poster, _poster)
    x = rng.uniform(0.2, 1.2)
    while x < SPAN_M - 2.0:
        kinds[rng.integers(len(kinds))](canvas, x, wood, rng)
        x += rng.uniform(1.6, 2.8)
    return canvas.picture


def ceiling_picture(rng: np.random.Generator, size: int) -> Picture:
    """Light boards or plaster, with lamps."""
    base = np.full(3, rng.uniform(0.75, 0.92))
    if rng.random() < 0.5:
        picture = _bricks(rng, size, base, (0.6, 0.6), 0.01, 0.01, shifted=False)
    else:
        picture = noise_texture(rng, size=size, base=base, contrast=0.006)
    canvas = _Canvas(picture)
    spacing = rng.uniform(1.6, 2.6)
    for x in np.arange(0.8, SPAN_M - 1.2, spacing):
        for y in np.arange(0.8, SPAN_M - 0.8, spacing):
            canvas.box(x, y, 1.2, 0.3, np.full(3, 1.0))
    return canvas.picture


def cabinet_picture(rng: np.random.Generator, size: int) -> Picture:
    """The front of a cupboard: boards and drawers with handles; it fills the picture."""
    base = _tone(rng, (*WOODS, (0.85, 0.85, 0.83), (0.45, 0.47, 0.50), (0.25, 0.27, 0.30)))
    canvas = _Canvas(noise_texture(rng, size=size, base=base, contrast=0.015))
    rows, columns = rng.integers(1, 5), rng.integers(1, 3)
    height, width = SPAN_M / rows, SPAN_M / columns
    for row in range(rows):
        for column in range(columns):
            x, y = column * width, row * height
            canvas.box(x + 0.25, y + 0.25, width - 0.5, height - 0.5, base * 0.6, line_m=0.12)
            canvas.box(x + width / 2 - 0.7, y + height - 1.1, 1.4, 0.25, base * 0.4)
    return canvas.picture


def _tone(rng: np.random.Generator, colors: tuple[tuple[float, float, float], ...]) -> Color:
    color = np.array(colors[rng.integers(len(colors))])
    return np.clip(color * rng.uniform(0.85, 1.1) + rng.normal(0, 0.02, 3), 0.02, 0.95)


def _bare_wall(rng: np.random.Generator, size: int) -> Picture:
    kind, base = rng.integers(5), _tone(rng, PAINTS)
    if kind == 0:
        brick = np.array([0.58, 0.33, 0.26]) * rng.uniform(0.7, 1.2)
        color = brick if rng.random() < 0.6 else base
        return _bricks(rng, size, np.clip(color, 0, 0.95), (0.25, 0.08), 0.10, 0.012)
    if kind == 1:
        return _bricks(rng, size, _tone(rng, WOODS), (0.16, 20.0), 0.12, 0.006)
    picture = noise_texture(rng, size=size, base=base, contrast=rng.uniform(0.006, 0.02))
    if kind == 2:
        stripes = (np.arange(size) * SPAN_M / size / rng.uniform(0.08, 0.3)).astype(int) % 2
        return np.clip(picture * (1 - 0.12 * stripes)[None, :, None], 0, 255).astype(np.uint8)
    if kind == 3:
        canvas = _Canvas(picture)
        canvas.box(0, 0, SPAN_M, FLOOR_LINE_M + rng.uniform(0.9, 1.3), base * rng.uniform(0.6, 0.9))
        return canvas.picture
    return picture


def _bricks(
    rng: np.random.Generator,
    size: int,
    base: Color,
    side_m: tuple[float, float],
    spread: float,
    gap_m: float,
    *,
    shifted: bool = True,
) -> Picture:
    """Rectangles of varied shade, row by row, with gaps."""
    metres = (np.arange(size) + 0.5) * SPAN_M / size
    y = np.repeat(metres[:, None], size, axis=1)
    row = np.floor(y / side_m[1]).astype(int)
    shift = rng.random(row.max() + 1) * side_m[0] if shifted else np.zeros(row.max() + 1)
    x = metres[None, :] + shift[row]
    column = np.floor(x / side_m[0]).astype(int)
    shades = 1 + rng.normal(0, spread, (row.max() + 1, column.max() + 1))
    shade = shades[row, column]
    # A gap is blended in by how much of the pixel it covers: thin lines must not break up.
    pixel = SPAN_M / size
    gaps = np.ones((size, size))
    for at, side in ((x, side_m[0]), (y, side_m[1])):
        distance = np.minimum(at % side, side - at % side)
        gaps -= 0.45 * np.clip((gap_m + pixel - distance) / pixel, 0, 1) * min(1, gap_m / pixel)
    grain = noise_texture(rng, size=size, base=np.full(3, 0.5), contrast=0.02) / 127.5
    return np.clip(base * 255 * (shade * gaps)[..., None] * grain, 0, 255).astype(np.uint8)


def _door(canvas: _Canvas, x: float, wood: Color, rng: np.random.Generator) -> None:
    y, width, height = FLOOR_LINE_M, 0.9, 2.05
    leaf = np.clip(wood * rng.uniform(0.8, 1.15), 0, 0.95)
    canvas.box(x - 0.07, y, width + 0.14, height + 0.07, wood * 0.75)
    canvas.box(x, y, width, height, leaf)
    for low, high in ((0.2, 0.9), (1.1, 1.9)):
        canvas.box(x + 0.15, y + low, width - 0.3, high - low, leaf * 0.8, line_m=0.02)
    canvas.box(x + 0.78, y + 1.0, 0.08, 0.03, np.full(3, 0.7))


def _window(canvas: _Canvas, x: float, wood: Color, rng: np.random.Generator) -> None:
    y, width, height = FLOOR_LINE_M + 0.9, rng.uniform(1.0, 1.7), rng.uniform(1.1, 1.5)
    rows = np.linspace(0, 1, 64)[:, None, None]
    sky, ground = np.array([0.80, 0.88, 0.97]), np.array([0.42, 0.50, 0.38]) * rng.uniform(0.6, 1.3)
    horizon = 1 / (1 + np.exp(-(rows - rng.uniform(0.5, 0.85)) * 30))
    view = np.repeat((sky * (1 - horizon) + ground * horizon) * rng.uniform(0.6, 1.0), 64, axis=1)
    canvas.paste(x, y, width, height, np.clip(view * 255, 0, 255).astype(np.uint8))
    frame = np.full(3, 0.9) if rng.random() < 0.6 else wood
    for left, wide in ((x, width / 2), (x + width / 2, width / 2)):
        canvas.box(left, y, wide, height, frame, line_m=0.06)
    canvas.box(x - 0.08, y - 0.08, width + 0.16, 0.06, frame * 0.85)
    if rng.random() < 0.5:
        cloth = _tone(rng, PAINTS)
        for left in (x - 0.25, x + width - 0.15):
            for fold in range(5):
                shade = 0.75 + 0.25 * (fold % 2)
                canvas.box(left + 0.08 * fold, y - 0.5, 0.08, height + 0.7, cloth * shade)


def _poster(canvas: _Canvas, x: float, wood: Color, rng: np.random.Generator) -> None:
    width, height = rng.uniform(0.4, 1.0), rng.uniform(0.4, 0.9)
    y = FLOOR_LINE_M + rng.uniform(1.1, 1.5)
    picture = noise_texture(rng, size=96, base=rng.uniform(0.2, 0.8, 3), contrast=0.08)
    for _ in range(rng.integers(1, 5)):
        corner, side = rng.integers(0, 70, 2), rng.integers(8, 60, 2)
        color = tuple(rng.uniform(20, 235, 3).tolist())
        cv2.rectangle(picture, corner.tolist(), (corner + side).tolist(), color, cv2.FILLED)
    canvas.box(x - 0.03, y - 0.03, width + 0.06, height + 0.06, wood * 0.7)
    canvas.paste(x, y, width, height, picture)


def _shelf(canvas: _Canvas, x: float, wood: Color, rng: np.random.Generator) -> None:
    width, boards = rng.uniform(0.8, 1.4), int(rng.integers(3, 6))
    canvas.box(x, FLOOR_LINE_M, width, 0.36 * boards + 0.04, wood * 0.55)
    for board in range(boards):
        y = FLOOR_LINE_M + 0.36 * board
        at = x + 0.04
        while at < x + width - 0.12 and rng.random() < 0.95:
            thick = rng.uniform(0.02, 0.06)
            tall = rng.uniform(0.2, 0.3)
            canvas.box(at, y + 0.04, thick, tall, _tone(rng, PAINTS) * rng.uniform(0.3, 1.0))
            at += thick + 0.008
        canvas.box(x, y, width, 0.035, wood)
    canvas.box(x, FLOOR_LINE_M, width, 0.36 * boards + 0.04, wood, line_m=0.035)
