"""Errors of estimates on the validation subjects."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from d3ke.losses import Target
from d3ke.metrics import longest_axes
from d3ke.networks.prediction import Estimate, PredictionHead
from d3ke.rotations import geodesic_angle
from d3ke.skeleton import PredictedSet, Skeleton
from d3ke_platform.training.error_sums import ErrorSums

METRICS = (
    "mae_all_deg",
    "mae_main_deg",
    "mae_legs_deg",
    "mae_unmasked_deg",
    "mpblpe_mm",
    "mae_body_mm",
    "root_deg",
    "factor_mae",
    "mv_main_deg_s",
    "mv_main_label_deg_s",
    "mv_all_deg_s",
    "mv_all_label_deg_s",
)


class Validator:
    """Adds the errors of estimates to `ErrorSums`.

    Angle errors (mae_*_deg) count where the label mask allows, mae_unmasked_deg everywhere;
    mpblpe_mm is the position error of the bony landmarks relative to the pelvis against the
    skeleton at the labels; mae_body_mm that of the lengths of bodies (`d3ke.metrics.mae_body`);
    root_deg the angle between root orientations; factor_mae the error of the measurement factors;
    mv_*_deg_s the mean angular speed (equation 13) and mv_*_label_deg_s that of the labels.
    """

    def __init__(self, head: PredictionHead, skeleton: Skeleton, predicted: PredictedSet) -> None:
        self._head, self._skeleton = head, skeleton
        lengths = longest_axes(predicted, skeleton.bodies)
        self._bones = np.flatnonzero(lengths.any(-1))
        self._lengths = torch.from_numpy(lengths[self._bones]).float()
        names = predicted.coordinates
        self._groups = {
            name: torch.tensor(
                [names.index(member) for member in predicted.groups.get(name, ())], dtype=torch.long
            )
            for name in ("main", "legs")
        }
        self._groups["all"] = torch.arange(len(names))
        self._landmarks = torch.from_numpy(
            skeleton.index_of("marker", list(predicted.bony_landmarks))
        )

    def add_frames(self, sums: ErrorSums, estimate: Estimate, target: Target) -> None:
        """Add all but the speeds of n frames (leading dimension n)."""
        if not len(estimate.coordinates):
            return
        error = (estimate.coordinates - target.coordinates).abs() * (180 / math.pi)
        for group, columns in self._groups.items():
            at = columns.to(error.device)
            sums.add(f"mae_{group}_deg", error[:, at], target.coordinate_mask[:, at])
        sums.add("mae_unmasked_deg", error, error.isfinite())
        sums.add("mae_body_mm", self._length_errors(estimate, target) * 1000)
        sums.add("mpblpe_mm", self._landmark_errors(estimate, target) * 1000)
        angle = geodesic_angle(estimate.root_rotation, target.root_rotation)
        sums.add("root_deg", angle * (180 / math.pi))
        sums.add("factor_mae", (estimate.factors - target.factors).abs())

    def add_speeds(
        self, sums: ErrorSums, coordinates: Tensor, labels: Tensor, pairs: Tensor, fps: float
    ) -> None:
        """Add equation 13 for angles [B,T,P] where `pairs` [B,T-1] says that frames t and t+1
        both count."""
        for group in ("main", "all"):
            at = self._groups[group].to(coordinates.device)
            for of, values in (("", coordinates), ("_label", labels)):
                speed = values[..., at].diff(dim=1).abs() * (fps * 180 / math.pi)
                sums.add(f"mv_{group}{of}_deg_s", speed, pairs[..., None].expand_as(speed))

    def _length_errors(self, estimate: Estimate, target: Target) -> Tensor:
        """[n, bones] m: of the longest axis of each body that has one."""
        scales = self._head.measurements.body_scales
        found, label = (
            scales(factors.float(), self._skeleton)[..., self._bones, :]
            for factors in (estimate.factors, target.factors)
        )
        return ((found - label).abs() * self._lengths.to(found.device)).sum(-1)

    def _landmark_errors(self, estimate: Estimate, target: Target) -> Tensor:
        truth = Estimate(
            coordinates=target.coordinates,
            root_rotation=target.root_rotation,
            factors=target.factors,
        )
        at = self._landmarks.to(estimate.coordinates.device)
        found = self._head.pose(estimate).markers[:, at]
        return (found - self._head.pose(truth).markers[:, at]).norm(dim=-1)
