"""Reads a .c3d file with ezc3d in a process of its own; writes what it found to standard output.

Run as a script by `c3d.read_c3d`. ezc3d and OpenSim are both wrapped by SWIG and share its table of
C++ types: in one process each breaks calls of the other. And a damaged file can end the process.
"""

from __future__ import annotations

import io
import sys
from typing import Any

FAILED = 3
"""Exit status for a file that ezc3d refuses; the reason is on standard error."""
GROUP = "POINT"


def main() -> int:
    """Positions [T, N, 3], residuals [T, N] and group POINT's lists of texts, as .npz."""
    import ezc3d
    import numpy as np

    try:
        content = ezc3d.c3d(sys.argv[1])
    except (OSError, RuntimeError, ValueError, IndexError, MemoryError) as error:
        sys.stderr.write(str(error).strip() or type(error).__name__)
        return FAILED
    points = np.asarray(content["data"]["points"], dtype=float)[:3].transpose(2, 1, 0)
    residuals = np.asarray(content["data"]["meta_points"]["residuals"], dtype=float)
    arrays: dict[str, Any] = {
        "positions": points,
        "residuals": residuals[0].T if residuals.ndim == 3 else np.zeros(points.shape[:2]),
        "rate": np.array(float(content["header"]["points"]["frame_rate"])),
    }
    for name, parameter in content["parameters"].get(GROUP, {}).items():
        values = parameter.get("value") if hasattr(parameter, "get") else None
        if isinstance(values, list) and all(isinstance(value, str) for value in values):
            arrays[f"{GROUP}:{name}"] = np.array(values, dtype=str)
    buffer = io.BytesIO()  # an archive is written back and forth, which a pipe cannot
    np.savez(buffer, **arrays)
    sys.stdout.buffer.write(buffer.getvalue())
    return 0


if __name__ == "__main__":
    sys.exit(main())
