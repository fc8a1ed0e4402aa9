"""The tight box around a body, from pose landmarks that lie inside it.

Landmarks are joints and face features, but boxes of the training data enclose the whole body.
So landmarks get the radius of the flesh around them, and the skull and the fingers, which have no
landmark at their ends, are added from anthropometry. Lengths in metres become pixels by the scale
that fits the metric landmarks onto the image (weak perspective).
"""

from __future__ import annotations

import numpy as np

from d3ke.arrays import FloatArray, IntArray

# Indices of MediaPipe's 33 pose landmarks; pairs are left, right.
EYES, EARS, MOUTH = (2, 5), (7, 8), (9, 10)
SHOULDERS, ELBOWS, WRISTS = (11, 12), (13, 14), (15, 16)
LITTLE_KNUCKLES, INDEX_KNUCKLES = (17, 18), (19, 20)
HIPS, KNEES, ANKLES, HEELS, TOES = (23, 24), (25, 26), (27, 28), (29, 30), (31, 32)

# Half thickness of the body around each landmark, m.
_RADII = {
    SHOULDERS: 0.06,
    ELBOWS: 0.045,
    WRISTS: 0.03,
    HIPS: 0.09,
    KNEES: 0.06,
    ANKLES: 0.045,
    HEELS: 0.03,
    TOES: 0.02,
}
_SKULL_RADIUS = 0.105
_SKULL_ABOVE_EARS = 0.03
_FINGER_LENGTH = 0.085
_FINGER_RADIUS = 0.012


def body_box(pixels: FloatArray, metres: FloatArray) -> FloatArray:
    """Box [x0,y0,x1,y1] px around the body.

    Args:
        pixels: [33,2] landmarks in the image, px.
        metres: [33,3] the same landmarks in metres, in axes parallel to the image's.
    """
    scale = pixels_per_metre(pixels, metres)
    indices = np.array([index for pair in _RADII for index in pair])
    radii = np.repeat(list(_RADII.values()), 2)
    skull = _mean(metres, EARS) + _SKULL_ABOVE_EARS * _direction(
        _mean(metres, EYES) - _mean(metres, MOUTH)
    )
    skull_pixels = _mean(pixels, EARS) + scale * (skull - _mean(metres, EARS))[:2]
    finger_pixels = [_finger_tip(pixels, metres, side, scale) for side in (0, 1)]
    centers = np.vstack([pixels[indices], skull_pixels, *finger_pixels])
    reach = scale * np.concatenate([radii, [_SKULL_RADIUS, _FINGER_RADIUS, _FINGER_RADIUS]])
    lowest = (centers - reach[:, None]).min(axis=0)
    highest = (centers + reach[:, None]).max(axis=0)
    return np.concatenate([lowest, highest])


def pixels_per_metre(pixels: FloatArray, metres: FloatArray) -> float:
    """Scale of the weak-perspective camera that maps the metric landmarks onto the image."""
    spread = pixels - pixels.mean(axis=0)
    flat = metres[:, :2] - metres[:, :2].mean(axis=0)
    return float(np.sqrt((spread**2).sum() / max((flat**2).sum(), 1e-9)))


def _finger_tip(pixels: FloatArray, metres: FloatArray, side: int, scale: float) -> FloatArray:
    """Image position of the finger tips beyond the knuckles, px."""
    knuckles = np.array([LITTLE_KNUCKLES[side], INDEX_KNUCKLES[side]])
    along = _direction(metres[knuckles].mean(axis=0) - metres[WRISTS[side]])
    return pixels[knuckles].mean(axis=0) + scale * _FINGER_LENGTH * along[:2]


def _mean(points: FloatArray, indices: tuple[int, ...] | IntArray) -> FloatArray:
    return points[list(indices)].mean(axis=0)


def _direction(vector: FloatArray) -> FloatArray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
