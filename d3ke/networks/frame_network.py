"""The per-frame network: one crop of a person to an estimate (paper, section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.networks.backbones import BACKBONES, build_backbone
from d3ke.networks.prediction import Estimate, PredictionHead, full_precision

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class FrameNetworkConfig:
    """Architecture of the per-frame network."""

    backbone: str = "resnext50_32x4d"
    """Convolutional backbone; resnext50_32x4d is the paper's, resnet18_half suits CPU cores."""
    image_size: int = 256
    """Side of the square crop in pixels; a multiple of 32."""
    weights: str = ""
    """Start of the backbone: "" random, "imagenet" (download), or the path of a state_dict."""

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise UnknownNameError("backbone", self.backbone, BACKBONES)
        if self.image_size < 32 or self.image_size % 32:
            raise InvalidInputError(
                f"image_size {self.image_size}", "not a positive multiple of 32 pixels"
            )


class FrameNetwork(nn.Module):
    """Backbone, one 1x1 convolution and the prediction head.

    As in the paper's code the activation is applied at every position of the feature map and
    the *activated* numbers are averaged, so that each position votes with a bounded weight.
    """

    def __init__(
        self, config: FrameNetworkConfig, head: PredictionHead, start: Estimate | None = None
    ) -> None:
        """Build the network.

        Args:
            config: architecture.
            head: what is predicted.
            start: estimate (without batch axes) that the untrained network gives for every
                image, e.g. the mean of the training labels: training need not find it first.
                None: the middle of every range and an upright person facing the camera.
        """
        super().__init__()
        self.config, self.head = config, head
        self.backbone, channels = build_backbone(config.backbone, config.weights)
        self.convolution = nn.Conv2d(channels, head.size, kernel_size=1)
        self._start_from(start if start is not None else _middle(head), channels)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    mean: Tensor
    std: Tensor

    @torch.no_grad()
    def _start_from(self, start: Estimate, channels: int) -> None:
        # Small but not zero, so that the backbone gets a gradient from the first step on.
        nn.init.normal_(self.convolution.weight, std=0.03 / channels**0.5)
        assert self.convolution.bias is not None
        self.convolution.bias.copy_(self.head.encode(start))

    def forward(self, images: Shaped[Tensor, "B 3 H W"]) -> Estimate:
        """Estimate every image on its own.

        Args:
            images: RGB crops, uint8 0 .. 255 or floating 0 .. 1, square, `image_size` pixels.

        Raises:
            InvalidInputError: another shape or type.
        """
        features = self.backbone(self.normalize(images))
        raw = self.convolution(features)
        with full_precision(raw):
            activated = self.head.activate(raw.float().flatten(2).transpose(1, 2))
            return self.head.decode_activated(activated.mean(dim=1))

    def normalize(self, images: Shaped[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Subtract ImageNet's mean and divide by its deviation, after checking the images."""
        size = self.config.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise InvalidInputError(
                f"images of shape {tuple(images.shape)}",
                f"this network takes [B, 3, {size}, {size}]",
                "Crop and resize first (d3ke.augmentation.center_crop).",
            )
        if images.dtype == torch.uint8:
            images = images.to(self.mean.dtype) / 255
        elif not images.is_floating_point():
            raise InvalidInputError(
                f"images of type {images.dtype}", "neither uint8 (0 .. 255) nor floating (0 .. 1)"
            )
        return (images - self.mean) / self.std


def _middle(head: PredictionHead) -> Estimate:
    """Middle of all ranges; camera axes are x right, y down, so an upright person is turned."""
    raw = torch.zeros(head.size)
    middle = head.decode_activated(raw + torch.eye(head.size)[0] + torch.eye(head.size)[4])
    # Facing the camera: pelvis x (forward) = -z of the camera, pelvis y (up) = -y.
    upright = torch.tensor([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
    return Estimate(middle.coordinates, upright, middle.factors)
