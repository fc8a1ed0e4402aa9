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
from d3ke_platform.sources.texture import fading_texture, noise_texture

WALL_DISTANCE_M = 3.2
BOX_COUNT = 6


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
FIELD_OF_VIEW_DEG = (38.5, 41.5)


def sample_camera(name: str, *, image_size: int, rng: np.random.Generator) -> Camera:
    """A square camera at the named place, its position and focal length varied by chance.

    Raises UnknownNameError for a name that is not in `CAMERA_PLACES`.
    """
    if name not in CAMERA_PLACES:
        raise UnknownNameError("camera", name, CAMERA_PLACES)
    place = CAMERA_PLACES[name]
    position = np.array(place.position) + rng.uniform(-1, 1, 3) * POSITION_SPREAD_M
    target = np.array(place.target) + rng.uniform(-0.05, 0.05, 3)
    focal = image_size / 2 / math.tan(math.radians(rng.uniform(*FIELD_OF_VIEW_DEG)) / 2)
    return Camera.looking_at(position, target, focal=focal, size=(image_size, image_size))


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


class Scene:
    """The renderer: one room, one body, reused for any number of people and pictures.

    Everything that chance decides is set again by `furnish` and `light`, so a picture depends on
    their generators and not on what was rendered before.
    """

    def __init__(self, faces: Int[np.ndarray, "F 3"], vertex_count: int, image_size: int) -> None:
        # llvmpipe on one core: the pipelines already run one actor per core.
        os.environ.setdefault("LP_NUM_THREADS", "1")
        import pyvista
        from vtkmodules.vtkCommonCore import vtkLogger

        # VTK tries an X server before it renders without one, and warns of it in every process.
        vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
        self._pv = pyvista
        self._faces = faces
        self._plotter = pyvista.Plotter(
            off_screen=True, window_size=[image_size, image_size], lighting="none"
        )
        self._plotter.render_window.SetMultiSamples(0)  # halves the time of a picture
        self._planes = [self._add_plane(*plane) for plane in _PLANES]
        self._boxes = [
            self._plotter.add_mesh(pyvista.Cube(), ambient=0.3) for _ in range(BOX_COUNT)
        ]
        self._lights = [pyvista.Light(focal_point=(0, 1, 0)) for _ in range(2)]
        for light in self._lights:
            self._plotter.add_light(light)
        self._shadow = self._add_shadow()
        self._body = self._add_body(vertex_count)
        self._thickness = np.zeros((vertex_count, 1))
        # Without a first show() every screenshot returns the first picture.
        self._plotter.show(auto_close=False)

    def close(self) -> None:
        """Free the renderer."""
        self._plotter.close()

    def furnish(self, rng: np.random.Generator) -> None:
        """Colours and texture of floor and walls, and boxes along the walls."""
        for actor, base in zip(self._planes, (0.42, 0.55, 0.55), strict=True):
            color = base + rng.uniform(-0.2, 0.2) + rng.normal(0, 0.05, 3)
            picture = noise_texture(rng, size=256, base=color, contrast=rng.uniform(0.02, 0.06))
            actor.texture = self._pv.Texture(fading_texture(picture, rng))
            actor.texture.interpolate = True
        for actor in self._boxes:
            width, height, depth = rng.uniform((0.25, 0.3, 0.25), (0.8, 1.8, 0.5))
            along = rng.uniform(-2.6, 2.6)
            behind = -WALL_DISTANCE_M + 0.05 + depth / 2
            on_left = bool(rng.random() < 0.5)
            actor.position = (along, height / 2, behind) if on_left else (behind, height / 2, along)
            actor.scale = (width, height, depth) if on_left else (depth, height, width)
            actor.prop.color = rng.uniform(0.05, 0.75, 3).tolist()
            actor.visibility = bool(rng.random() < 0.75)

    def light(self, rng: np.random.Generator) -> None:
        """Strength, place and tint of the two lamps, and how dark the shadow is."""
        places, strengths = ((3.0, 4.0, 2.0), (-1.0, 3.5, 4.0)), ((0.65, 1.0), (0.4, 0.75))
        for lamp, place, strength in zip(self._lights, places, strengths, strict=True):
            lamp.position = tuple(np.array(place) + rng.uniform(-1.2, 1.2, 3))
            lamp.intensity = rng.uniform(*strength)
            tint = rng.uniform(-0.06, 0.06)
            lamp.diffuse_color = (min(1.0, 1.0 + tint), 1.0, min(1.0, 1.0 - tint))
        for actor in self._planes:
            actor.prop.color = [rng.uniform(0.8, 1.0)] * 3
        self._shadow.prop.opacity = rng.uniform(0.2, 0.4)

    def dress(self, outfit: Outfit) -> None:
        """Put an outfit on the body."""
        self._body["colors"] = outfit.colors
        self._thickness = outfit.thickness_m[:, None]

    def pose(self, vertices: Float[np.ndarray, "V 3"]) -> None:
        """Place the body: skin vertices in ground, m."""
        normals = vertex_normals(vertices, self._faces)
        self._body.points = (vertices + normals * self._thickness).astype(np.float32)
        self._body.point_data["Normals"] = normals.astype(np.float32)
        low = vertices[vertices[:, 1] < vertices[:, 1].min() + 0.25][:, [0, 2]]
        (x, z), (width, depth) = low.mean(axis=0), np.clip(low.std(axis=0) * 2.2, 0.12, 0.8)
        self._shadow.position = (float(x), 0.0, float(z))
        self._shadow.scale = (float(width), 1.0, float(depth))

    def picture(self, camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
        """What a camera sees: RGB. Exact pinhole, so only level, undistorted, centred cameras."""
        self._aim(camera)
        self._plotter.render()
        return np.asarray(self._plotter.screenshot(None, return_img=True), dtype=np.uint8)

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

    def _add_plane(
        self,
        center: Sequence[float],
        direction: Sequence[float],
        size: float,
    ) -> Any:
        plane = self._pv.Plane(center=center, direction=direction, i_size=size, j_size=size)
        blank = self._pv.Texture(np.full((2, 2, 3), 128, np.uint8))
        # Unlit, with the fall-off of light in the texture: lamps would cost a fifth of the time.
        return self._plotter.add_mesh(plane, texture=blank, lighting=False)

    def _add_shadow(self) -> Any:
        disc = self._pv.Disc(center=(0, 0.004, 0), inner=0, outer=1, normal=(0, 1, 0), c_res=40)
        return self._plotter.add_mesh(disc, color="black", opacity=0.3, lighting=False)

    def _add_body(self, vertex_count: int) -> Any:
        cells = np.hstack([np.full((len(self._faces), 1), 3), self._faces]).ravel()
        # Not at the origin: VTK drops a mesh without extent.
        start = np.random.default_rng(0).random((vertex_count, 3)).astype(np.float32)
        body = self._pv.PolyData(start, cells)
        body["colors"] = np.full((vertex_count, 3), 200, np.uint8)
        body.point_data["Normals"] = np.tile(np.array([0, 1, 0], np.float32), (vertex_count, 1))
        body.point_data.active_normals_name = "Normals"
        actor = self._plotter.add_mesh(
            body, scalars="colors", rgb=True, specular=0.08, ambient=0.25, diffuse=0.85
        )
        actor.prop.interpolation = "Phong"
        actor.prop.culling = "back"  # a closed surface: saves another fifth
        return body


_PLANES = (
    ((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), 10.0),
    ((-WALL_DISTANCE_M, 2.0, 0.0), (1.0, 0.0, 0.0), 10.0),
    ((0.0, 2.0, -WALL_DISTANCE_M), (0.0, 0.0, 1.0), 10.0),
)
