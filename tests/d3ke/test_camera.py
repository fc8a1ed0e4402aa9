"""Cameras: projection, crops and placing, against OpenCV, rendered points and round trips."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d3ke.camera import (
    Camera,
    box_of_points,
    centered_intrinsics,
    crop_camera,
    place_by_box,
    project,
    project_camera_axes,
    to_camera,
    unproject_rays,
    warp,
)
from d3ke.distortion import distort, undistort
from d3ke.errors import InvalidInputError

# PG1 of BML-MoVi: a real calibration with distortion (k1, k2) and off-centre principal point.
MOVI = {
    "intrinsics": np.array([[979.18, 0, 408.03], [0, 978.10, 291.17], [0, 0, 1]]),
    "size": (800, 600),
    "distortion": np.array([-0.18236467, 0.18388686, 0.001, -0.002, 0.01]),
}


def looking_at(position, target, focal: float, size: tuple[int, int]) -> Camera:
    return Camera.looking_at(np.array(position), np.array(target), focal=focal, size=size)


def movi_camera(distorted: bool = True) -> Camera:
    pose = looking_at((4.9, 1.34, 0.3), (0.0, 0.9, 0.1), focal=900.0, size=(800, 600))
    values = dict(MOVI) if distorted else {**MOVI, "distortion": np.zeros(5)}
    return Camera(rotation=pose.rotation, translation=pose.translation, **values)


@pytest.mark.parametrize("distorted", [False, True])
def test_project_is_opencv_projection(distorted: bool) -> None:
    camera = movi_camera(distorted)
    points = np.random.default_rng(0).uniform([-0.7, 0, -0.8], [0.7, 1.9, 0.8], (5, 20, 3))
    rotation, _ = cv2.Rodrigues(camera.rotation)
    expected, _ = cv2.projectPoints(
        points.reshape(-1, 3), rotation, camera.translation, camera.intrinsics, camera.distortion
    )
    np.testing.assert_allclose(project(camera, points).reshape(-1, 2), expected[:, 0], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(u=st.floats(0, 799), v=st.floats(0, 599), depth=st.floats(0.5, 20), distorted=st.booleans())
def test_unproject_inverts_project(u: float, v: float, depth: float, distorted: bool) -> None:
    camera = movi_camera(distorted)
    ray = unproject_rays(camera, np.array([u, v]))
    assert np.linalg.norm(ray) == pytest.approx(1.0)
    np.testing.assert_allclose(project_camera_axes(camera, ray * depth), [u, v], atol=1e-6)
    ground = camera.center + camera.rotation.T @ (ray * depth)
    np.testing.assert_allclose(to_camera(camera, ground), ray * depth, atol=1e-9)


def test_points_behind_the_camera_are_nan_and_left_out_of_boxes() -> None:
    camera = movi_camera()
    points = np.array([[0.0, 1.0, 0.0], [20.0, 1.0, 0.0], [0.1, 1.2, 0.2]])
    pixels = project(camera, points)
    assert np.isnan(pixels[1]).all()
    box = box_of_points(pixels, pad=2.0)
    np.testing.assert_allclose(box[:2], pixels[[0, 2]].min(axis=0) - 2)
    with pytest.raises(InvalidInputError, match="in front"):
        box_of_points(pixels[1:2])


def test_assumed_camera_sees_a_facing_person_upright() -> None:
    camera = Camera.assumed((640, 480), fov_deg=60.0)
    # 3 m in front of the camera: ground x points towards it, so the person is at x = -3.
    origin, forward, up, right = project(
        camera, np.array([[-3.0, 0, 0], [-2.0, 0, 0], [-3.0, 1.0, 0], [-3.0, 0, 1.0]])
    )
    np.testing.assert_allclose(origin, [319.5, 239.5])
    np.testing.assert_allclose(forward, origin)
    assert up[1] < origin[1]
    assert up[0] == pytest.approx(origin[0])
    assert right[0] < origin[0]
    edge = project(camera, np.array([-3.0, 0.0, 3.0 * np.tan(np.radians(30))]))
    assert edge[0] == pytest.approx(-0.5)


def test_looking_at_is_level_and_centred() -> None:
    camera = looking_at((3.0, 2.0, 1.0), (0.0, 1.0, 0.0), focal=500.0, size=(320, 240))
    np.testing.assert_allclose(camera.center, [3.0, 2.0, 1.0])
    np.testing.assert_allclose(project(camera, np.array([0.0, 1.0, 0.0])), [159.5, 119.5])
    assert camera.rotation[0, 1] == pytest.approx(0.0)
    assert camera.rotation[1, 1] < 0


def test_looking_straight_down_is_defined() -> None:
    camera = looking_at((0.0, 3.0, 0.0), (0.0, 0.0, 0.0), focal=500.0, size=(320, 240))
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)


def test_undistort_inverts_distort_and_refuses_what_no_ray_reaches() -> None:
    coefficients = MOVI["distortion"]
    flat = np.random.default_rng(0).uniform(-0.6, 0.6, (500, 2))
    np.testing.assert_allclose(
        undistort(distort(flat, coefficients), coefficients), flat, atol=1e-9
    )
    barrel = np.array([-0.3, 0.0, 0.0, 0.0, 0.0])  # r - 0.3 r^3 never exceeds 0.703
    with pytest.raises(InvalidInputError, match="no ray"):
        undistort(np.array([[0.8, 0.0]]), barrel)
    mixed = np.array([[0.8, 0.0], [0.1, 0.0]])
    found = undistort(mixed, barrel, unreached=np.nan)
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(distort(found[1], barrel), mixed[1], atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    x0=st.floats(-50, 700),
    y0=st.floats(-50, 500),
    width=st.floats(20, 400),
    height=st.floats(20, 500),
    margin=st.floats(0.8, 2.0),
    distorted=st.booleans(),
)
def test_crop_camera_geometry(
    x0: float, y0: float, width: float, height: float, margin: float, distorted: bool
) -> None:
    camera = movi_camera(distorted)
    box = np.array([x0, y0, x0 + width, y0 + height])
    crop = crop_camera(camera, box, size=128, margin=margin)
    np.testing.assert_allclose(crop.center, camera.center, atol=1e-9)
    assert crop.size == (128, 128)
    assert not crop.distortion.any()
    assert crop.rotation[0, 1] == pytest.approx(0.0, abs=1e-12)  # roll 0: x axis horizontal
    center = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    sides = np.array(
        [[box[0], center[1]], [box[2], center[1]], [center[0], box[1]], [center[0], box[3]], center]
    )
    rays = unproject_rays(camera, sides) @ camera.rotation + camera.center
    seen = project(crop, rays)
    np.testing.assert_allclose(seen[4], [63.5, 63.5], atol=1e-6)
    extents = np.linalg.norm(seen[1] - seen[0]), np.linalg.norm(seen[3] - seen[2])
    assert max(extents) * margin == pytest.approx(128, rel=1e-6)


def test_crop_of_a_vertical_camera_keeps_its_up() -> None:
    camera = looking_at((0.0, 3.0, 0.0), (0.0, 0.0, 0.0), focal=500.0, size=(320, 240))
    crop = crop_camera(camera, np.array([59.5, 19.5, 259.5, 219.5]), size=64)
    np.testing.assert_allclose(crop.rotation, camera.rotation, atol=1e-9)


@pytest.mark.parametrize("distorted", [False, True])
@pytest.mark.parametrize("size", [400, 160, 48])
def test_warped_image_shows_points_where_the_crop_camera_projects_them(
    distorted: bool, size: int
) -> None:
    camera = movi_camera(distorted)
    points = np.random.default_rng(1).uniform([-0.3, 0.3, -0.9], [0.3, 1.7, 0.5], (12, 3))
    pixels = project(camera, points)
    crop = crop_camera(camera, box_of_points(pixels), size=size, margin=1.3)
    expected = project(crop, points)
    rows, columns = np.mgrid[0:600, 0:800]
    for pixel, wanted in zip(pixels, expected, strict=True):
        blob = np.exp(-((columns - pixel[0]) ** 2 + (rows - pixel[1]) ** 2) / (2 * 6.0**2))
        image = np.repeat((255 * blob)[..., None], 3, axis=2).astype(np.uint8)
        seen = warp(image, camera, crop)[..., 0].astype(float)
        y, x = np.mgrid[0:size, 0:size]
        found = np.array([(x * seen).sum(), (y * seen).sum()]) / seen.sum()
        np.testing.assert_allclose(found, wanted, atol=0.1)


def test_warp_shrinks_without_aliasing() -> None:
    camera = looking_at((3.0, 1.0, 0.0), (0.0, 1.0, 0.0), focal=600.0, size=(640, 640))
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_camera(camera, np.array([63.5, 63.5, 575.5, 575.5]), size=61)
    seen = warp(stripes, camera, crop)
    assert seen.shape == (61, 61, 3)
    assert abs(seen.mean() - 127.5) < 3
    assert seen.std() < 15  # nearest or plain bilinear sampling gives a moire pattern of std 60+


def test_warp_is_black_outside_the_image() -> None:
    camera = movi_camera(False)
    crop = crop_camera(camera, np.array([-100.0, 200.0, 100.0, 400.0]), size=64)
    seen = warp(np.full((600, 800, 3), 200, np.uint8), camera, crop)
    assert (seen[:, :25] == 0).all()
    assert (seen[:, 40:] == 200).all()


def test_warp_refuses_an_image_of_another_size() -> None:
    camera = movi_camera()
    crop = crop_camera(camera, np.array([10.0, 10.0, 100.0, 100.0]), size=32)
    with pytest.raises(InvalidInputError, match="640x480"):
        warp(np.zeros((480, 640, 3), np.uint8), camera, crop)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    tx=st.floats(-0.15, 0.15),
    ty=st.floats(-0.1, 0.1),
    tz=st.floats(3.0, 12.0),
    distorted=st.booleans(),
)
def test_place_by_box_recovers_the_translation(
    seed: int, tx: float, ty: float, tz: float, distorted: bool
) -> None:
    camera = movi_camera(distorted)
    points = np.random.default_rng(seed).uniform([-0.4, -0.9, -0.3], [0.4, 0.9, 0.3], (40, 3))
    truth = np.array([tx * tz, ty * tz, tz])
    pixels = project_camera_axes(camera, points + truth)
    found = place_by_box(points, box_of_points(pixels), camera)
    np.testing.assert_allclose(found, truth, atol=1e-4)


@pytest.mark.parametrize(
    "box", [[0.0, 0, 0, 10], [5.0, 0, 1, 10], [0.0, np.nan, 10, 10], [0.0, 0, np.inf, 10]]
)
def test_boxes_without_area_are_refused(box: list[float]) -> None:
    camera = movi_camera()
    with pytest.raises(InvalidInputError, match="box"):
        crop_camera(camera, np.array(box), size=64)
    with pytest.raises(InvalidInputError, match="box"):
        place_by_box(np.eye(3), np.array(box), camera)


def test_one_point_does_not_determine_a_place() -> None:
    with pytest.raises(InvalidInputError):
        place_by_box(np.zeros((3, 3)), np.array([10.0, 10, 200, 300]), movi_camera(False))


def test_bad_cameras_are_refused() -> None:
    good = movi_camera()
    values = {
        "intrinsics": good.intrinsics,
        "rotation": good.rotation,
        "translation": good.translation,
        "size": good.size,
    }
    for change in (
        {"rotation": np.diag([1.0, 1.0, -1.0])},
        {"rotation": 2 * np.eye(3)},
        {"translation": np.array([0.0, np.nan, 0.0])},
        {"intrinsics": np.diag([-1.0, 1.0, 1.0])},
        {"size": (0, 10)},
        {"distortion": np.full(5, np.inf)},
    ):
        with pytest.raises(InvalidInputError):
            Camera(**{**values, **change})
    with pytest.raises(InvalidInputError):
        Camera.assumed((640, 480), fov_deg=180.0)


def test_camera_survives_pickling_and_is_read_only() -> None:
    camera = movi_camera()
    copy = pickle.loads(pickle.dumps(camera))
    np.testing.assert_array_equal(copy.intrinsics, camera.intrinsics)
    with pytest.raises(ValueError, match="read-only"):
        camera.intrinsics[0, 0] = 1.0


def test_centered_intrinsics_put_the_middle_pixel_on_the_axis() -> None:
    np.testing.assert_array_equal(
        centered_intrinsics(5.0, (3, 5)), [[5.0, 0, 1.0], [0, 5.0, 2.0], [0, 0, 1.0]]
    )
