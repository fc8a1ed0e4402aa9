"""The learnable filter: identity at the start, constants for ever, a mean if it wants."""

from __future__ import annotations

import torch

from d3ke.networks.smoothing import GAIN, Smoothing


def test_it_starts_as_the_identity() -> None:
    values = torch.randn(2, 11, 3)
    assert torch.equal(Smoothing(3, 5)(values), values)


def test_a_constant_series_stays() -> None:
    smoothing = Smoothing(3, 5)
    torch.nn.init.normal_(smoothing.weight)
    values = torch.randn(2, 1, 3).expand(2, 11, 3)
    torch.testing.assert_close(smoothing(values), values, atol=1e-4, rtol=0)


def test_equal_weights_are_a_moving_average_with_repeated_ends() -> None:
    smoothing = Smoothing(1, 3)
    torch.nn.init.constant_(smoothing.weight, 1 / 3 / GAIN)
    values = torch.tensor([0.0, 3.0, 6.0, 0.0]).view(1, 4, 1)
    expected = torch.tensor([1.0, 3.0, 3.0, 2.0]).view(1, 4, 1)
    torch.testing.assert_close(smoothing(values), expected)
