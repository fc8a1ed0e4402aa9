"""Marker trajectories and their file format, .trc."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError, UnknownNameError

METRES_PER_UNIT = {"mm": 1e-3, "cm": 1e-2, "m": 1.0}
_HEADER_LINES = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkerTrajectories:
    """Positions of named markers over time, in the ground frame."""

    names: tuple[str, ...]
    """Marker names, M."""
    positions: FloatArray
    """[T, M, 3] m; NaN where a marker was not measured."""
    times: FloatArray
    """[T] s, increasing."""
    rate_hz: float
    """Nominal frame rate."""

    def __post_init__(self) -> None:
        expected = (len(self.times), len(self.names), 3)
        if self.positions.shape != expected:
            raise InvalidInputError(
                "marker trajectories",
                f"positions have shape {self.positions.shape}, not {expected}",
            )
        if len(set(self.names)) != len(self.names):
            double = sorted({name for name in self.names if self.names.count(name) > 1})
            raise InvalidInputError("marker trajectories", f"markers named twice: {double}")
        if not np.all(np.diff(self.times) > 0):
            raise InvalidInputError("marker trajectories", "times do not increase")

    def marker(self, name: str) -> FloatArray:
        """Positions of one marker, [T, 3] m. Raises UnknownNameError."""
        if name not in self.names:
            raise UnknownNameError("marker", name, self.names)
        return self.positions[:, self.names.index(name)]

    def reordered(self, names: Iterable[str]) -> MarkerTrajectories:
        """The same recording with exactly `names`, in that order; NaN for those it lacks."""
        wanted = tuple(names)
        positions = np.full((len(self.times), len(wanted), 3), np.nan)
        for column, name in enumerate(wanted):
            if name in self.names:
                positions[:, column] = self.positions[:, self.names.index(name)]
        return MarkerTrajectories(
            names=wanted, positions=positions, times=self.times, rate_hz=self.rate_hz
        )


def write_trc(path: str | Path, trajectories: MarkerTrajectories) -> None:
    """Writes a .trc file in millimetres; missing markers become `nan`.

    Empty fields, the other custom, make OpenSim refuse a file whose last marker is missing.

    The file appears under its name only when it is complete.
    """
    path = Path(path)
    lines = _header(path.name, trajectories)
    flat = trajectories.positions.reshape(len(trajectories.times), -1) * 1e3
    for frame, (time, row) in enumerate(zip(trajectories.times, flat, strict=True), start=1):
        cells = [f"{value:.5f}" for value in row]
        lines.append("\t".join([str(frame), f"{time:.6f}", *cells]))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)


def _header(file_name: str, trajectories: MarkerTrajectories) -> list[str]:
    count, frames = len(trajectories.names), len(trajectories.times)
    rate = f"{trajectories.rate_hz:g}"
    fields = {
        "DataRate": rate,
        "CameraRate": rate,
        "NumFrames": str(frames),
        "NumMarkers": str(count),
        "Units": "mm",
        "OrigDataRate": rate,
        "OrigDataStartFrame": "1",
        "OrigNumFrames": str(frames),
    }
    axes = [f"{axis}{index}" for index in range(1, count + 1) for axis in "XYZ"]
    return [
        f"PathFileType\t4\t(X/Y/Z)\t{file_name}",
        "\t".join(fields),
        "\t".join(fields.values()),
        "Frame#\tTime\t" + "\t\t\t".join(trajectories.names) + "\t\t",
        "\t\t" + "\t".join(axes),
        "",
    ]


def read_trc(path: str | Path, *, units: str | None = None) -> MarkerTrajectories:
    """Reads a .trc file; empty and non-numeric fields become NaN.

    `units` (mm, cm, m) replaces the unit that the header states. Raises InvalidInputError if the
    file is missing, not a .trc or inconsistent.
    """
    lines = _read_lines(Path(path))
    if len(lines) < _HEADER_LINES:
        raise InvalidInputError(str(path), "is not a .trc file: the five header lines are missing")
    header = dict(zip(lines[1].split(), lines[2].split(), strict=False))
    header |= {"Units": units} if units else {}
    scale, rate = _scale_and_rate(path, header)
    names = tuple(name.strip() for name in lines[3].split("\t")[2:] if name.strip())
    rows = [line for line in lines[_HEADER_LINES:] if line.strip()]
    if not names or not rows:
        raise InvalidInputError(str(path), f"holds {len(names)} markers and {len(rows)} frames")
    table = np.array([_numbers(path, row, 2 + 3 * len(names)) for row in rows])
    return MarkerTrajectories(
        names=names,
        positions=table[:, 2:].reshape(len(rows), len(names), 3) * scale,
        times=table[:, 1],
        rate_hz=rate,
    )


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InvalidInputError(str(path), error.strerror or "cannot be read") from error


def _scale_and_rate(path: str | Path, header: dict[str, str]) -> tuple[float, float]:
    units = header.get("Units", "").lower()
    if units not in METRES_PER_UNIT:
        known = ", ".join(METRES_PER_UNIT)
        raise InvalidInputError(str(path), f"has the unit {units!r}; known units: {known}")
    try:
        return METRES_PER_UNIT[units], float(header["DataRate"])
    except (KeyError, ValueError) as error:
        raise InvalidInputError(str(path), "its header states no DataRate") from error


def _numbers(path: str | Path, row: str, width: int) -> FloatArray:
    """Frame number, time and coordinates of one row; short rows miss their last markers."""
    cells = row.split("\t")
    if len(cells) > width and any(cell.strip() for cell in cells[width:]):
        raise InvalidInputError(
            str(path), f"a row has {len(cells)} columns, but the header names {width}"
        )
    values = np.full(width, np.nan)
    for index, cell in enumerate(cells[:width]):
        try:
            values[index] = float(cell)
        except ValueError:
            continue
    if not np.isfinite(values[1]):
        raise InvalidInputError(str(path), f"a row has no time: {row[:40]!r}")
    return values
