"""Errors of estimates on the validation subjects."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from d3ke.losses import Target
from d3ke.networks.prediction import Estimate, PredictionHead
from d3ke.rotations import geodesic_angle
from d3ke.skeleton import PredictedSet, Skeleton
from d3ke_platform.training.error_sums import ErrorSums

METRICS = (
    "mae_all_deg",
    "mae_main_deg",
    "mae_legs_deg",
    "mpblpe_mm",
    "root_deg",
    "factor_mae",
    "mv_main_deg_s",
    "mv_main_label_deg_s",
)


class Validator:
    """Adds the errors of estimates to `ErrorSums`.

    Angle errors (mae_*_deg) count where the label mask allows; mpblpe_mm is the position error of
    the bony landmarks relative to the pelvis against the skeleton at the labels; root_deg the
    angle between root orientations; factor_mae the error of the measurement factors;
    mv_main_deg_s the mean angular speed (equation 13) and mv_main_label_deg_s that of the labels.
    """

    def __init__(self, head: PredictionHead, skeleton: Skeleton, predicted: PredictedSet) -> None:
        self._head = head
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
        sums.add("mpblpe_mm", self._landmark_errors(estimate, target) * 1000)
        angle = geodesic_angle(estimate.root_rotation, target.root_rotation)
        sums.add("root_deg", angle * (180 / math.pi))
        sums.add("factor_mae", (estimate.factors - target.factors).abs())

    def add_speeds(
        self, sums: ErrorSums, coordinates: Tensor, labels: Tensor, pairs: Tensor, fps: float
    ) -> None:
        """Add equation 13 for angles [B,T,P] where `pairs` [B,T-1] says that frames t and t+1
        both count."""
        at = self._groups["main"].to(coordinates.device)
        for name, values in (("mv_main_deg_s", coordinates), ("mv_main_label_deg_s", labels)):
            speed = values[..., at].diff(dim=1).abs() * (fps * 180 / math.pi)
            sums.add(name, speed, pairs[..., None].expand_as(speed))

    def _landmark_errors(self, estimate: Estimate, target: Target) -> Tensor:
        truth = Estimate(
            coordinates=target.coordinates,
            root_rotation=target.root_rotation,
            factors=target.factors,
        )
        at = self._landmarks.to(estimate.coordinates.device)
        found = self._head.pose(estimate).markers[:, at]
        return (found - self._head.pose(truth).markers[:, at]).norm(dim=-1)
