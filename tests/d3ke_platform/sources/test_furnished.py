"""Furnished pictures: backdrops are exact, seeds decide, hems are straight, rooms differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from d3ke.camera import Camera, box_of_points, project
from d3ke_platform.sources.anny_body import AnnyBody, t_pose_rotations
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.appearance import Outfit, dress, sample_appearance
from d3ke_platform.sources.body_parts import BodyParts
from d3ke_platform.sources.lens import sample_lens
from d3ke_platform.sources.room_pictures import (
    cabinet_picture,
    ceiling_picture,
    floor_picture,
    wall_picture,
)
from d3ke_platform.sources.scene import Scene, sample_camera
from d3ke_platform.sources.tailoring import paint, texels_of

SIZE = 200
MAGENTA = (255, 0, 255)


@pytest.fixture(scope="module")
def body() -> AnnyBody:
    return AnnyBody()


@pytest.fixture(scope="module")
def t_pose(body: AnnyBody):
    return body.pose(Phenotype(), t_pose_rotations(1), np.zeros((1, 3)), grounding="frame")


@pytest.fixture(scope="module")
def scene(body: AnnyBody):
    count = len(body.dominant_bones)
    scene = Scene(body.faces, count, SIZE, style="furnished", skin=body.skin_map, distorted=True)
    yield scene
    scene.close()


def looks_and_outfit(body: AnnyBody, t_pose, seed: int):
    rng = np.random.default_rng(seed)
    looks = sample_appearance(rng)
    vertices = t_pose.vertices[0]
    joints = {bone: at[0] for bone, at in t_pose.joints.items()}
    outfit = dress(looks, vertices, joints, body.dominant_bones, rng)
    texture = paint(looks, body.skin_map, vertices, joints, body.dominant_bones, rng)
    return looks, replace(outfit, texture=texture)


def distorted_camera(name: str, seed: int = 0) -> Camera:
    rng = np.random.default_rng(seed)
    plain = sample_camera(name, image_size=SIZE, rng=rng, field_of_view_deg=50.0)
    return sample_lens(plain, strength=0.2, rng=rng)


def set_up(scene: Scene, seed: int, outfit: Outfit) -> None:
    scene.furnish(np.random.default_rng(seed))
    scene.light(np.random.default_rng(seed))
    scene.dress(outfit)
    scene.seat(None)


@pytest.mark.parametrize("name", ["frontal", "sagittal"])
def test_a_person_fills_their_box_through_any_lens(
    scene: Scene, body: AnnyBody, t_pose, name: str
) -> None:
    count = len(body.dominant_bones)
    plain = Outfit(
        np.tile(np.uint8(MAGENTA), (count, 1)),
        np.zeros(count),
        np.tile(np.uint8(MAGENTA), (16, 16, 1)),
    )
    set_up(scene, 1, plain)
    scene._shadow.visibility = False
    view = distorted_camera(name)
    vertices = t_pose.vertices[0]
    scene.pose(vertices + np.float32([0, 0, 100]))
    empty = scene.picture(view)
    scene.pose(vertices)
    rendered = np.abs(scene.picture(view).astype(int) - empty).max(axis=2) > 16
    scene._shadow.visibility = True
    y, x = np.nonzero(rendered)
    box = box_of_points(project(view, vertices.astype(float)))
    np.testing.assert_allclose([x.min(), y.min(), x.max(), y.max()], box, atol=1.5)


def test_the_backdrop_is_what_direct_rendering_shows(scene: Scene, body: AnnyBody, t_pose) -> None:
    _, outfit = looks_and_outfit(body, t_pose, 3)
    set_up(scene, 4, outfit)
    scene.pose(t_pose.vertices[0])
    view = distorted_camera("frontal")
    quick = scene.picture(view).astype(int)
    scene._room.backdrop = False
    scene._room.show(True)
    try:
        direct = scene.picture(view).astype(int)
    finally:
        scene._room.show(False)
        del scene._room.backdrop
    assert np.abs(quick - direct).max() <= 2


def test_pictures_depend_only_on_their_seeds(scene: Scene, body: AnnyBody, t_pose) -> None:
    def picture(seed: int) -> np.ndarray:
        set_up(scene, seed, looks_and_outfit(body, t_pose, seed)[1])
        scene.seat((0.0, 0.45, 0.0, 0.3))
        scene.pose(t_pose.vertices[0])
        return scene.picture(distorted_camera("sagittal", seed))

    first, other, again = picture(1), picture(2), picture(1)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 8


def test_a_chair_is_seen_where_it_stands(scene: Scene, body: AnnyBody, t_pose) -> None:
    set_up(scene, 2, looks_and_outfit(body, t_pose, 2)[1])
    scene.pose(t_pose.vertices[0] + np.float32([0, 0, 100]))
    view = distorted_camera("frontal")
    empty = scene.picture(view).astype(int)
    scene.seat((0.4, 0.45, -0.3, 0.0))
    changed = np.abs(scene.picture(view).astype(int) - empty).max(axis=2) > 10
    scene.seat(None)
    np.testing.assert_array_equal(scene.picture(view), empty)
    y, x = np.nonzero(changed)
    corners = np.array([[0.4 + a, h, -0.3 + b] for a in (-0.23, 0.22) for b in (-0.22, 0.22)
                        for h in (0.0, 0.95)])  # fmt: skip
    box = box_of_points(project(view, corners))
    np.testing.assert_allclose([x.min(), y.min(), x.max(), y.max()], box, atol=3)


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_painted_waists_and_hems_are_straight(body: AnnyBody, t_pose, seed: int) -> None:
    """No texel of the trunk above the waist has the trousers' hue, whatever bone moves it."""
    looks, outfit = looks_and_outfit(body, t_pose, seed)
    texels = texels_of(body.skin_map)
    points = texels.points(t_pose.vertices[0])
    colors = outfit.texture.reshape(-1, 3) / 255.0
    names, index = np.unique(np.array(body.dominant_bones), return_inverse=True)
    joints = {bone: at[0] for bone, at in t_pose.joints.items()}
    part = BodyParts(points, joints, names.tolist(), index[texels.nearest])
    trunk = part.starts("spine", "pelvis", "root")
    waist = looks.waist * points[:, 1].max()
    trousers = np.array(looks.trousers)
    below = trunk & (points[:, 1] < waist - 0.05) & (points[:, 1] > waist - 0.12)
    ratio = colors[below] / np.maximum(trousers, 0.02)
    assert below.sum() > 200
    # Folds and wear change the brightness of cloth, not its hue.
    assert np.median(ratio.std(axis=1) / ratio.mean(axis=1)) < 0.15
    above = trunk & (points[:, 1] > waist + 0.02) & (points[:, 1] < waist + 0.08)
    own = np.abs(colors[above] - trousers).max(axis=1)
    assert (own < 0.02).mean() < 0.2


def test_rooms_are_varied_and_repeatable() -> None:
    for draw in (floor_picture, wall_picture, ceiling_picture, cabinet_picture):
        pictures = [draw(np.random.default_rng(seed), 256) for seed in range(6)]
        np.testing.assert_array_equal(pictures[0], draw(np.random.default_rng(0), 256))
        for picture in pictures:
            assert picture.shape == (256, 256, 3)
            assert picture.std() > 1
        assert len({round(picture.mean(), 1) for picture in pictures}) > 3
