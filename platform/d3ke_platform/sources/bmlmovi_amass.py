"""Motions of BML-MoVi as AMASS fitted them: SMPL-H pose, shape and translation at 120 Hz."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from d3ke.errors import InvalidInputError
from d3ke_platform.sources.npz_files import npz_shapes, read_npz
from d3ke_platform.sources.smplh_body import BETAS, POSE_SIZE

_ARRAYS = ("poses", "trans", "betas")
_RATES = ("mocap_framerate", "mocap_frame_rate")

GROUND_FROM_AMASS = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]])
"""Ground axes (y up) of AMASS's world (z up). In the T-pose that starts a recording people face the
frontal camera, which stands at -y of that world: they face x of the ground."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AmassMotion:
    """One motion, in AMASS's world (z up, metres)."""

    poses: Float[np.ndarray, "T 156"]
    """Rotation vectors of the 52 joints, rad."""
    translation: Float[np.ndarray, "T 3"]
    """m."""
    betas: Float[np.ndarray, "16"]
    """Shape coefficients."""
    rate_hz: float
    """Frames per second."""
    sex: str
    """Of the body model it was fitted with, female or male; "" where the file does not say."""


def amass_frame_count(path: str | Path) -> int:
    """Frames of a motion, from the file's headers. Raises InvalidInputError."""
    shapes = npz_shapes(path, _ARRAYS)
    _check_shapes(path, shapes)
    if not any(name in shapes for name in _RATES):
        raise InvalidInputError(str(path), f"states no frame rate ({_RATES[0]})")
    return shapes["poses"][0]


def read_amass(path: str | Path) -> AmassMotion:
    """A motion file. Raises InvalidInputError when it is damaged or not SMPL-H with 16 betas."""
    amass_frame_count(path)
    rate = next(name for name in _RATES if name in npz_shapes(path))
    arrays = read_npz(path, (*_ARRAYS, rate))
    for name in _ARRAYS:
        if not np.isfinite(arrays[name]).all():
            raise InvalidInputError(str(path), f"{name} holds values that are not finite")
    rate_hz = float(arrays[rate])
    if not rate_hz > 0:
        raise InvalidInputError(str(path), f"states a frame rate of {rate_hz:g} Hz")
    return AmassMotion(
        poses=arrays["poses"].astype(float),
        translation=arrays["trans"].astype(float),
        betas=arrays["betas"][:BETAS].astype(float),
        rate_hz=rate_hz,
        sex=fitted_sex(path),
    )


def fitted_sex(path: str | Path) -> str:
    """Sex of the body model that a motion's shape coefficients belong to, "" if unknown."""
    if "gender" not in npz_shapes(path):
        return ""
    gender = read_npz(path, ("gender",))["gender"].item()
    text = (gender.decode() if isinstance(gender, bytes) else str(gender)).strip().lower()
    return text if text in ("female", "male") else ""


def read_betas(path: str | Path) -> Float[np.ndarray, "16"]:
    """Shape coefficients of a motion file. Raises InvalidInputError."""
    amass_frame_count(path)
    betas = read_npz(path, ("betas",))["betas"][:BETAS].astype(float)
    if not np.isfinite(betas).all():
        raise InvalidInputError(str(path), "betas holds values that are not finite")
    return np.asarray(betas)


def _check_shapes(path: str | Path, shapes: dict[str, tuple[int, ...]]) -> None:
    poses, translation, betas = (shapes[name] for name in _ARRAYS)
    if len(poses) != 2 or poses[1] != POSE_SIZE:
        reason = f"poses has shape {poses}, not (frames, {POSE_SIZE})"
        raise InvalidInputError(str(path), reason, "Take AMASS's SMPL+H version of BMLmovi.")
    if poses[0] == 0 or translation != (poses[0], 3):
        raise InvalidInputError(
            str(path), f"{poses[0]} poses and translations of shape {translation} do not match"
        )
    if len(betas) != 1 or betas[0] < BETAS:
        raise InvalidInputError(str(path), f"betas has shape {betas}, not ({BETAS},)")
