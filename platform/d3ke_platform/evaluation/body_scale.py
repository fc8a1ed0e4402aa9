"""Errors of body size: in scale factors, and in millimetres along a body's longest axis."""

from __future__ import annotations

import numpy as np
import torch

from d3ke.arrays import FloatArray
from d3ke.networks.prediction import PredictionHead

SHOWN_BODIES = (
    "pelvis",
    "femur_r",
    "femur_l",
    "tibia_r",
    "tibia_l",
    "humerus",
    "humerus_l",
    "ulna",
    "ulna_l",
    "radius",
    "radius_l",
)
"""Segments of the paper's table 2."""


class BodyScales:
    """Turns measurement factors into errors of the bodies that a measurement scales."""

    def __init__(self, head: PredictionHead) -> None:
        self._skeleton, self._measurements = head.skeleton, head.measurements
        self.bodies = head.skeleton.bodies
        governed = head.measurements.slots(head.skeleton) >= 0
        axes, self._lengths = np.zeros(governed.shape), np.zeros(len(self.bodies))
        for body, (axis, length) in head.predicted.body_longest_axis.items():
            row = self.bodies.index(body)
            axes[row, "xyz".index(axis)], self._lengths[row] = 1.0, length
        # Axes that no measurement scales are 1 in label and estimate: they would only flatter.
        self._governed = np.where(governed, 1.0, np.nan)
        self._longest = np.where((axes > 0) & governed, 1.0, np.nan)

    def errors(self, estimate: FloatArray, label: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Errors of measurement factors [n,S].

        Returns the error of the body scales [n,N,3], NaN where no measurement scales the axis,
        and the absolute error of the length along the longest axis [n,N] in mm, NaN for bodies
        whose longest axis is not scaled or that have no bone meshes.
        """
        error = (self._scales(estimate) - self._scales(label)) * self._governed
        along = np.abs(error) * self._longest
        known = np.isfinite(along)
        longest = np.where(known, along, 0.0).sum(axis=-1)
        millimetres = 1e3 * np.where(known.any(axis=-1), longest, np.nan) * self._lengths
        return error, millimetres

    def length_mm(self, body: str) -> float:
        """Length of the longest axis in the model as loaded."""
        return float(1e3 * self._lengths[self.bodies.index(body)])

    def _scales(self, factors: FloatArray) -> FloatArray:
        tensor = torch.as_tensor(np.ascontiguousarray(factors), dtype=torch.float64)
        return self._measurements.body_scales(tensor, self._skeleton).numpy()
