"""The trivial estimate every method has to beat: the mean of the training labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError
from d3ke.networks.prediction import Estimate, mean_estimate
from d3ke_platform.stages.estimate import EstimateArrays


@dataclass(frozen=True, kw_only=True)
class MeanBaseline:
    """Same angles and body size for every frame; the pelvis faces as it mostly did in training."""

    mean: EstimateArrays
    """One estimate without the frame axis: coordinates [P], root_rotation [3,3], factors [S]."""
    root_rotations: Mapping[str, FloatArray]
    """Mean pelvis orientation by camera: a camera's place decides which way people face in it."""

    def estimate(self, camera: str, frames: int) -> EstimateArrays:
        """The same estimate for every frame of a recording by `camera`.

        A camera that training never saw gets the mean orientation over all cameras.
        """
        rotation = self.root_rotations.get(camera, self.mean.root_rotation)
        parts = self.mean._replace(root_rotation=rotation)
        return EstimateArrays(*(np.broadcast_to(x, (frames, *x.shape)) for x in parts))


def mean_baseline(
    *,
    coordinates: FloatArray,
    coordinate_mask: BoolArray,
    factors: FloatArray,
    root_rotation: FloatArray,
    cameras: np.ndarray,
) -> MeanBaseline:
    """Means over n training frames.

    `coordinates` [n,P] rad with `coordinate_mask` [n,P], `factors` [n,S], `root_rotation` [n,3,3]
    pelvis -> crop camera, `cameras` [n] names. A coordinate that is masked everywhere falls back
    on its unmasked mean. Raises InvalidInputError without frames.
    """
    if not len(coordinates):
        raise InvalidInputError("mean-angle baseline", "the training split has no labelled frames")
    everything = Estimate(*map(_tensor, (coordinates, root_rotation, factors)))
    mask = torch.as_tensor(coordinate_mask)
    rotations = {
        camera: _mean(Estimate(*(x[cameras == camera] for x in everything))).root_rotation
        for camera in sorted(set(cameras.tolist()))
    }
    return MeanBaseline(mean=_mean(everything, mask), root_rotations=rotations)


def _mean(estimates: Estimate, mask: torch.Tensor | None = None) -> EstimateArrays:
    return EstimateArrays(*(value.numpy() for value in mean_estimate(estimates, mask)))


def _tensor(values: FloatArray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float64)
