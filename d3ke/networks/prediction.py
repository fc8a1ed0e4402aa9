"""What the networks predict, and how numbers of a network become angles, rotation and scales."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from d3ke.errors import InvalidInputError, UnsupportedModelError
from d3ke.rotations import matrix_to_rotation_6d, rotation_6d_to_matrix
from d3ke.skeleton import MeasurementSet, Pose, PredictedSet, SkeletalModelLayer, Skeleton
from d3ke.skeleton.couplings import Couplings, affine_table

ROOT_SIZE = 6
"""Numbers of the root rotation: the first two columns of its matrix."""
FACTOR_MIDDLE, FACTOR_HALF_RANGE = 1.2, 0.7
"""Measurement factors lie in 0.5 .. 1.9 of the model as loaded: the shoulders of the embedded
people are up to 1.75 times as wide as the built-in model's."""
ACTIVATION_LIMIT = 0.999
"""`encode` keeps this far from the asymptotes of the activation, in parts of the half range."""


class Estimate(NamedTuple):
    """What a network says about a person in one frame (or batches and sequences of frames)."""

    coordinates: Tensor
    """[*B,P] rad, the predicted coordinates of the skeleton."""
    root_rotation: Tensor
    """[*B,3,3] pelvis axes to the axes of the crop's camera."""
    factors: Tensor
    """[*B,S] measurement factors on the skeleton as loaded (1 = unchanged)."""


