"""Sequence network: identity start, masks, every kind, learning."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from network_fixtures import full_body_head, random_estimate, target_of

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.losses import LossWeights, d3ke_loss
from d3ke.networks import Estimate, SequenceNetwork, SequenceNetworkConfig
from d3ke.networks.sequence_network import repeat_valid
from d3ke.networks.temporal_transformer import banded_attention, rotate_by_position

KINDS = ("transformer", "lstm", "tcn")


def build(kind: str, **settings: object) -> SequenceNetwork:
    torch.manual_seed(0)
    config = SequenceNetworkConfig(
        kind=kind,
        **{"window": 9, "width": 32, "heads": 4, "layers": 2, "strides": (3, 3)} | settings,
    )
    return SequenceNetwork(config, full_body_head()).eval()


def awaken(network: SequenceNetwork) -> SequenceNetwork:
    """Give the zero output layer values, so that the output depends on the rest."""
    torch.nn.init.normal_(network.output.weight, std=0.1)
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_starts_as_the_identity(kind: str) -> None:
    estimate = random_estimate(2, 12)
    refined = build(kind)(estimate, torch.ones(2, 12, dtype=torch.bool))
    for before, after in zip(estimate, refined, strict=True):
        torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 7, 30])
def test_any_length_gives_an_output_for_every_frame(kind: str, frames: int) -> None:
    estimate = random_estimate(1, frames)
    refined = awaken(build(kind))(estimate, torch.ones(1, frames, dtype=torch.bool))
    assert [tuple(x.shape) for x in refined] == [tuple(x.shape) for x in estimate]
    assert all(x.isfinite().all() for x in refined)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str) -> None:
    network = awaken(build(kind))
    estimate = random_estimate(1, 12)
    short = network(estimate, torch.ones(1, 12, dtype=torch.bool))
    garbage = random_estimate(1, 8, seed=9)
    padded = Estimate(*(torch.cat(pair, dim=1) for pair in zip(estimate, garbage, strict=True)))
    nan = torch.full_like(padded.coordinates[:, 12:], float("nan"))
    padded = padded._replace(coordinates=torch.cat([padded.coordinates[:, :12], nan], dim=1))
    valid = torch.arange(20)[None] < 12
    long = network(padded, valid)
    for first, second in zip(short, long, strict=True):
        torch.testing.assert_close(second[:, :12], first, atol=1e-5, rtol=0)
        assert second.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_future_counts(kind: str) -> None:
    network = awaken(build(kind))
    estimate = random_estimate(1, 9)
    changed = Estimate(*(values.clone() for values in estimate))
    changed.coordinates[:, 8] = random_estimate(1, 9, seed=5).coordinates[:, 8]
    valid = torch.ones(1, 9, dtype=torch.bool)
    first, second = network(estimate, valid), network(changed, valid)
    assert (first.coordinates - second.coordinates)[:, 6].abs().max() > 1e-6


@pytest.mark.parametrize(("kind", "reach"), [("tcn", 4), ("transformer", 4)])
def test_one_block_sees_half_a_window(kind: str, reach: int) -> None:
    settings = {"layers": 1, "strides": ()} if kind == "transformer" else {}
    network = awaken(build(kind, **settings))
    estimate = random_estimate(1, 21)
    changed = Estimate(*(values.clone() for values in estimate))
    changed.coordinates[:, 10] = random_estimate(1, 21, seed=5).coordinates[:, 10]
    valid = torch.ones(1, 21, dtype=torch.bool)
    difference = network(estimate, valid).coordinates - network(changed, valid).coordinates
    touched = torch.nonzero(difference[0].abs().amax(dim=1) > 1e-7).flatten()
    assert (touched.min(), touched.max()) == (10 - reach, 10 + reach)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("residual", [True, False])
def test_every_parameter_gets_a_gradient(kind: str, residual: bool) -> None:
    network = awaken(build(kind, residual=residual)).train()
    estimate, valid = random_estimate(2, 12), torch.ones(2, 12, dtype=torch.bool)
    target = target_of(random_estimate(2, 12, seed=1))
    weights = LossWeights(velocity=1.0, root=0.01)
    d3ke_loss(network.head, network(estimate, valid), target, weights)["total"].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_tiny_batch_is_learnt_by_heart() -> None:
    network = build("transformer", width=64).train()
    label = random_estimate(1, 6, seed=1, spread=0.5)
    noisy = random_estimate(1, 6, seed=2, spread=0.5)
    valid = torch.ones(1, 6, dtype=torch.bool)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(90):
        loss = d3ke_loss(network.head, network(noisy, valid), target_of(label), LossWeights())
        optimizer.zero_grad()
        loss["total"].backward()
        optimizer.step()
        losses.append(loss["total"].item())
    assert losses[-1] < losses[0] / 10, losses[::10]


@pytest.mark.parametrize(
    ("kind", "published"), [("transformer", 3_370_492), ("lstm", 1_536_638), ("tcn", 18_666_622)]
)
def test_default_sizes_are_about_the_papers(kind: str, published: int) -> None:
    """Ours reads 51 factors of measurements where the paper's network reads 144 scales."""
    network = SequenceNetwork(SequenceNetworkConfig(kind=kind), full_body_head())
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(published, rel=0.08)


def test_repetition_fills_gaps_and_ends() -> None:
    values = torch.arange(6.0)[None, :, None]
    estimate = Estimate(values, values[..., None], values)
    valid = torch.tensor([[False, True, True, False, True, False]])
    filled = repeat_valid(estimate, valid)
    assert filled.coordinates[0, :, 0].tolist() == [1, 1, 2, 2, 4, 4]


def test_banded_attention_against_plain_attention(monkeypatch) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 40, 8)
    valid = torch.rand(2, 40) > 0.2
    position = torch.arange(40)
    distance = (position[:, None] - position[None]).abs()
    allowed = (distance <= 12) & (distance % 3 == 0) & valid[:, None, None] | (distance == 0)
    expected = F.scaled_dot_product_attention(query, key, value, allowed)
    monkeypatch.setattr("d3ke.networks.temporal_transformer.QUERY_CHUNK", 7)
    got = banded_attention(query, key, value, valid, reach=12, dilation=3)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_positions_are_relative() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8).expand(2, 1, 1, 30, 8)
    scores = rotate_by_position(query) @ rotate_by_position(key).mT
    torch.testing.assert_close(scores[..., 3, 7], scores[..., 20, 24])
    assert (scores[..., 3, 7] - scores[..., 3, 9]).abs() > 1e-3


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="transformer, lstm, tcn"):
        SequenceNetworkConfig(kind="gru")
    with pytest.raises(InvalidInputError, match="odd"):
        SequenceNetworkConfig(window=10)
    with pytest.raises(InvalidInputError, match="heads"):
        SequenceNetworkConfig(width=30)
    with pytest.raises(InvalidInputError, match="dropout"):
        SequenceNetworkConfig(dropout=1.5)


def test_long_recordings_are_described_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    network = awaken(build("transformer"))
    estimate, valid = random_estimate(2, 30), torch.ones(2, 30, dtype=torch.bool)
    with torch.no_grad():
        whole = network(estimate, valid)
        monkeypatch.setattr("d3ke.networks.sequence_network.FEATURE_FRAMES", 7)
        pieces = network(estimate, valid)
    for first, second in zip(whole, pieces, strict=True):
        torch.testing.assert_close(second, first, atol=1e-5, rtol=0)
