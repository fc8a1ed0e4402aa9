"""Calibration files: three formats, one ground, and what a video's size does to a camera."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from d3ke.camera import Camera, project, unproject_rays
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.calibration import (
    UP_AXES,
    camera_for_video,
    camera_to_json,
    read_cameras,
)

# A Qualisys camera 3 m in front of the origin (world x), 1 m up, looking back at it, level.
QUALISYS = """<?xml version='1.0' encoding='ASCII'?>
<calibration><cameras><camera serial="front">
<fov_video left="0" right="639" top="0" bottom="479"/>
<transform r11="0" r12="1" r13="0" r21="0" r22="0" r23="1" r31="1" r32="0" r33="0"
 x="3000" y="0" z="1000"/>
<intrinsic focalLengthU="32000" focalLengthV="32000" centerPointU="20448" centerPointV="15328"
 radialDistortion1="0" radialDistortion2="0" radialDistortion3="0"
 tangentalDistortion1="0" tangentalDistortion2="0"/>
</camera></cameras></calibration>"""

POSE2SIM = """[front]
name = "front"
size = [ 640, 480]
matrix = [ [ 500.0, 0.0, 319.5], [ 0.0, 500.0, 239.5], [ 0.0, 0.0, 1.0]]
distortions = [ 0.0, 0.0, 0.0, 0.0]
rotation = [ 1.2091995761561454, 1.2091995761561454, -1.2091995761561454]
translation = [ 0.0, 1.0, 3.0]
fisheye = false
[metadata]
error = 0.0
"""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    camera = Camera(
        intrinsics=np.array([[500, 0, 319.5], [0, 500, 239.5], [0, 0, 1.0]]),
        rotation=np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
        translation=np.array([0, 1.0, 3.0]),
        size=(640, 480),
    )
    contents = {
        "a.qca.txt": QUALISYS,
        "a.toml": POSE2SIM,
        "a.json": json.dumps({"front": camera_to_json(camera)}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return {name: tmp_path / name for name in contents}


def test_formats_agree_on_the_ground(files: dict[str, Path]) -> None:
    # World (x, y, z up) = (3, 0, 1) m is ground (y, z, x) = (0, 1, 3).
    for path in files.values():
        camera = read_cameras(path)["front"]
        np.testing.assert_allclose(camera.center, [0, 1, 3], atol=1e-9)
        np.testing.assert_allclose(
            project(camera, np.array([0, 1.0, 0])), [319.5, 239.5], atol=1e-6
        )
        up = project(camera, np.array([0, 1.6, 0]))
        np.testing.assert_allclose(up, [319.5, 239.5 - 100], atol=1e-6)
        right = project(camera, np.array([0.6, 1.0, 0]))
        np.testing.assert_allclose(right, [319.5 + 100, 239.5], atol=1e-6)


@pytest.mark.parametrize("up_axis", UP_AXES)
def test_any_axis_may_point_up(tmp_path: Path, up_axis: str) -> None:
    """What stands along the file's up axis stands upright in ground, and is seen as before."""
    path = tmp_path / "a.toml"
    path.write_text(POSE2SIM)
    up = (-1.0 if up_axis.startswith("-") else 1.0) * np.eye(3)["xyz".index(up_axis[-1])]
    ground = read_cameras(path, up_axis=up_axis)["front"]
    own = read_cameras(path, up_axis="y")["front"]
    height = np.array([[0.0, 0.3, 0.0], [0.0, 0.7, 0.0]])
    np.testing.assert_allclose(
        ground.rotation @ height.T, own.rotation @ np.outer(up, height[:, 1]), atol=1e-12
    )
    with pytest.raises(UnknownNameError, match="up axis 'w'"):
        read_cameras(path, up_axis="w")


def test_a_json_calibration_is_in_ground_already(files: dict[str, Path]) -> None:
    cameras = [read_cameras(files["a.json"], up_axis=axis)["front"] for axis in ("z", "-x")]
    np.testing.assert_array_equal(cameras[0].rotation, cameras[1].rotation)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", QUALISYS.replace("<camera ", '<camera viewrotation="90" '), "turned by 90"),
        ("a.yaml", "", "unknown kind"),
        ("a.toml", "[front]\nsize = [1, 2]", "KeyError"),
        ("a.txt", "<calibration/>", "no camera"),
        ("a.txt", "no xml", "ParseError"),
        ("a.json", "[]", "does not hold"),
        ("b.toml", None, "No such file"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str, reason: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInputError, match=reason) as caught:
        read_cameras(path)
    assert name in str(caught.value)


def test_camera_at_the_size_of_the_video(files: dict[str, Path]) -> None:
    camera = read_cameras(files["a.json"])["front"]
    assert camera_for_video(camera, (640, 480), "v") is camera
    half = camera_for_video(camera, (320, 240), "v")
    point = np.array([0.3, 1.2, 0.1])
    # Pixel centres lie at integers: the picture's corner is at -0.5.
    np.testing.assert_allclose(project(half, point) + 0.5, (project(camera, point) + 0.5) / 2)
    cut = camera_for_video(camera, (632, 480), "v")
    np.testing.assert_allclose(project(cut, point), project(camera, point))
    with pytest.raises(InvalidInputError, match="640x480"):
        camera_for_video(camera, (480, 640), "v")


@pytest.mark.slow
def test_demo_cameras_see_the_same_person(demo_videos: Path) -> None:
    """MediaPipe's landmarks of four views, triangulated, fall back where they came from."""
    from d3ke_platform.stages.decode import frames
    from d3ke_platform.stages.detect_mediapipe import MediaPipeDetector

    task = os.environ.get("D3KE_POSE_MODEL", "")
    if not task:
        pytest.skip("D3KE_POSE_MODEL names no pose model")
    cameras, pixels = [], []
    for name, camera in sorted(read_cameras(demo_videos / "Calib.qca.txt").items()):
        images = [
            f for f, _ in zip(frames(demo_videos / f"{name}.mp4", every=10), range(4), strict=False)
        ]
        height, width = images[0].image.shape[:2]
        cameras.append(camera_for_video(camera, (width, height), name))
        found = list(MediaPipeDetector(task).landmarks(images))
        pixels.append(np.stack([item.pixels for item in found if item is not None]))
    seen = np.stack(pixels)
    assert seen.shape == (4, 4, 33, 2)
    matrix, right = np.zeros((4, 33, 3, 3)), np.zeros((4, 33, 3))
    for camera, points in zip(cameras, seen, strict=True):
        rays = unproject_rays(camera, points) @ camera.rotation
        across = np.eye(3) - rays[..., :, None] * rays[..., None, :]
        matrix += across
        right += across @ camera.center
    points = np.linalg.solve(matrix, right[..., None])[..., 0]
    back = np.stack([project(camera, points) for camera in cameras])
    errors = np.linalg.norm(back - seen, axis=-1)
    assert np.median(errors) < 16  # px of 1080 x 1920; 13 measured
    assert 1.3 < np.ptp(points[..., 1], axis=1).mean() < 1.8  # m, eyes to toes
    assert abs(points[..., 1].min()) < 0.2  # the floor is at 0
