"""A room with one person in it, rendered without a display, seen by calibrated cameras.

The room's middle is the ground origin; the person faces ground +x. The *frontal* camera stands at
+x, the *sagittal* one at +z (the person's right), each against a wall.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.sources.appearance import Outfit
from d3ke_platform.sources.body_surfaces import BodySurface, ColouredSurface, TexturedSurface
from d3ke_platform.sources.lens import Lens
from d3ke_platform.sources.rooms import ROOMS, Room
from d3ke_platform.sources.skin_map import SkinMap


@dataclass(frozen=True, kw_only=True)
class CameraPlace:
    """Where a named camera stands before chance moves it."""

    position: tuple[float, float, float]
    target: tuple[float, float, float] = (0.0, 1.13, 0.0)


CAMERA_PLACES: Mapping[str, CameraPlace] = {
    "frontal": CameraPlace(position=(4.8, 1.25, 0.2)),
    "sagittal": CameraPlace(position=(0.2, 1.25, 4.8)),
    "oblique": CameraPlace(position=(3.4, 1.3, 3.4)),
}

POSITION_SPREAD_M = (0.2, 0.2, 0.2)
FIELD_OF_VIEW_SPREAD_DEG = 1.5
CAMERA_DISTANCE_M = 4.8
STYLES = ("plain", "furnished")
OVERSCAN = 1.08
"""Size of the pinhole's picture, in sides of the one it is bent to."""


def sample_camera(
    name: str, *, image_size: int, rng: np.random.Generator, field_of_view_deg: float = 40.0
) -> Camera:
    """A square camera at the named place, its position and focal length varied by chance.

    `field_of_view_deg` is the mean of the fields of view, which vary by 1.5 degrees.

    Raises UnknownNameError for a name that is not in `CAMERA_PLACES`.
    """
    if name not in CAMERA_PLACES:
        raise UnknownNameError("camera", name, CAMERA_PLACES)
    place = CAMERA_PLACES[name]
    position = np.array(place.position) + rng.uniform(-1, 1, 3) * POSITION_SPREAD_M
    target = np.array(place.target) + rng.uniform(-0.05, 0.05, 3)
    lowest = field_of_view_deg - FIELD_OF_VIEW_SPREAD_DEG
    angle = rng.uniform(lowest, field_of_view_deg + FIELD_OF_VIEW_SPREAD_DEG)
    focal = image_size / 2 / math.tan(math.radians(angle) / 2)
    return Camera.looking_at(position, target, focal=focal, size=(image_size, image_size))


def room_to_move(field_of_view_deg: float) -> float:
    """How far from the middle a person may go and stay in view with outstretched arms, m."""
    half = CAMERA_DISTANCE_M * math.tan(math.radians(field_of_view_deg) / 2)
    return 0.72 * half - 0.45


