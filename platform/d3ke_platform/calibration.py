"""Camera calibration files, read into cameras whose ground is OpenSim's (y up).

Formats: Qualisys (.qca.txt), Pose2Sim (.toml), and JSON:
{"<camera>": {"intrinsics": 3x3 px, "rotation": 3x3, "translation": [3] m, "distortion": [5],
"size": [width, height]}} with ground y up already.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from d3ke import safe_xml
from d3ke.arrays import FloatArray
from d3ke.camera import Camera
from d3ke.errors import InvalidInputError, UnknownNameError

_HALF_TURN_ABOUT_X = np.diag([1.0, -1.0, -1.0])
# Motion-capture worlds are z up. Ground axes (x, y, z) are then their (y, z, x), as Pose2Sim does.
_GROUND_FROM_WORLD = {
    "x": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "y": np.eye(3),
    "z": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
}
UP_AXES = ("x", "y", "z", "-x", "-y", "-z")
"""Axes of a calibration's world that may point up."""
_QUALISYS_SUBPIXELS = 64.0


def read_cameras(path: str | Path, *, up_axis: str = "z") -> dict[str, Camera]:
    """Cameras of a calibration file by name.

    Args:
        path: the file.
        up_axis: axis of the file's world that points up, one of `UP_AXES`; z in Qualisys' and
            Pose2Sim's files. A .json file's world is the ground, whatever is given.

    Raises:
        InvalidInputError: the file is missing, of an unknown kind, or not what its name says.
        UnknownNameError: no such axis.
    """
    file = Path(path)
    to_ground = ground_from_world(up_axis)
    readers = {".txt": _read_qualisys, ".toml": _read_pose2sim, ".json": _read_json}
    if file.suffix not in readers:
        raise InvalidInputError(
            f"camera file {path}", "is of an unknown kind", "Known: .qca.txt, .toml, .json."
        )
    try:
        cameras = readers[file.suffix](file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"camera file {path}", error.strerror or "unreadable") from error
    except (safe_xml.ParseError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"does not hold calibrated cameras ({type(error).__name__}: {error})"
        raise InvalidInputError(f"camera file {path}", reason) from error
    if not cameras:
        raise InvalidInputError(f"camera file {path}", "names no camera")
    if file.suffix == ".json":
        return cameras
    return {
        name: replace(camera, rotation=camera.rotation @ to_ground.T)
        for name, camera in cameras.items()
    }


def ground_from_world(up_axis: str) -> FloatArray:
    """Rotation [3,3] of a world with that axis up into the ground (y up); the heading is free.

    Raises UnknownNameError.
    """
    if up_axis not in UP_AXES:
        raise UnknownNameError("up axis", up_axis, UP_AXES)
    upright = _GROUND_FROM_WORLD[up_axis.removeprefix("-")]
    return _HALF_TURN_ABOUT_X @ upright if up_axis.startswith("-") else upright


def camera_for_video(camera: Camera, size: tuple[int, int], name: str) -> Camera:
    """The camera as it looks at pictures of `size` (width, height) px.

    A video may be the calibrated picture at another resolution (same shape: everything scales),
    or lack a few columns or rows at the right or bottom, which video encoders cut.

    Raises:
        InvalidInputError: the sizes do not go together.
    """
    if size == camera.size:
        return camera
    ratio = np.array(size) / np.array(camera.size)
    if math.isclose(ratio[0], ratio[1], rel_tol=2e-3):
        return _resized(camera, size, float(ratio.mean()))
    cut = np.array(camera.size) - np.array(size)
    if (cut >= 0).all() and (cut <= 16).all():
        return replace(camera, size=size)
    raise InvalidInputError(
        f"camera {name}",
        f"is calibrated for {camera.size[0]}x{camera.size[1]} px, the video has "
        f"{size[0]}x{size[1]}",
    )


def camera_to_json(camera: Camera) -> dict[str, Any]:
    """JSON values of a camera, in this module's format."""
    return {
        "intrinsics": camera.intrinsics.tolist(),
        "rotation": camera.rotation.tolist(),
        "translation": camera.translation.tolist(),
        "distortion": camera.distortion.tolist(),
        "size": list(camera.size),
    }


def camera_from_json(values: Mapping[str, Any]) -> Camera:
    """The camera of `camera_to_json`."""
    width, height = values["size"]
    return Camera(
        intrinsics=np.array(values["intrinsics"], float),
        rotation=np.array(values["rotation"], float),
        translation=np.array(values["translation"], float),
        distortion=np.array(values.get("distortion", [0.0] * 5), float),
        size=(int(width), int(height)),
    )


def _read_json(text: str) -> dict[str, Camera]:
    return {str(name): camera_from_json(values) for name, values in json.loads(text).items()}


def _read_pose2sim(text: str) -> dict[str, Camera]:
    tables = {name: table for name, table in tomllib.loads(text).items() if name != "metadata"}
    return {str(table.get("name", name)): _pose2sim_camera(table) for name, table in tables.items()}


def _pose2sim_camera(table: Mapping[str, Any]) -> Camera:
    if table.get("fisheye"):
        raise ValueError("fisheye cameras are not supported")
    rotation, _ = cv2.Rodrigues(np.array(table["rotation"], float))
    k1, k2, p1, p2, *rest = table["distortions"]
    return Camera(
        intrinsics=np.array(table["matrix"], float),
        rotation=np.asarray(rotation, float),
        translation=np.array(table["translation"], float),
        distortion=np.array([k1, k2, p1, p2, rest[0] if rest else 0.0], float),
        size=(round(table["size"][0]), round(table["size"][1])),
    )


def _read_qualisys(text: str) -> dict[str, Camera]:
    # A declaration of the encoding is refused in text that is decoded already.
    body = text[text.index("?>") + 2 :] if text.lstrip().startswith("<?xml") else text
    cameras = safe_xml.parse_xml(body.strip()).findall("cameras/camera")
    return {str(camera.attrib["serial"]): _qualisys_camera(camera) for camera in cameras}


def _qualisys_camera(element: safe_xml.Element) -> Camera:
    def part(name: str) -> safe_xml.Element:
        found = element.find(name)
        if found is None:
            raise ValueError(f"camera without <{name}>")
        return found

    if element.attrib.get("viewrotation", "0") != "0":
        turn = element.attrib["viewrotation"]
        raise ValueError(f"videos turned by {turn} degrees are not supported (viewrotation)")
    view, lens, pose = part("fov_video"), part("intrinsic"), part("transform")
    left, top = float(view.attrib["left"]), float(view.attrib["top"])
    axes = [[float(pose.attrib[f"r{row}{column}"]) for column in "123"] for row in "123"]
    # Qualisys cameras look along -z with y up: half a turn about x makes them OpenCV's.
    rotation = _HALF_TURN_ABOUT_X @ np.array(axes)
    position = np.array([float(pose.attrib[axis]) for axis in "xyz"]) / 1000
    return Camera(
        intrinsics=_qualisys_intrinsics(lens, left, top),
        rotation=_orthonormal(rotation),
        translation=-rotation @ position,
        distortion=_qualisys_distortion(lens),
        size=(
            round(float(view.attrib["right"]) - left + 1),
            round(float(view.attrib["bottom"]) - top + 1),
        ),
    )


def _qualisys_intrinsics(lens: safe_xml.Element, left: float, top: float) -> FloatArray:
    focal_u, focal_v, center_u, center_v = (
        float(lens.attrib[name]) / _QUALISYS_SUBPIXELS
        for name in ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV")
    )
    return np.array([[focal_u, 0, center_u - left], [0, focal_v, center_v - top], [0, 0, 1.0]])


def _qualisys_distortion(lens: safe_xml.Element) -> FloatArray:
    names = (
        "radialDistortion1",
        "radialDistortion2",
        "tangentalDistortion1",  # spelled so in the files
        "tangentalDistortion2",
        "radialDistortion3",
    )
    return np.array([float(lens.attrib.get(name, 0.0)) for name in names])


def _orthonormal(rotation: FloatArray) -> FloatArray:
    """The rotation closest to a matrix that was rounded in a file."""
    u, _, vh = np.linalg.svd(rotation)
    return np.asarray(u @ vh)


def _resized(camera: Camera, size: tuple[int, int], ratio: float) -> Camera:
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2] *= ratio
    intrinsics[:2, 2] += (ratio - 1) / 2  # pixel centres lie at integers
    return replace(camera, intrinsics=intrinsics, size=size)
