"""The body in the renderer: coloured vertices, or a texture drawn on the unwrapped skin."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from d3ke_platform.sources.appearance import Outfit
from d3ke_platform.sources.skin_map import SkinMap


class BodySurface(Protocol):
    """The part of a renderer that shows the body."""

    actor: Any

    def dress(self, outfit: Outfit) -> None:
        """Put an outfit on."""

    def place(self, points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"]) -> None:
        """Move the mesh."""


class ColouredSurface:
    """One colour a vertex: quick, but borders of garments follow the mesh."""

    def __init__(
        self, plotter: Any, pyvista: Any, faces: Int[np.ndarray, "F 3"], vertex_count: int
    ) -> None:
        self._mesh = _mesh(pyvista, faces, vertex_count)
        self._mesh["colors"] = np.full((vertex_count, 3), 200, np.uint8)
        self.actor = plotter.add_mesh(
            self._mesh, scalars="colors", rgb=True, specular=0.08, ambient=0.25, diffuse=0.85
        )
        _finish(self.actor)

    def dress(self, outfit: Outfit) -> None:
        self._mesh["colors"] = outfit.colors

    def place(self, points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"]) -> None:
        self._mesh.points = points.astype(np.float32)
        self._mesh.point_data["Normals"] = normals.astype(np.float32)


class TexturedSurface:
    """A picture wrapped around the body: sharp hems, patterns, a face."""

    def __init__(self, plotter: Any, pyvista: Any, skin: SkinMap) -> None:
        self._pv, self._vertices = pyvista, skin.vertices
        self._mesh = _mesh(pyvista, skin.faces, len(skin.vertices))
        self._mesh.active_texture_coordinates = skin.coordinates.astype(np.float32)
        blank = pyvista.Texture(np.full((2, 2, 3), 200, np.uint8))
        self.actor = plotter.add_mesh(
            self._mesh, texture=blank, specular=0.05, ambient=0.28, diffuse=0.85
        )
        _finish(self.actor)

    def dress(self, outfit: Outfit) -> None:
        assert outfit.texture is not None
        self.actor.texture = self._pv.Texture(outfit.texture)
        self.actor.texture.interpolate = True

    def place(self, points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"]) -> None:
        self._mesh.points = points[self._vertices].astype(np.float32)
        self._mesh.point_data["Normals"] = normals[self._vertices].astype(np.float32)


def _mesh(pyvista: Any, faces: Int[np.ndarray, "F 3"], count: int) -> Any:
    cells = np.hstack([np.full((len(faces), 1), 3), faces]).ravel()
    # Not at the origin: VTK drops a mesh without extent.
    start = np.random.default_rng(0).random((count, 3)).astype(np.float32)
    mesh = pyvista.PolyData(start, cells)
    mesh.point_data["Normals"] = np.tile(np.array([0, 1, 0], np.float32), (count, 1))
    mesh.point_data.active_normals_name = "Normals"
    return mesh


def _finish(actor: Any) -> None:
    actor.prop.interpolation = "Phong"
    actor.prop.culling = "back"  # a closed surface: saves another fifth