def vertex_normals(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Float[np.ndarray, "V 3"]:
    """Unit normals, averaged over the neighbouring faces by their area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    face_normals = np.cross(b - a, c - a)
    corners = faces.T.ravel()
    summed = np.stack(
        [np.bincount(corners, np.tile(face_normals[:, i], 3), len(vertices)) for i in range(3)],
        axis=1,
    )
    return summed / np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)


@dataclass(eq=False)
class _View:
    """A camera and what belongs to it."""

    camera: Camera
    pinhole: Camera
    lens: Lens | None
    backdrop: UInt8[np.ndarray, "H W 3"] | None = None


class Scene:
    """The renderer: one room, one body, reused for any number of people and pictures.

    Everything that chance decides is set again by `furnish` and `light`, so a picture depends on
    their generators and not on what was rendered before.
    """

    def __init__(
        self,
        faces: Int[np.ndarray, "F 3"],
        vertex_count: int,
        image_size: int,
        *,
        style: str = "plain",
        skin: SkinMap | None = None,
        distorted: bool = False,
    ) -> None:
        """`style` of the room (see ROOMS); outfits need a texture where there is a `skin`;
        `distorted`: cameras may have any lens, which takes a little longer."""
        # llvmpipe on one core: the pipelines already run one actor per core.
        os.environ.setdefault("LP_NUM_THREADS", "1")
        import pyvista
        from vtkmodules.vtkCommonCore import vtkLogger

        # VTK tries an X server before it renders without one, and warns of it in every process.
        vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
        self._pv = pyvista
        self._faces = faces
        self._distorted = distorted
        size = math.ceil(image_size * OVERSCAN) if distorted else image_size
        self._views: dict[int, _View] = {}
        self._plotter = pyvista.Plotter(off_screen=True, window_size=[size, size], lighting="none")
        self._plotter.render_window.SetMultiSamples(0)  # halves the time of a picture
        self._room: Room = ROOMS[style](self._plotter, pyvista)
        self._lights = [pyvista.Light(focal_point=(0, 1, 0)) for _ in range(2)]
        for light in self._lights:
            self._plotter.add_light(light)
        self._shadow = self._add_shadow(soft=style != "plain")
        self._body: BodySurface = (
            TexturedSurface(self._plotter, pyvista, skin)
            if skin
            else ColouredSurface(self._plotter, pyvista, faces, vertex_count)
        )
        self._thickness = np.zeros((vertex_count, 1))
        # Without a first show() every screenshot returns the first picture.
        self._plotter.show(auto_close=False)

    def close(self) -> None:
        """Free the renderer."""
        self._plotter.close()

    def furnish(self, rng: np.random.Generator) -> None:
        """Another room: colours, patterns and what stands along the walls."""
        self._views.clear()
        self._room.furnish(rng)

    def seat(self, place: Sequence[float] | None) -> None:
        """A chair where the room has one: x, y, z of its seat (m) and direction (rad), or none."""
        self._room.seat(place)

    def light(self, rng: np.random.Generator) -> None:
        """Strength, place and tint of the two lamps, and how dark the shadow is."""
        places, strengths = ((3.0, 4.0, 2.0), (-1.0, 3.5, 4.0)), ((0.65, 1.0), (0.4, 0.75))
        for lamp, place, strength in zip(self._lights, places, strengths, strict=True):
            lamp.position = tuple(np.array(place) + rng.uniform(-1.2, 1.2, 3))
            lamp.intensity = rng.uniform(*strength)
            tint = rng.uniform(-0.06, 0.06)
            lamp.diffuse_color = (min(1.0, 1.0 + tint), 1.0, min(1.0, 1.0 - tint))
        self._views.clear()
        self._room.dim(rng)
        self._shadow.prop.opacity = rng.uniform(0.2, 0.4)

    def dress(self, outfit: Outfit) -> None:
        """Put an outfit on the body."""
        self._body.dress(outfit)
        self._thickness = outfit.thickness_m[:, None]

    def pose(self, vertices: Float[np.ndarray, "V 3"]) -> None:
        """Place the body: skin vertices in ground, m."""
        normals = vertex_normals(vertices, self._faces)
        self._body.place(vertices + normals * self._thickness, normals)
        low = vertices[vertices[:, 1] < vertices[:, 1].min() + 0.25][:, [0, 2]]
        (x, z), (width, depth) = low.mean(axis=0), np.clip(low.std(axis=0) * 2.2, 0.12, 0.8)
        self._shadow.position = (float(x), 0.0, float(z))
        self._shadow.scale = (float(width), 1.0, float(depth))

    def picture(self, camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
        """What a camera sees: RGB. Exact pinhole, so only level, undistorted, centred cameras,
        unless the scene was made for distorted ones."""
        view = self._view(camera)
        if not self._room.backdrop:
            picture = self._rendered(view.pinhole)
        else:
            # What stands still is drawn once: half the time of a picture.
            if view.backdrop is None:
                view.backdrop = self._empty_room(view.pinhole)
            picture = _in_front(self._rendered(view.pinhole, transparent=True), view.backdrop)
        return view.lens(picture) if view.lens else picture

    def _view(self, camera: Camera) -> _View:
        if id(camera) not in self._views:
            self._views = dict(list(self._views.items())[-3:])
            size = int(self._plotter.window_size[0])
            lens = Lens.of(camera, size) if self._distorted else None
            self._views[id(camera)] = _View(camera, lens.pinhole if lens else camera, lens)
        return self._views[id(camera)]

    def _empty_room(self, camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
        movable = [actor for actor in (self._body.actor, self._shadow) if actor.visibility]
        for actor in movable:
            actor.visibility = False
        self._room.show(True)
        picture = self._rendered(camera)
        self._room.show(False)
        for actor in movable:
            actor.visibility = True
        return picture

    def _rendered(self, camera: Camera, *, transparent: bool = False) -> UInt8[np.ndarray, "H W C"]:
        self._aim(camera)
        self._plotter.render()
        picture = self._plotter.screenshot(
            None, return_img=True, transparent_background=transparent
        )
        return np.asarray(picture, dtype=np.uint8)

    def _aim(self, camera: Camera) -> None:
        width, height = camera.size
        middle = ((width - 1) / 2, (height - 1) / 2)
        focal_x, focal_y = camera.intrinsics[0, 0], camera.intrinsics[1, 1]
        if camera.size != tuple(self._plotter.window_size):
            raise InvalidInputError("scene camera", f"size {camera.size} is not the scene's")
        if (
            camera.distortion.any()
            or not np.isclose(focal_x, focal_y)
            or not np.allclose(camera.intrinsics[:2, 2], middle)
        ):
            raise InvalidInputError("scene camera", "only a centred pinhole can be rendered")
        position = camera.center
        self._plotter.camera.position = tuple(position)
        self._plotter.camera.focal_point = tuple(position + camera.rotation[2])
        self._plotter.camera.up = tuple(-camera.rotation[1])
        self._plotter.camera.view_angle = math.degrees(2 * math.atan(height / 2 / focal_y))
        self._plotter.camera.clipping_range = (0.3, 20.0)

    def _add_shadow(self, *, soft: bool) -> Any:
        if not soft:
            disc = self._pv.Disc(center=(0, 0.004, 0), inner=0, outer=1, normal=(0, 1, 0), c_res=40)
            return self._plotter.add_mesh(disc, color="black", opacity=0.3, lighting=False)
        across = np.hypot(*np.meshgrid(np.linspace(-1, 1, 64), np.linspace(-1, 1, 64)))
        black = np.zeros((64, 64, 4), np.uint8)
        black[..., 3] = 255 * np.clip(1.25 * (1 - across**2), 0, 1) ** 2
        plane = self._pv.Plane(center=(0, 0.004, 0), direction=(0, 1, 0), i_size=3, j_size=3)
        texture = self._pv.Texture(black)
        texture.interpolate = True
        return self._plotter.add_mesh(plane, texture=texture, opacity=0.3, lighting=False)


def _in_front(
    picture: UInt8[np.ndarray, "H W 4"], backdrop: UInt8[np.ndarray, "H W 3"]
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture with transparency (colours not multiplied by it) in front of another."""
    rows, columns = np.nonzero(picture[..., 3].any(axis=1))[0], picture[..., 3].any(axis=0)
    result = backdrop.copy()
    if len(rows) == 0:
        return result
    where = (
        slice(rows[0], rows[-1] + 1),
        slice(*(np.flatnonzero(columns)[[0, -1]] + [0, 1]).tolist()),
    )
    part = picture[where].astype(np.uint16)
    opaque = part[..., 3:]
    result[where] = (part[..., :3] * opaque + result[where] * (255 - opaque) + 127) // 255
    return result
