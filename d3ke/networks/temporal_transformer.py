"""Transformer over a sequence: the paper's vanilla and strided blocks, for every frame at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

QUERY_CHUNK = 512
"""Queries per attention call: bounds the memory of long recordings, changes no result."""


class TemporalTransformer(nn.Module):
    """Vanilla blocks, then strided blocks, after Li et al.'s lifting transformer (paper, 3.2).

    The paper runs one window of 243 frames per output frame; its strided blocks keep every
    3rd, 9th and 9th frame (243 -> 81 -> 9 -> 1) around the one in the middle. Here the same
    connections are laid out for all frames at once, as dilated convolutions do for strided
    ones: a frame attends to frames within half a window of it, in the strided blocks only to
    those a multiple of the product of the strides so far (1, 3, 27) away. That is one pass
    instead of T, and what a frame sees is centred on it, as in the paper. Sinusoidal positions
    are applied as rotations of queries and keys, so they too are relative to the frame.
    Attention ignores invalid frames.
    """

    def __init__(
        self,
        features: int,
        *,
        width: int,
        heads: int,
        layers: int,
        feed_forward: int,
        strides: tuple[int, ...],
        window: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(features, width)
        dilations, product = [1] * layers, 1
        for stride in strides:
            dilations.append(product)
            product *= stride
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, feed_forward, window // 2, dilation, dropout)
            for dilation in dilations
        )

    def forward(
        self, features: Float[Tensor, "B T F"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T W"]:
        """Mix features along time."""
        mixed = self.project(features)
        for block in self.blocks:
            mixed = block(mixed, valid)
        return mixed


class TransformerBlock(nn.Module):
    """Multi-head attention and a position-wise network, each with a residual and a LayerNorm."""

    def __init__(
        self, width: int, heads: int, feed_forward: int, reach: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        self.heads, self.reach, self.dilation = heads, reach, dilation
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(feed_forward, width),
        )
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, inputs: Float[Tensor, "B T W"], valid: Bool[Tensor, "B T"]
    ) -> Float[Tensor, "B T W"]:
        """Attend within reach, then transform every frame."""
        batch, frames, width = inputs.shape
        split = self.query_key_value(inputs).view(batch, frames, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        attended = banded_attention(
            rotate_by_position(query),
            rotate_by_position(key),
            value,
            valid,
            self.reach,
            self.dilation,
        )
        attended = self.output(attended.transpose(1, 2).reshape(batch, frames, width))
        mixed = self.attention_norm(inputs + self.dropout(attended))
        return self.feed_forward_norm(mixed + self.dropout(self.feed_forward(mixed)))


def rotate_by_position(values: Float[Tensor, "B H T D"]) -> Float[Tensor, "B H T D"]:
    """Rotate pairs of channels by sinusoids of the frame number.

    The product of two rotated vectors depends on the distance of their frames only, so a
    network trained on short windows holds on recordings of any length.
    """
    frames, half = values.shape[-2], values.shape[-1] // 2
    exponent = torch.arange(half, device=values.device, dtype=torch.float32) / half
    position = torch.arange(frames, device=values.device, dtype=torch.float32)
    angle = position[:, None] * 10_000.0**-exponent
    cosine, sine = angle.cos().to(values.dtype), angle.sin().to(values.dtype)
    first, second = values[..., :half], values[..., half:]
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


def banded_attention(
    query: Float[Tensor, "B H T D"],
    key: Float[Tensor, "B H T D"],
    value: Float[Tensor, "B H T D"],
    valid: Bool[Tensor, "B T"],
    reach: int,
    dilation: int,
) -> Float[Tensor, "B H T D"]:
    """Attention to valid frames at most `reach` away, at multiples of `dilation`.

    Every frame may attend to itself, valid or not: an empty row would be NaN.
    """
    frames = query.shape[-2]
    position = torch.arange(frames, device=query.device)
    chunks = []
    for start in range(0, frames, QUERY_CHUNK):
        stop = min(start + QUERY_CHUNK, frames)
        low, high = max(0, start - reach), min(frames, stop + reach)
        distance = position[start:stop, None] - position[None, low:high]
        near = (distance.abs() <= reach) & (distance % dilation == 0)
        mask = (near & valid[:, None, None, low:high]) | (distance == 0)
        chunks.append(
            F.scaled_dot_product_attention(
                query[..., start:stop, :], key[..., low:high, :], value[..., low:high, :], mask
            )
        )
    return torch.cat(chunks, dim=-2)
