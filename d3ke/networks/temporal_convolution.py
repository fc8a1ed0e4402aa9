"""Temporal convolutional network over a sequence (paper, section 3.2)."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

KERNEL = 3


class TemporalConvolution(nn.Module):
    """Residual blocks of convolutions with dilation 1, 3, 9, ..., after VideoPose3D.

    The dense form of the paper's network: an output for every frame. The sequence is padded
    once, by repetition, so that frames near its ends see what a longer padding would show.
    The receptive field is the largest power of three within `window` (243 = 3^5: five blocks).
    """

    def __init__(self, features: int, *, width: int, window: int, dropout: float) -> None:
        super().__init__()
        self.dilations: list[int] = []
        while KERNEL ** (len(self.dilations) + 1) <= window:
            self.dilations.append(KERNEL ** len(self.dilations))
        self.expand = _convolution(features, width, self.dilations[0], dropout)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                _convolution(width, width, dilation, dropout),
                _convolution(width, width, 1, dropout, kernel=1),
            )
            for dilation in self.dilations[1:]
        )

    def forward(
        self, features: Float[Tensor, "B T F"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T W"]:
        """Mix features along time; frames that are not valid must be filled already."""
        reach = sum(self.dilations)
        mixed = F.pad(features.transpose(1, 2), (reach, reach), mode="replicate")
        mixed = self.expand(mixed)
        for dilation, block in zip(self.dilations[1:], self.blocks, strict=True):
            mixed = mixed[..., dilation:-dilation] + block(mixed)
        return mixed.transpose(1, 2)


def _convolution(
    inputs: int, outputs: int, dilation: int, dropout: float, kernel: int = KERNEL
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, kernel, dilation=dilation, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        nn.Dropout(dropout),
    )
