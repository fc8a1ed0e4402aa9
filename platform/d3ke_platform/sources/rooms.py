"""Rooms around the person: what stands behind them in the picture.

Every room has a floor and two walls, one opposite the frontal and one opposite the sagittal camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from d3ke_platform.sources.room_pictures import (
    cabinet_picture,
    ceiling_picture,
    floor_picture,
    wall_picture,
)
from d3ke_platform.sources.texture import fading_texture, noise_texture

WALL_DISTANCE_M = 3.2
CEILING_M = 3.0
BOX_COUNT = 6
_PICTURE_PX = 1024
_PLANES = (
    ((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), 10.0),
    ((-WALL_DISTANCE_M, 2.0, 0.0), (1.0, 0.0, 0.0), 10.0),
    ((0.0, 2.0, -WALL_DISTANCE_M), (0.0, 0.0, 1.0), 10.0),
)
_CHAIR = (
    ((0.0, -0.025, 0.0), (0.44, 0.05, 0.44)),
    ((-0.21, 0.26, 0.0), (0.03, 0.46, 0.42)),
    *(((x, None, z), (0.035, None, 0.035)) for x in (-0.19, 0.19) for z in (-0.19, 0.19)),
)
"""Seat, back and legs: middle (forward, up from the seat, right) and size, m."""


class Room(Protocol):
    """What the renderer needs of a room."""

    backdrop: bool
    """Whether it stands still behind everything that moves: then one picture of it will do."""

    def furnish(self, rng: np.random.Generator) -> None:
        """Make it another room."""

    def dim(self, rng: np.random.Generator) -> None:
        """Set the brightness of floor and walls."""

    def show(self, shown: bool) -> None:
        """Show or hide all but the chair."""

    def seat(self, place: Sequence[float] | None) -> None:
        """Put a chair: x, y, z of the middle of its seat (m) and its direction (rad), or none."""


class PlainRoom:
    """Floor and walls of one cloudy colour each, and bright boxes along the walls."""

    backdrop = False

    def __init__(self, plotter: Any, pyvista: Any) -> None:
        self._pv = pyvista
        self._planes = [add_plane(plotter, pyvista, *plane) for plane in _PLANES]
        self._boxes = [plotter.add_mesh(pyvista.Cube(), ambient=0.3) for _ in range(BOX_COUNT)]

    def furnish(self, rng: np.random.Generator) -> None:
        for actor, base in zip(self._planes, (0.42, 0.55, 0.55), strict=True):
            color = base + rng.uniform(-0.2, 0.2) + rng.normal(0, 0.05, 3)
            picture = noise_texture(rng, size=256, base=color, contrast=rng.uniform(0.02, 0.06))
            actor.texture = self._pv.Texture(fading_texture(picture, rng))
            actor.texture.interpolate = True
        for actor in self._boxes:
            place_box(actor, rng)
            actor.prop.color = rng.uniform(0.05, 0.75, 3).tolist()
            actor.visibility = bool(rng.random() < 0.75)

    def dim(self, rng: np.random.Generator) -> None:
        for actor in self._planes:
            actor.prop.color = [rng.uniform(0.8, 1.0)] * 3

    def show(self, shown: bool) -> None:
        """A plain room is quick enough to be drawn each time."""

    def seat(self, place: Sequence[float] | None) -> None:
        """A plain room has no chairs."""


class FurnishedRoom:
    """Floors and walls with patterns, doors, windows and pictures, cupboards, and a chair."""

    backdrop = True

    def __init__(self, plotter: Any, pyvista: Any) -> None:
        self._pv = pyvista
        plotter.set_background("black")  # what is half transparent must not be brightened by it
        planes = (*_PLANES, ((0.0, CEILING_M, 0.0), (0.0, 1.0, 0.0), 10.0))
        self._planes = [add_plane(plotter, pyvista, *plane) for plane in planes]
        cube = pyvista.Cube(clean=False)
        blank = pyvista.Texture(np.full((2, 2, 3), 128, np.uint8))
        self._boxes = [
            plotter.add_mesh(cube.copy(), texture=blank, ambient=0.45, diffuse=0.6)
            for _ in range(BOX_COUNT)
        ]
        self._chair = [
            plotter.add_mesh(cube.copy(), color="white", ambient=0.4, diffuse=0.6) for _ in _CHAIR
        ]
        self._standing = list(self._boxes)
        self._seated = False
        self.seat(None)

    def furnish(self, rng: np.random.Generator) -> None:
        size = _PICTURE_PX
        walls = [wall_picture(rng, size) for _ in range(2)]
        pictures = [floor_picture(rng, size), *walls, ceiling_picture(rng, size)]
        for actor, picture in zip(self._planes, pictures, strict=True):
            self._cover(actor, fading_texture(picture, rng, steepness=(0.2, 1.6)))
        self._standing = []
        for actor in self._boxes:
            place_box(actor, rng)
            self._cover(actor, cabinet_picture(rng, 128))
            self._standing += [actor] if rng.random() < 0.45 else []
            actor.visibility = False
        color = rng.uniform(0.15, 0.8) * np.array([1.0, rng.uniform(0.75, 1), rng.uniform(0.5, 1)])
        for actor in self._chair:
            actor.prop.color = color.tolist()

    def dim(self, rng: np.random.Generator) -> None:
        """The whole room under one light."""
        gray = rng.uniform(0.62, 1.0)
        tint = rng.uniform(-0.05, 0.05)
        for actor in self._planes:
            actor.prop.color = [min(1.0, gray * (1 + tint)), gray, min(1.0, gray * (1 - tint))]

    def show(self, shown: bool) -> None:
        for actor in (*self._planes, *self._standing):
            actor.visibility = shown
        for actor in self._chair:
            actor.visibility = self._seated and not shown

    def seat(self, place: Sequence[float] | None) -> None:
        self._seated = place is not None
        for actor, (middle, size) in zip(self._chair, _CHAIR, strict=True):
            actor.visibility = self._seated
            if place is None:
                continue
            x, y, z, yaw = place
            up, height = (-y / 2, y) if middle[1] is None else (middle[1], size[1])
            ahead, right = middle[0], middle[2]
            cosine, sine = np.cos(yaw), np.sin(yaw)
            actor.scale = (size[0], height, size[2])
            actor.position = (
                x + cosine * ahead + sine * right, y + up, z - sine * ahead + cosine * right
            )  # fmt: skip
            actor.orientation = (0.0, np.degrees(yaw), 0.0)

    def _cover(self, actor: Any, picture: np.ndarray) -> None:
        actor.texture = self._pv.Texture(picture)
        actor.texture.interpolate = True
        actor.texture.mipmap = True


ROOMS: dict[str, type[PlainRoom] | type[FurnishedRoom]] = {
    "plain": PlainRoom,
    "furnished": FurnishedRoom,
}
"""Style -> room."""


def place_box(actor: Any, rng: np.random.Generator) -> None:
    """Put a unit cube along one of the walls, in any size of furniture."""
    width, height, depth = rng.uniform((0.25, 0.3, 0.25), (0.8, 1.8, 0.5))
    along = rng.uniform(-2.6, 2.6)
    behind = -WALL_DISTANCE_M + 0.05 + depth / 2
    on_left = bool(rng.random() < 0.5)
    actor.position = (along, height / 2, behind) if on_left else (behind, height / 2, along)
    actor.scale = (width, height, depth) if on_left else (depth, height, width)


def add_plane(
    plotter: Any, pyvista: Any, center: Sequence[float], direction: Sequence[float], size: float
) -> Any:
    """A square plane with a texture; returns the actor."""
    plane = pyvista.Plane(center=center, direction=direction, i_size=size, j_size=size)
    blank = pyvista.Texture(np.full((2, 2, 3), 128, np.uint8))
    # Unlit, with the fall-off of light in the texture: lamps would cost a fifth of the time.
    return plotter.add_mesh(plane, texture=blank, lighting=False)
