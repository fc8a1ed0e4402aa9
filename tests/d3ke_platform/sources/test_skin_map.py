"""The unwrapped skin: every texel knows its place on the body."""

from __future__ import annotations

import numpy as np
import pytest

from d3ke_platform.sources.anny_body import AnnyBody, t_pose_rotations
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.skin_map import SkinMap, Texels

SIZE = 384


@pytest.fixture(scope="module")
def body() -> AnnyBody:
    return AnnyBody()


@pytest.fixture(scope="module")
def texels(body: AnnyBody) -> Texels:
    return body.skin_map.texels(SIZE)


def test_a_square_of_two_triangles_is_its_own_map() -> None:
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    texels = SkinMap.of_mesh(faces, faces, corners).texels(8)
    places = np.column_stack([corners, np.zeros(4)])
    points = texels.points(places)[:, :2].reshape(8, 8, 2)
    middle = (np.arange(8) + 0.5) / 8
    expected = np.stack(np.meshgrid(middle, 1 - middle), axis=-1)
    error = np.abs(points - expected).max(axis=-1)
    assert np.median(error) < 1e-6
    assert error.max() < 1 / 8  # beside a triangle's edge: the nearest point of it


def test_faces_and_vertices_agree_with_the_mesh(body: AnnyBody) -> None:
    skin = body.skin_map
    np.testing.assert_array_equal(skin.vertices[skin.faces], body.faces)
    assert len(skin.vertices) == len(skin.coordinates) > len(body.dominant_bones)


def test_texels_at_a_vertex_are_near_it(body: AnnyBody, texels: Texels) -> None:
    pose = body.pose(Phenotype(), t_pose_rotations(1), np.zeros((1, 3)), grounding="frame")
    vertices, skin = pose.vertices[0], body.skin_map
    points = texels.points(vertices).reshape(SIZE, SIZE, 3)
    used = np.unique(skin.faces)[::7]
    column = np.clip((skin.coordinates[used, 0] * SIZE).astype(int), 0, SIZE - 1)
    row = np.clip(((1 - skin.coordinates[used, 1]) * SIZE).astype(int), 0, SIZE - 1)
    distance = np.linalg.norm(points[row, column] - vertices[skin.vertices[used]], axis=1)
    assert np.median(distance) < 0.005
    assert np.percentile(distance, 98) < 0.03


def test_shares_lie_within_their_triangles(texels: Texels) -> None:
    assert texels.shares.min() >= 0
    np.testing.assert_allclose(texels.shares.sum(axis=1), 1.0, atol=1e-5)
    assert (texels.nearest[:, None] == texels.corners).any(axis=1).all()
