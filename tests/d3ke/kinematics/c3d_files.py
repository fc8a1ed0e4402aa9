"""Real .c3d files for tests, written with ezc3d in a process of its own (see `c3d_child`)."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from d3ke.kinematics import MarkerTrajectories

PER_UNIT = {"mm": 1e3, "cm": 1e2, "m": 1.0}
_WRITE = """
import io, json, sys
import ezc3d
import numpy as np
settings = json.loads(sys.argv[1])
content = ezc3d.c3d()
points = content["parameters"]["POINT"]
points["UNITS"]["value"] = [settings["units"]]
points["RATE"]["value"] = [settings["rate"]]
points["LABELS"]["value"] = settings["labels"]
positions = np.load(io.BytesIO(sys.stdin.buffer.read()))
homogeneous = np.ones((4, positions.shape[1], len(positions)))
homogeneous[:3] = positions.transpose(2, 1, 0)
content["data"]["points"] = homogeneous
content["header"]["points"]["first_frame"] = settings["first_frame"]
for name, values in settings["parameters"].items():
    content.add_parameter("POINT", name, values)
content.write(settings["path"])
"""


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
    positions = measured.positions @ (np.eye(3) if axes is None else axes).T
    settings = {
        "path": str(path),
        "units": units,
        "rate": measured.rate_hz,
        "labels": [prefix + name for name in measured.names],
        "first_frame": first_frame,
        "parameters": parameters or {},
    }
    command = [sys.executable, "-c", _WRITE, json.dumps(settings)]
    buffer = io.BytesIO()
    np.save(buffer, positions * PER_UNIT.get(units, 1.0))
    subprocess.run(command, input=buffer.getvalue(), check=True)
    return path
