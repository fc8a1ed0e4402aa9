"""Real .c3d files for tests, written with ezc3d."""

from __future__ import annotations

from pathlib import Path

import ezc3d
import numpy as np

from d3ke.kinematics import MarkerTrajectories

PER_UNIT = {"mm": 1e3, "cm": 1e2, "m": 1.0}


def write_c3d(
    path: Path,
    measured: MarkerTrajectories,
    *,
    units: str = "mm",
    axes: np.ndarray | None = None,
    prefix: str = "",
    first_frame: int = 0,
    parameters: dict | None = None,
) -> Path:
    """Markers as a .c3d; `axes` [3, 3] turns ground into the file's axes. NaN is "not measured"."""
    content = ezc3d.c3d()
    points = content["parameters"]["POINT"]
    points["UNITS"]["value"] = [units]
    points["RATE"]["value"] = [measured.rate_hz]
    points["LABELS"]["value"] = [prefix + name for name in measured.names]
    positions = measured.positions @ (np.eye(3) if axes is None else axes).T
    homogeneous = np.ones((4, len(measured.names), len(measured.times)))
    homogeneous[:3] = positions.transpose(2, 1, 0) * PER_UNIT.get(units, 1.0)
    content["data"]["points"] = homogeneous
    content["header"]["points"]["first_frame"] = first_frame
    for name, values in (parameters or {}).items():
        content.add_parameter("POINT", name, values)
    content.write(str(path))
    return path
