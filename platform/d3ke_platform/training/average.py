"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """A copy of a network whose weights trail the trained ones.

    The decay grows as (1 + n) / (10 + n) up to its limit, so that the first, random weights are
    soon forgotten. Buffers (batch-norm statistics) are averages already and are copied.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the copy towards `module`."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages: list[Tensor] = list(self.module.parameters())
        values: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(averages, values, 1 - decay)
        self.copy_buffers(module)

    @torch.no_grad()
    def copy_buffers(self, module: nn.Module) -> None:
        """Take over the buffers of `module`."""
        for average, value in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(value)

    def state(self) -> dict[str, Tensor]:
        """Weights and buffers of the copy."""
        return self.module.state_dict()