class PredictionHead(nn.Module):
    """Turns raw numbers of a network into an `Estimate` and back, and an estimate into a pose.

    Raw channels are [6 root rotation | S factors | P coordinates]. The paper (section 2.1,
    figure 3) and its code bound every angle by its range in the model. It has no learnable
    parameters; geometry is always computed in float32 or better, also under autocast.
    """

    def __init__(
        self, skeleton: Skeleton, measurements: MeasurementSet, predicted: PredictedSet
    ) -> None:
        super().__init__()
        self.skeleton, self.measurements, self.predicted = skeleton, measurements, predicted
        # Factors are bounded; that a loss is finite is looked at once a step, of all its terms.
        self.layer = SkeletalModelLayer(skeleton, check_values=False)
        if skeleton.root_joint < 0:
            raise InvalidInputError(
                f"skeleton {skeleton.name!r}",
                "it has no root joint of six coordinates, so no root rotation to predict",
            )
        self.root_body = int(skeleton.joint_children[skeleton.root_joint])
        self.size = ROOT_SIZE + len(measurements.names) + len(predicted.coordinates)
        index = np.asarray(skeleton.index_of("coordinate", predicted.coordinates))
        ranges = skeleton.coordinate_ranges[index]
        defaults = skeleton.coordinate_defaults.copy()
        defaults[np.asarray(skeleton.index_of("coordinate", skeleton.root_coordinates))] = 0.0
        self._constant("coordinate_index", torch.from_numpy(index).long())
        self._constant("coordinate_middle", _float32(ranges.mean(axis=1)))
        self._constant("coordinate_half_range", _float32(np.ptp(ranges, axis=1) / 2))
        self._constant("default_coordinates", _float32(defaults))
        self._constant("slots", torch.from_numpy(measurements.slots(skeleton)))
        self._add_weights()
        self._add_couplers()

    coordinate_index: Tensor
    coordinate_middle: Tensor
    coordinate_half_range: Tensor
    default_coordinates: Tensor
    free_coordinates: Tensor
    """[P] 1.0, but 0.0 for predicted coordinates that couplers compute from others."""
    angle_weights: Tensor
    """[P] weights of the coordinates in the loss; 0.0 for coupled ones."""
    marker_index: Tensor
    """[K] supervised markers as indices into skeleton.markers."""
    marker_weights: Tensor
    """[K] weights of the supervised markers in the loss."""
    measured_bodies: Tensor
    """Indices of the bodies with at least one axis that a measurement scales."""

    slots: Tensor
    """[N,3] index of the factor that scales a body axis, -1 = none."""
    coupled_index: Tensor
    driver_index: Tensor
    driver_slopes: Tensor
    driver_constants: Tensor

    def _add_weights(self) -> None:
        skeleton, predicted = self.skeleton, self.predicted
        free = ~np.isin(predicted.coordinates, skeleton.coupled)
        self._constant("free_coordinates", _float32(free))
        self._constant("angle_weights", _float32(np.asarray(predicted.angle_loss_weights) * free))
        markers = [name for name in predicted.marker_loss_weights if name in skeleton.markers]
        if not markers:
            raise InvalidInputError(
                "the skeleton's markers",
                "none of them is among the markers that the predicted set supervises",
                f"Supervised: {', '.join(predicted.marker_loss_weights)}.",
            )
        marker_weights = [predicted.marker_loss_weights[name] for name in markers]
        self._constant("marker_index", torch.tensor(skeleton.index_of("marker", markers)))
        self._constant("marker_weights", torch.tensor(marker_weights, dtype=torch.float32))
        measured = (self.slots >= 0).any(dim=1)
        self._constant("measured_bodies", measured.nonzero().flatten())

    def _add_couplers(self) -> None:
        """Predicted coordinates that couplers determine, as affine functions of free ones."""
        coupled = np.flatnonzero(self.free_coordinates.numpy() == 0)
        couplings = Couplings(self.skeleton)
        values = [couplings.coordinate(int(self.coordinate_index[index])) for index in coupled]
        if couplings.nodes:
            names = [self.predicted.coordinates[index] for index in coupled]
            raise UnsupportedModelError(
                f"the coupler of one of {', '.join(names)}",
                "non-linear function",
                ["linear couplers of predicted coordinates"],
                "Leave the coordinate out of the predicted set: the layer computes it anyway.",
            )
        every = {index: index for index in range(len(self.skeleton.coordinates))}
        sources, slopes, constants = affine_table(values, every)
        self._constant("coupled_index", torch.from_numpy(coupled))
        self._constant("driver_index", torch.from_numpy(sources))
        self._constant("driver_slopes", _float32(slopes))
        self._constant("driver_constants", _float32(constants))

    def _constant(self, name: str, value: Tensor) -> None:
        # Not persistent: they follow from the skeleton, which a bundle stores anyway.
        self.register_buffer(name, value, persistent=False)

    def activate(self, raw: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Bound factors and angles to -1 .. 1 by 2 sigmoid - 1; root numbers stay as they are."""
        root, bounded = raw[..., :ROOT_SIZE], raw[..., ROOT_SIZE:]
        return torch.cat([root, 2 * torch.sigmoid(bounded) - 1], dim=-1)

    def decode_activated(self, activated: Float[Tensor, "*batch C"]) -> Estimate:
        """Scale activated numbers to their ranges; couplers overwrite dependent coordinates.

        A dependent coordinate's own channel is unused: the skeleton computes the coordinate
        from its driver, and so must everything that reports or scores it.
        """
        count = len(self.measurements.names)
        root, factors, angles = activated.split(
            [ROOT_SIZE, count, activated.shape[-1] - count - 6], -1
        )
        coordinates = self.coordinate_middle + self.coordinate_half_range * angles
        return Estimate(
            self._couple(coordinates),
            rotation_6d_to_matrix(root),
            FACTOR_MIDDLE + FACTOR_HALF_RANGE * factors,
        )

    def decode(self, raw: Float[Tensor, "*batch C"]) -> Estimate:
        """Estimate of raw network numbers [*B,size]."""
        with full_precision(raw):
            return self.decode_activated(self.activate(_at_least_float32(raw)))

    def encode(self, estimate: Estimate) -> Float[Tensor, "*batch C"]:
        """Raw numbers [*B,size] that `decode` to this estimate: its inverse.

        Values beyond their range are clamped to just inside it.
        """
        half_range = self.coordinate_half_range.clamp(min=1e-9)  # a locked coordinate has none
        angles = (estimate.coordinates - self.coordinate_middle) / half_range
        factors = (estimate.factors - FACTOR_MIDDLE) / FACTOR_HALF_RANGE
        bounded = torch.cat([factors, angles], dim=-1).clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
        root = matrix_to_rotation_6d(estimate.root_rotation)
        return torch.cat([root, 2 * torch.atanh(bounded)], dim=-1)

    def all_coordinates(self, coordinates: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch Q"]:
        """All coordinates of the skeleton: predicted ones in place, the rest at their defaults."""
        full = self.default_coordinates.to(coordinates.dtype).expand(*coordinates.shape[:-1], -1)
        return full.index_copy(-1, self.coordinate_index, coordinates)

    def body_scales(self, factors: Float[Tensor, "*batch S"]) -> Float[Tensor, "*batch N 3"]:
        """Scale of every body axis on the model as loaded; 1 where no measurement applies."""
        padded = torch.cat([factors, torch.ones_like(factors[..., :1])], dim=-1)
        return padded[..., self.slots]

    def pose(self, estimate: Estimate) -> Pose:
        """Joint centres, markers and bodies of an estimate (equations 3 to 12), metres.

        Positions are relative to the pelvis origin, in the axes of the crop's camera.
        """
        with full_precision(estimate.coordinates):
            scales = self.body_scales(estimate.factors)
            coordinates = self.all_coordinates(estimate.coordinates)
            pose = self.layer(coordinates, scales, estimate.root_rotation)
        origin = pose.body_positions[..., self.root_body, None, :]
        return Pose(
            joint_centers=pose.joint_centers - origin,
            markers=pose.markers - origin,
            body_rotations=pose.body_rotations,
            body_positions=pose.body_positions - origin,
        )

    def _couple(self, coordinates: Float[Tensor, "*batch P"]) -> Float[Tensor, "*batch P"]:
        """Predicted coordinates with the dependent ones computed by the skeleton's couplers."""
        drivers = self.all_coordinates(coordinates)[..., self.driver_index]
        driven = (drivers * self.driver_slopes).sum(dim=-1) + self.driver_constants
        return coordinates.index_copy(-1, self.coupled_index, driven.to(coordinates.dtype))


def mean_estimate(estimates: Estimate, mask: Bool[Tensor, "F P"] | None = None) -> Estimate:
    """Middle of a data set [F,...], to start a network from.

    Coordinates and factors are plain means; the rotation is the one closest to the mean matrix.

    Args:
        estimates: labels of F frames.
        mask: True where a coordinate is known; a coordinate that never is counts as known.
    """
    coordinates = estimates.coordinates
    if mask is None:
        mask = torch.ones_like(coordinates, dtype=torch.bool)
    known = mask | ~mask.any(dim=0)
    mean = torch.where(known, coordinates, 0.0).sum(dim=0) / known.sum(dim=0)
    u, _, vh = torch.linalg.svd(estimates.root_rotation.double().mean(dim=0))
    u = torch.cat([u[:, :2], u[:, 2:] * torch.linalg.det(u @ vh)], dim=1)
    return Estimate(mean, (u @ vh).to(coordinates.dtype), estimates.factors.mean(dim=0))


@contextmanager
def full_precision(like: Tensor) -> Iterator[None]:
    """Switch autocast off: 8 bits of mantissa are 4 mm at 1 m, and chains of joints add up."""
    with torch.autocast(like.device.type, enabled=False):
        yield


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _float32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
