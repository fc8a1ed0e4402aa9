"""A learnable low-pass filter per channel: the cheap half of what a sequence network does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

GAIN = 10.0
"""Filter taps per unit of parameter. Taps end near 0.1 .. 0.3; at the learning rate of the other
layers (1e-3) they would need hundreds of steps to get there."""


class Smoothing(nn.Module):
    """y_t = x_t + sum_k w_k (x_{t+k} - x_t), weights per channel, zero at the start.

    It starts as the identity and, whatever it learns, leaves a constant series alone.
    """

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.taps = taps
        self.weight = nn.Parameter(torch.zeros(channels, 1, taps))

    def forward(self, values: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Filter along time; the ends are continued by repetition."""
        series = values.transpose(1, 2)
        weight = GAIN * self.weight
        padded = F.pad(series, (self.taps // 2, self.taps // 2), mode="replicate")
        neighbours = F.conv1d(padded, weight, groups=len(weight))
        return (series + neighbours - weight.sum(dim=-1) * series).transpose(1, 2)
