"""Rendered pictures: exact cameras, repeatable, and people dressed where clothes belong."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from d3ke.camera import Camera, box_of_points, project
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.sources.anny_body import AnnyBody, t_pose_rotations
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.appearance import Outfit, dress, sample_appearance
from d3ke_platform.sources.motions import MotionStyle, make_motion
from d3ke_platform.sources.scene import CAMERA_PLACES, Scene, sample_camera, vertex_normals
from d3ke_platform.sources.sensor import Sensor
from d3ke_platform.sources.texture import fading_texture, noise_texture

SIZE = 320
MAGENTA = (255, 0, 255)


@pytest.fixture(scope="module")
def body() -> AnnyBody:
    return AnnyBody()


@pytest.fixture(scope="module")
def t_pose(body: AnnyBody):
    return body.pose(Phenotype(), t_pose_rotations(1), np.zeros((1, 3)), grounding="frame")


@pytest.fixture(scope="module")
def kick(body: AnnyBody) -> np.ndarray:
    """One frame with a leg and an arm towards the frontal camera."""
    motion = make_motion(
        "kick", rate_hz=10, seconds=2.5, style=MotionStyle(), rng=np.random.default_rng(0)
    )
    moved = body.pose(
        Phenotype(), motion.segment_rotations, motion.root_position, grounding="frame"
    )
    return moved.vertices[11]


@pytest.fixture(scope="module")
def scene(body: AnnyBody):
    scene = Scene(body.faces, len(body.dominant_bones), SIZE)
    yield scene
    scene.close()


def outfit(body: AnnyBody, t_pose, seed: int) -> Outfit:
    rng = np.random.default_rng(seed)
    joints = {bone: at[0] for bone, at in t_pose.joints.items()}
    return dress(sample_appearance(rng), t_pose.vertices[0], joints, body.dominant_bones, rng)


def camera(name: str, seed: int = 0) -> Camera:
    return sample_camera(name, image_size=SIZE, rng=np.random.default_rng(seed))


def filled(camera: Camera, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Silhouette of the projected mesh, rasterised by OpenCV."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    fixed = np.round(project(camera, vertices.astype(float)) * 16).astype(np.int32)
    for triangle in fixed[faces]:
        cv2.fillConvexPoly(mask, triangle, 255, shift=4)
    return mask > 0


@pytest.mark.parametrize("name", CAMERA_PLACES)
def test_silhouette_is_the_projected_mesh_within_a_pixel(
    scene: Scene, body: AnnyBody, kick: np.ndarray, name: str
) -> None:
    view = camera(name)
    count = len(kick)
    scene.furnish(np.random.default_rng(1))
    scene.light(np.random.default_rng(1))
    scene.dress(Outfit(np.tile(np.uint8(MAGENTA), (count, 1)), np.zeros(count)))
    scene._shadow.visibility = False
    scene.pose(kick + np.float32([0, 0, 100]))
    empty = scene.picture(view)
    scene.pose(kick)
    rendered = np.abs(scene.picture(view).astype(int) - empty).max(axis=2) > 12
    scene._shadow.visibility = True
    y, x = np.nonzero(rendered)
    box = box_of_points(project(view, kick.astype(float)))
    np.testing.assert_allclose([x.min(), y.min(), x.max(), y.max()], box, atol=1.0)
    wanted = filled(view, kick, body.faces)
    grow = np.ones((3, 3), np.uint8)
    assert not (rendered & ~cv2.dilate(wanted.astype(np.uint8), grow).astype(bool)).any()
    # A dark limb before a dark wall may differ too little to be seen: allow a few pixels.
    missed = wanted & ~cv2.dilate(rendered.astype(np.uint8), grow).astype(bool)
    assert missed.sum() < 0.01 * wanted.sum()


def test_pictures_depend_only_on_their_seeds(
    scene: Scene, body: AnnyBody, t_pose, kick: np.ndarray
) -> None:
    def picture(seed: int) -> np.ndarray:
        scene.furnish(np.random.default_rng(seed))
        scene.light(np.random.default_rng(seed))
        scene.dress(outfit(body, t_pose, seed))
        scene.pose(kick)
        return scene.picture(camera("sagittal", seed))

    first, other, again = picture(1), picture(2), picture(1)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5


def test_cameras_that_cannot_be_rendered_are_refused(scene: Scene) -> None:
    good = camera("frontal")
    values = {
        "intrinsics": good.intrinsics,
        "rotation": good.rotation,
        "translation": good.translation,
        "size": good.size,
    }
    for change in (
        {"distortion": np.array([0.1, 0, 0, 0, 0])},
        {"size": (64, 64)},
        {"intrinsics": good.intrinsics + np.diag([0, 0, 0.0]) + [[0, 0, 9], [0, 0, 0], [0, 0, 0]]},
    ):
        with pytest.raises(InvalidInputError):
            scene.picture(Camera(**{**values, **change}))


def test_cameras_vary_and_are_named() -> None:
    first, second = camera("frontal", 1), camera("frontal", 2)
    assert 0.01 < np.linalg.norm(first.center - second.center) < 0.8
    assert first.center[0] > 4
    assert camera("sagittal").center[2] > 4
    with pytest.raises(UnknownNameError, match="sagittal"):
        camera("sagital")


def test_normals_of_a_sphere_point_outwards() -> None:
    import pyvista

    sphere = pyvista.Sphere(theta_resolution=40, phi_resolution=40)
    points = np.asarray(sphere.points, float)
    normals = vertex_normals(points, sphere.faces.reshape(-1, 4)[:, 1:].astype(np.int64))
    radial = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert (normals * radial).sum(axis=1).min() > 0.99


@pytest.mark.parametrize("seed", range(6))
def test_clothes_end_at_straight_lines(body: AnnyBody, t_pose, seed: int) -> None:
    rng = np.random.default_rng(seed)
    looks = sample_appearance(rng)
    vertices = t_pose.vertices[0]
    joints = {bone: at[0] for bone, at in t_pose.joints.items()}
    colors = dress(looks, vertices, joints, body.dominant_bones, rng).colors / 255.0

    def like(color: tuple[float, float, float]) -> np.ndarray:
        return np.abs(colors - np.array(color)).max(axis=1) < 0.06

    bones = np.array(body.dominant_bones)
    waist = looks.waist * vertices[:, 1].max()
    trunk = np.isin(bones, ["spine05", "spine04", "spine03", "pelvis.R", "pelvis.L"])
    below, above = trunk & (vertices[:, 1] < waist), trunk & (vertices[:, 1] > waist)
    assert below.sum() > 50
    assert like(looks.trousers)[below].all()
    assert (like(looks.shirt) | like(looks.stripe))[above].all()
    hands = np.char.startswith(bones, "finger")
    assert like(looks.skin)[hands].all()
    soles = vertices[:, 1] < 0.02
    assert like(looks.shoes)[soles].all()


def test_hair_covers_the_back_of_the_head_not_the_face(body: AnnyBody, t_pose) -> None:
    bones = np.array(body.dominant_bones)
    head = bones == "head"
    forward, height = t_pose.vertices[0][:, 0], t_pose.vertices[0][:, 1]
    face = head & (forward > np.quantile(forward[head], 0.9))
    scalp = head & (height > height[head].max() - 0.03)
    for seed in range(20):
        looks = sample_appearance(np.random.default_rng(seed))
        made = outfit(body, t_pose, seed)
        assert (made.thickness_m[face] == 0).all()
        assert (made.thickness_m[scalp] > 0).all() == (looks.hair_length > 0)


def test_sensor_keeps_the_picture_recognisable_and_is_repeatable() -> None:
    rng = np.random.default_rng(0)
    picture = noise_texture(rng, size=64, base=np.full(3, 0.5), contrast=0.1)
    assert fading_texture(picture, rng).mean() < picture.mean() * 1.15
    seen = [Sensor(size=(64, 64), rng=np.random.default_rng(s))(picture) for s in (1, 1, 2)]
    np.testing.assert_array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
    gray = [image.astype(float).mean(axis=2).ravel() for image in (picture, seen[0])]
    assert np.corrcoef(*gray)[0, 1] > 0.8
