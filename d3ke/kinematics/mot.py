"""Coordinates over time in OpenSim's motion format, .mot and .sto."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError

_TRANSLATION_SUFFIXES = ("_tx", "_ty", "_tz")


class Motion(NamedTuple):
    """Coordinates over time."""

    names: tuple[str, ...]
    """Coordinate names, C."""
    values: FloatArray
    """[T, C] rad or m."""
    times: FloatArray
    """[T] s."""


def write_mot(
    path: str | Path,
    names: Sequence[str],
    values: FloatArray,
    times: FloatArray,
    rotational: BoolArray,
) -> None:
    """Writes coordinates as OpenSim reads them: degrees, metres and seconds.

    Args:
        path: the file; it appears only when it is complete.
        names: C coordinate names.
        values: [T, C] rad or m.
        times: [T] s.
        rotational: [C] True where the coordinate is an angle.
    """
    path = Path(path)
    if values.shape != (len(times), len(names)) or len(rotational) != len(names):
        raise InvalidInputError(
            str(path), f"values {values.shape} do not fit {len(times)} times, {len(names)} names"
        )
    degrees = np.where(rotational, np.rad2deg(values), values)
    header = ["Coordinates", "version=1", f"nRows={len(times)}", f"nColumns={len(names) + 1}"]
    lines = [*header, "inDegrees=yes", "endheader", "\t".join(["time", *names])]
    for time, row in zip(times, degrees, strict=True):
        lines.append("\t".join([f"{time:.8g}", *(f"{value:.8f}" for value in row)]))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_mot(path: str | Path, *, translational: Sequence[str] | None = None) -> Motion:
    """Reads a .mot or .sto file of coordinates into radians and metres.

    Degrees are taken from the header line `inDegrees=yes` alone. OpenSim writes a comment behind
    it that mentions both answers, which the reference code took for the setting (so that its
    labels stayed in degrees).

    Args:
        path: the file.
        translational: names of the coordinates that are lengths. The file does not tell them
            from angles; the default is every name ending in `_tx`, `_ty` or `_tz`.

    Raises:
        InvalidInputError: the file is missing, has no `endheader`, or is not a table.
    """
    header, body = _split(Path(path))
    if len(body) < 2:
        raise InvalidInputError(str(path), "holds no rows")
    names = tuple(body[0].split()[1:])
    table = _table(path, body[1:], width=len(names) + 1)
    values = table[:, 1:]
    if _in_degrees(header):
        angle = np.array([not _is_length(name, translational) for name in names])
        values = np.where(angle, np.deg2rad(values), values)
    return Motion(names, values, table[:, 0])


def _split(path: Path) -> tuple[list[str], list[str]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InvalidInputError(str(path), error.strerror or "cannot be read") from error
    ends = [i for i, line in enumerate(lines) if line.strip().lower() == "endheader"]
    if not ends:
        raise InvalidInputError(str(path), "is not a motion file: it has no line 'endheader'")
    return lines[: ends[0]], [line for line in lines[ends[0] + 1 :] if line.strip()]


def _in_degrees(header: list[str]) -> bool:
    settings = dict(line.strip().split("=", 1) for line in header if line.count("=") == 1)
    return settings.get("inDegrees", "no").strip().lower() == "yes"


def _is_length(name: str, translational: Sequence[str] | None) -> bool:
    if translational is None:
        return name.endswith(_TRANSLATION_SUFFIXES)
    return name in translational


def _table(path: str | Path, rows: list[str], width: int) -> FloatArray:
    try:
        table = np.array([[float(cell) for cell in row.split()] for row in rows])
    except ValueError as error:
        raise InvalidInputError(str(path), f"is not a table of numbers ({error})") from error
    if table.ndim != 2 or table.shape[1] != width:
        raise InvalidInputError(str(path), f"its rows do not have {width} columns")
    return table
