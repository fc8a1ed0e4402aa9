"""BML-MoVi's calibrated cameras: MATLAB's parameters to cameras in the ground frame.

The files of a camera are cameraParams_<camera> (IntrinsicMatrix and distortion, px) and
Extrinsics_<camera> (rotationMatrix and translationVector, mm), as .npz or .mat. MATLAB multiplies
row vectors: x_cam = x_world @ rotationMatrix + translationVector. Its world is the motion
capture's, z up, which AMASS's world turned by 90 degrees about z is; its pixels count from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError
from d3ke_platform.sources.npz_files import npz_shapes, read_npz

CAMERAS = ("PG1", "PG2")
"""The calibrated cameras of round F: frontal and sagittal in the T-pose."""
IMAGE_SIZE = (800, 600)

GROUND_FROM_WORLD = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Ground axes (y up) of the motion capture's world (z up)."""
_PLAUSIBLE_DISTANCE_M = (0.5, 50.0)


def read_camera(parameters: str | Path, extrinsics: str | Path) -> Camera:
    """The camera of two calibration files, in the ground frame.

    Raises:
        InvalidInputError: a file is missing, damaged, lacks a matrix, or the camera stands on its
            head or nowhere near the laboratory (another axis convention or unit).
    """
    lens = _read(parameters, ("IntrinsicMatrix", "RadialDistortion"), ("TangentialDistortion",))
    place = _read(extrinsics, ("rotationMatrix", "translationVector"), ())
    rotation = place["rotationMatrix"].reshape(3, 3).T @ GROUND_FROM_WORLD.T
    camera = Camera(
        intrinsics=_intrinsics(parameters, lens["IntrinsicMatrix"]),
        rotation=_nearest_rotation(rotation),
        translation=place["translationVector"].reshape(3) / 1000.0,
        size=IMAGE_SIZE,
        distortion=_distortion(lens),
    )
    _check_place(extrinsics, camera)
    return camera


def _intrinsics(path: str | Path, matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """K for pixels counted from 0; MATLAB's is the transpose of the usual one, from 1."""
    intrinsics = np.array(matrix, float).T
    if not np.allclose(intrinsics[2], [0.0, 0.0, 1.0]):
        raise InvalidInputError(
            str(path), f"IntrinsicMatrix is not MATLAB's: its last column is {intrinsics[2]}"
        )
    intrinsics[:2, 2] -= 1.0
    return intrinsics


def _distortion(lens: Mapping[str, np.ndarray]) -> Float[np.ndarray, "5"]:
    """k1, k2, p1, p2, k3."""
    radial = np.zeros(3)
    given = np.ravel(lens["RadialDistortion"])[:3]
    radial[: len(given)] = given
    tangential = np.ravel(lens.get("TangentialDistortion", np.zeros(2)))
    return np.array([radial[0], radial[1], tangential[0], tangential[1], radial[2]])


def _nearest_rotation(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation closest to a rounded one; any other matrix stays for the camera to refuse."""
    u, _, vh = np.linalg.svd(matrix)
    rotation = u @ vh
    return rotation if np.abs(rotation - matrix).max() < 1e-3 else matrix


def _check_place(path: str | Path, camera: Camera) -> None:
    if camera.rotation[1, 1] > -0.5:
        raise InvalidInputError(
            str(path),
            "puts the camera on its side or its head: rotationMatrix has another convention",
        )
    distance = float(np.linalg.norm(camera.center))
    low, high = _PLAUSIBLE_DISTANCE_M
    if not low <= distance <= high:
        reason = f"puts the camera {distance:.3g} m from the laboratory's origin"
        raise InvalidInputError(str(path), reason, "translationVector must be in millimetres.")


def _read(
    path: str | Path, needed: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, np.ndarray]:
    if Path(path).suffix == ".mat":
        return _read_mat(path, needed, optional)
    present = [name for name in optional if name in npz_shapes(path)]
    arrays = read_npz(path, (*needed, *present))
    return {name: array.astype(float) for name, array in arrays.items()}


def _read_mat(
    path: str | Path, needed: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, np.ndarray]:
    from pymatreader import read_mat

    try:
        content = read_mat(str(path))
    # scipy and h5py raise a dozen kinds of errors for a damaged file, some of them bare Exceptions.
    except Exception as error:
        raise InvalidInputError(str(path), f"is not a readable MATLAB file ({error})") from error
    values = _innermost(content)
    for name in needed:
        if name not in values:
            raise InvalidInputError(
                str(path),
                f"holds no readable {name}: a MATLAB object can only be read by MATLAB",
                "Take the .npz file of the same name.",
            )
    names = (*needed, *(name for name in optional if name in values))
    return {name: np.asarray(values[name], float) for name in names}


def _innermost(content: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the file and of the structs in it."""
    values: dict[str, Any] = dict(content)
    for value in content.values():
        if isinstance(value, Mapping):
            values |= value
    return values
