"""The unwrapped surface of a body mesh: which point of the skin each pixel of a texture shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import distance_transform_edt


@dataclass(frozen=True, eq=False)
class Texels:
    """The pixels of a square texture, row by row from the top."""

    size: int
    """S, px a side."""
    corners: Int[np.ndarray, "N 3"]
    """Vertices of the triangle that each pixel lies in; N = S^2. Pixels beside the surface show
    what the nearest one on it shows, so that no seam can be seen."""
    shares: Float[np.ndarray, "N 3"]
    """How much each of them counts."""

    def points(self, vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "N 3"]:
        """Where each pixel is on a body with these vertices, m."""
        points = np.zeros((len(self.corners), 3), np.float32)
        for corner in range(3):
            points += self.shares[:, corner, None] * vertices[self.corners[:, corner]]
        return points

    @property
    def nearest(self) -> Int[np.ndarray, "N"]:
        """The vertex nearest to each pixel."""
        return np.take_along_axis(self.corners, self.shares.argmax(axis=1)[:, None], axis=1)[:, 0]


@dataclass(frozen=True, eq=False)
class SkinMap:
    """A mesh cut open along its seams: vertices on a seam are there once for each side."""

    faces: Int[np.ndarray, "F 3"]
    """Triangles of unwrapped vertices."""
    vertices: Int[np.ndarray, "U"]
    """Unwrapped vertex -> vertex of the mesh."""
    coordinates: Float[np.ndarray, "U 2"]
    """Place of each unwrapped vertex on the texture: from the left and from the bottom, 0 to 1."""

    @classmethod
    def of_mesh(
        cls,
        faces: Int[np.ndarray, "F 3"],
        texture_faces: Int[np.ndarray, "F 3"],
        coordinates: Float[np.ndarray, "U 2"],
    ) -> SkinMap:
        """From a mesh's triangles by vertex and by texture coordinate."""
        vertices = np.zeros(len(coordinates), np.int64)
        vertices[texture_faces.ravel()] = faces.ravel()
        return cls(texture_faces, vertices, coordinates)

    def texels(self, size: int) -> Texels:
        """The pixels of a texture of `size` px a side."""
        flat = np.stack(
            [self.coordinates[:, 0] * size - 0.5, (1 - self.coordinates[:, 1]) * size - 0.5], axis=1
        )
        face = np.full((size, size), -1, np.int32)
        fixed = np.round(flat * 16).astype(np.int32)
        for index, triangle in enumerate(fixed[self.faces]):
            cv2.fillConvexPoly(face, triangle, index, shift=4)
        seen = distance_transform_edt(face < 0, return_distances=False, return_indices=True)
        face = face[tuple(seen)].ravel()
        rows, columns = (at.ravel() for at in seen)
        triangles = flat[self.faces[face]]
        shares = _shares(np.stack([columns, rows], axis=1).astype(float), triangles)
        return Texels(size, self.vertices[self.faces[face]], shares.astype(np.float32))


def _shares(
    points: Float[np.ndarray, "N 2"], triangles: Float[np.ndarray, "N 3 2"]
) -> Float[np.ndarray, "N 3"]:
    """Barycentric coordinates, kept inside the triangle."""
    first, second = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    at = points - triangles[:, 0]
    area = _cross(first, second)
    area = np.where(np.abs(area) < 1e-12, 1e-12, area)
    b, c = _cross(at, second) / area, _cross(first, at) / area
    shares = np.clip(np.stack([1 - b - c, b, c], axis=1), 0.0, 1.0)
    return shares / shares.sum(axis=1, keepdims=True)


def _cross(a: Float[np.ndarray, "N 2"], b: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N"]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
