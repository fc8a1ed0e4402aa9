"""Which axis of a calibration's world points up: people mostly hold their heads above their feet.

A flipped axis convention leaves every reprojection perfect and every angle of the pelvis wrong.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from d3ke.errors import InvalidInputError
from d3ke_platform.calibration import UP_AXES

AUTO = "auto"
_CLEAR = 0.8
"""Share of the mean trunk direction that the best axis must hold, within 37 degrees of it."""
_FEWEST = 5


def up_axis_of(trunks: Float[np.ndarray, "n 3"]) -> str:
    """The axis of the world nearest to the mean direction of trunks; "" when none is near.

    Args:
        trunks: vectors from the hips to the shoulders in the calibration's own axes; NaN = unseen.
    """
    seen = trunks[np.isfinite(trunks).all(axis=-1)]
    if len(seen) < _FEWEST:
        return ""
    mean = (seen / np.linalg.norm(seen, axis=-1, keepdims=True)).mean(axis=0)
    best = int(np.argmax(np.abs(mean)))
    if abs(mean[best]) < _CLEAR:
        return ""
    return UP_AXES[best] if mean[best] > 0 else UP_AXES[best + 3]


def settle_up_axis(calibration: str, wanted: str, found: str) -> str:
    """The up axis to use.

    Args:
        calibration: the file, for messages.
        wanted: the setting, an axis or `AUTO`.
        found: what the people say, "" when they do not (lying, crawling).

    Raises:
        InvalidInputError: people stand along another axis than the one set, or `AUTO` cannot tell.
    """
    if wanted == AUTO:
        if found:
            return found
        raise InvalidInputError(
            f"calibration {calibration}",
            "which axis of its world points up cannot be told: nobody stands or sits upright",
            f"Set multicamera.up_axis to one of {', '.join(UP_AXES)} (Qualisys, Pose2Sim: z).",
        )
    if found and found != wanted:
        raise InvalidInputError(
            f"calibration {calibration}",
            f"with multicamera.up_axis {wanted!r} people stand head down or sideways: their trunks "
            f"point along the world's {found}",
            f"Set multicamera.up_axis to {found!r} or to {AUTO!r}.",
        )
    return wanted
