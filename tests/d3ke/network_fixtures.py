"""Shared by the tests of networks and losses: the built-in head and random estimates."""

from __future__ import annotations

from functools import cache

import torch

from d3ke.losses import Target
from d3ke.networks import Estimate, PredictionHead
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton


@cache
def full_body_head() -> PredictionHead:
    return PredictionHead(
        Skeleton.full_body(), MeasurementSet.full_body(), PredictedSet.full_body()
    )


def random_estimate(*shape: int, seed: int = 0, spread: float = 1.0) -> Estimate:
    head = full_body_head()
    generator = torch.Generator().manual_seed(seed)
    raw = spread * torch.randn(*shape, head.size, generator=generator)
    return head.decode(raw.clamp(-7, 7))  # `encode` clamps beyond


def target_of(estimate: Estimate) -> Target:
    mask = torch.ones_like(estimate.coordinates, dtype=torch.bool)
    return Target(estimate.coordinates, mask, estimate.factors, estimate.root_rotation)
