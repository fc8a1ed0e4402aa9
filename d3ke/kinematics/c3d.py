"""Markers of a .c3d file, and of either kind of marker file."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.errors import InvalidInputError
from d3ke.kinematics.axes import ground_from_axes
from d3ke.kinematics.c3d_child import FAILED, GROUP
from d3ke.kinematics.trc import METRES_PER_UNIT, MarkerTrajectories, read_trc

_BLOCK = 512
_INTEL = 84
_TIMEOUT_S = 300.0
_DERIVED = ("ANGLES", "FORCES", "MOMENTS", "POWERS", "SCALARS", "REACTIONS")
"""Lists, in group POINT, of points that are no positions: a model's output."""
MARKER_SUFFIXES = (".trc", ".c3d")


def read_markers(
    path: str | Path, *, units: str | None = None, up: str = "y"
) -> MarkerTrajectories:
    """Markers of a .trc or .c3d file in OpenSim's ground frame.

    Args:
        path: the file; its suffix tells the format.
        units: unit of the values (mm, cm, m) where the file's own statement is wrong or absent.
        up: the file's axis that points up; see `ground_from_axes`.

    Raises:
        InvalidInputError: unknown suffix, or the file cannot be read.
        UnknownNameError: `up`.
    """
    readers = {".trc": read_trc, ".c3d": read_c3d}
    suffix = Path(path).suffix.lower()
    if suffix not in readers:
        known = ", ".join(readers)
        raise InvalidInputError(str(path), f"is no marker file: its name must end in {known}")
    return in_ground(readers[suffix](path, units=units), up)


def in_ground(measured: MarkerTrajectories, up: str) -> MarkerTrajectories:
    """Markers of a file whose axis `up` points up, in ground. Raises UnknownNameError."""
    return replace(measured, positions=measured.positions @ ground_from_axes(up).T)


def read_c3d(path: str | Path, *, units: str | None = None) -> MarkerTrajectories:
    """Reads the markers of a .c3d file, in the axes of the file.

    Times start at 0, as in OpenSim's own reader, whatever the number of the first frame. Points
    without a measurement (negative residual, or exactly at the origin) are NaN. Left out are
    points without a label, unlabelled trajectories ("*12"), a model's angles, forces and the like.
    A subject's name that stands before every label ("anna:RASI") is dropped.

    Args:
        path: the file; read in a process of its own (see `c3d_child`).
        units: unit of the values (mm, cm, m) instead of POINT:UNITS.

    Raises:
        InvalidInputError: the file is missing, not a .c3d, cut short, holds no labelled marker, or
            states no unit or frame rate.
    """
    path = Path(path)
    found = _read(path)
    labels = _texts(found, "LABELS")
    if not labels:
        raise InvalidInputError(str(path), "names no markers (POINT:LABELS is empty)")
    derived = {name for group in _DERIVED for name in _texts(found, group)}
    positions = found["positions"]
    missing = (positions == 0.0).all(-1) | (found["residuals"] < 0.0)
    positions = np.where(missing[..., None], np.nan, positions)
    kept = [i for i, name in enumerate(labels) if _is_marker(name) and name not in derived]
    kept = [index for index in kept if index < positions.shape[1]]
    if not kept or not len(positions):
        reason = f"holds {len(kept)} labelled markers and {len(positions)} frames"
        raise InvalidInputError(str(path), reason)
    rate = float(found["rate"])
    if not (np.isfinite(rate) and rate > 0.0):
        raise InvalidInputError(str(path), f"states the frame rate {rate}")
    return MarkerTrajectories(
        names=_unprefixed([labels[index] for index in kept]),
        positions=positions[:, kept] * _metres(path, found, units),
        times=np.arange(len(positions)) / rate,
        rate_hz=rate,
    )


def _read(path: Path) -> dict[str, Any]:
    """What `c3d_child` found in the file."""
    if not path.is_file():
        raise InvalidInputError(str(path), "there is no such file")
    raw = path.read_bytes()
    if raw[1:2] != b"\x50":  # the second byte of every .c3d file
        raise InvalidInputError(str(path), "is not a .c3d file")
    if len(raw) < _stated_size(raw):
        reason = f"is cut short: {len(raw)} bytes of {_stated_size(raw)}"
        raise InvalidInputError(str(path), reason)
    command = [sys.executable, "-P", str(Path(__file__).with_name("c3d_child.py")), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        reason = f"is not read within {_TIMEOUT_S:.0f} s"
        raise InvalidInputError(str(path), reason) from error
    if done.returncode < 0:
        reason = f"cannot be read as .c3d (signal {-done.returncode}: it is damaged)"
        raise InvalidInputError(str(path), reason)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason"]
        line = lines[0] if done.returncode == FAILED else lines[-1]
        raise InvalidInputError(str(path), f"cannot be read as .c3d ({line})")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as arrays:
        return dict(arrays)


def _stated_size(raw: bytes) -> int:
    """Bytes up to the last frame that the header of a little-endian file states; 512 at least.

    ezc3d reads a file that was cut short as a shorter recording.
    """
    if len(raw) < _BLOCK:
        return _BLOCK
    parameters = (raw[0] - 1) * _BLOCK
    if len(raw) < parameters + 4 or raw[parameters + 3] != _INTEL:
        return _BLOCK
    points, analog, first, last = struct.unpack_from("<4H", raw, 2)
    (scale,) = struct.unpack_from("<f", raw, 12)
    (data,) = struct.unpack_from("<H", raw, 16)
    if last == 0xFFFF or not data:  # longer than the header can say
        return _BLOCK
    width = 4 if scale < 0.0 else 2
    return (data - 1) * _BLOCK + (last - first + 1) * (4 * points + analog) * width


def _texts(found: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts of group POINT: more than 255 are spread over NAME, NAME2, NAME3."""
    texts: list[str] = []
    for number in ("", *map(str, range(2, 100))):
        if f"{GROUP}:{name}{number}" not in found:
            break
        texts += [str(text).strip() for text in found[f"{GROUP}:{name}{number}"]]
    return texts


def _is_marker(name: str) -> bool:
    own = name.rsplit(":", 1)[-1]
    return bool(own) and not own.startswith("*")


def _unprefixed(names: Sequence[str]) -> tuple[str, ...]:
    subjects = {name.split(":", 1)[0] if ":" in name else "" for name in names}
    if len(subjects) == 1 and "" not in subjects:
        return tuple(name.split(":", 1)[1] for name in names)
    return tuple(names)


def _metres(path: Path, found: Mapping[str, Any], units: str | None) -> float:
    stated = _texts(found, "UNITS")
    unit = units or (stated[0].lower() if stated else "")
    if unit not in METRES_PER_UNIT:
        known = ", ".join(METRES_PER_UNIT)
        reason = f"has the unit {unit!r} (POINT:UNITS); known units: {known}"
        raise InvalidInputError(str(path), reason, "State the unit in the settings.")
    return METRES_PER_UNIT[unit]
