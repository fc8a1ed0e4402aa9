"""Training that starts from a finished model: weights of a bundle, parts held still.

The paper names transfer to other models and body parts as future work (section 5). The backbone
is taken over whole. Of the last layer, what a number means decides: its weights come along where
both models have a factor or coordinate of that name, whatever else they predict, so that the
skeleton can be another one or the coordinates a part of the bundle's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.networks.bundle import load_bundle
from d3ke.networks.frame_network import FrameNetwork
from d3ke.networks.prediction import ROOT_SIZE, PredictionHead


@dataclass(frozen=True)
class Transferred:
    """What of a network came from a bundle."""

    coordinates: tuple[str, ...]
    """Predicted coordinates whose weights were taken over."""
    factors: tuple[str, ...]
    """Measurement factors likewise."""


@torch.no_grad()
def start_from_bundle(network: FrameNetwork, folder: str | Path) -> Transferred:
    """Copies the bundle's backbone and the rows of its last layer for what both predict.

    A coordinate of the same name is taken to be the same angle; where its range differs, its last
    layer is adapted so that the middle of the estimates stays where it was.

    Raises:
        BundleError: the bundle cannot be read.
        InvalidInputError: another backbone, or nothing that both predict.
    """
    bundle = load_bundle(folder)
    source, ours = bundle.frame, network.config.backbone
    theirs = source.config.backbone
    if theirs != ours:
        raise InvalidInputError(
            f"bundle {str(folder)!r}",
            f"has backbone {theirs}, the settings say {ours}",
            f"Use --frame.backbone {theirs}.",
        )
    names, known = channel_names(network.head), channel_names(source.head)
    shared = [name for name in names if name in known]
    coordinates = tuple(n.removeprefix("angle ") for n in shared if n.startswith("angle "))
    if not coordinates:
        raise InvalidInputError(
            f"bundle {str(folder)!r}",
            "predicts none of the coordinates that are to be trained "
            f"({', '.join(network.head.predicted.coordinates[:4])}, ...)",
            f"It predicts {', '.join(source.head.predicted.coordinates[:4])}, ...; use a bundle "
            "of a model with the same names, or leave --frame.bundle out.",
        )
    network.backbone.load_state_dict(source.backbone.state_dict())
    rows = [names.index(name) for name in shared]
    other = [known.index(name) for name in shared]
    network.convolution.weight[rows] = source.convolution.weight[other]
    bias, their_bias = network.convolution.bias, source.convolution.bias
    assert bias is not None
    assert their_bias is not None
    bias[rows] = their_bias[other]
    _keep_middles(network, source, coordinates)
    return Transferred(
        coordinates, tuple(n.removeprefix("factor ") for n in shared if n.startswith("factor "))
    )


def _keep_middles(
    network: FrameNetwork, source: FrameNetwork, coordinates: tuple[str, ...]
) -> None:
    """Biases of shared coordinates, for the new ranges: the same angle from the same input."""
    for name in coordinates:
        new, old = (_range(head, name) for head in (network.head, source.head))
        if new == old:
            continue
        row = channel_names(network.head).index(f"angle {name}")
        other = channel_names(source.head).index(f"angle {name}")
        assert network.convolution.bias is not None
        assert source.convolution.bias is not None
        angle = old[0] + old[1] * (2 * torch.sigmoid(source.convolution.bias[other]) - 1)
        share = ((angle - new[0]) / max(new[1], 1e-9)).clamp(-0.99, 0.99)
        network.convolution.bias[row] = 2 * torch.atanh(share)
        network.convolution.weight[row] *= old[1] / max(new[1], 1e-9)


def _range(head: PredictionHead, name: str) -> tuple[float, float]:
    """Middle and half of a predicted coordinate's range, rad."""
    at = head.predicted.coordinates.index(name)
    return float(head.coordinate_middle[at]), float(head.coordinate_half_range[at])


def channel_names(head: PredictionHead) -> list[str]:
    """What each number of a network means: six of the root, factors, angles."""
    return [
        *(f"root {index}" for index in range(ROOT_SIZE)),
        *(f"factor {name}" for name in head.measurements.names),
        *(f"angle {name}" for name in head.predicted.coordinates),
    ]


def freeze(module: nn.Module, parts: Sequence[str]) -> None:
    """Holds the parameters below the named parts still, "backbone.layer1" for instance.

    Their normalisation statistics stand still as well, see `hold_statistics`.

    Raises:
        UnknownNameError: a name that is no part of the network.
    """
    named = dict(module.named_modules())
    for part in parts:
        if part not in named or not part:
            tops = [name for name in named if name and name.count(".") < 2]
            raise UnknownNameError("part of the network", part, tops)
        named[part].requires_grad_(False)
    if not any(p.requires_grad for p in module.parameters()):
        raise InvalidInputError(
            "frame.freeze", f"{', '.join(parts)} leave nothing to train", "Name fewer parts."
        )


def hold_statistics(module: nn.Module) -> None:
    """Puts frozen batch-norm layers into evaluation mode; call it after `module.train()`."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not any(
            parameter.requires_grad for parameter in layer.parameters()
        ):
            layer.eval()
