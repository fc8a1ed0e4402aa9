"""Array types of the method, named once.

Axis letters, used in every signature and docstring:
B batch, T time (frames), Q coordinates of a skeleton, P predicted coordinates, N bodies,
J joints, M markers, S measurement factors, C channels, H and W image height and width.
Lengths are metres, angles radians, times seconds, image positions pixels.
Frames: *ground* is OpenSim's (x forward, y up, z right); *camera* is OpenCV's (x right, y down,
z forward). A rotation R_ab takes vectors in b to a; `world` in camera code means *ground*.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.floating]
IntArray: TypeAlias = NDArray[np.integer]
BoolArray: TypeAlias = NDArray[np.bool_]
ImageArray: TypeAlias = NDArray[np.uint8]
