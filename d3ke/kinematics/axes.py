"""Axes of laboratories and of OpenSim's ground (x forward, y up, z right)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from d3ke.errors import UnknownNameError

UP_AXES = ("x", "y", "z", "-x", "-y", "-z")
"""Axes of a file that may point up."""

_CYCLIC = {
    "x": np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "y": np.eye(3),
    "z": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
}
# Half a turn about x: what pointed up points down.
_UPSIDE_DOWN = np.diag([1.0, -1.0, -1.0])


def ground_from_axes(up: str) -> Float[np.ndarray, "3 3"]:
    """Rotation from a file's axes to ground, by the file's axis that points up.

    The axes are renamed in a circle, which keeps them right-handed: a z-up laboratory's (y, z, x)
    become ground's (x, y, z), as the calibrations of `d3ke_platform.calibration` do. The heading
    stays arbitrary. Raises UnknownNameError.
    """
    if up not in UP_AXES:
        raise UnknownNameError("up axis", up, UP_AXES)
    rotation = _CYCLIC[up.removeprefix("-")]
    return _UPSIDE_DOWN @ rotation if up.startswith("-") else rotation
