"""Image backbones: convolutional feature maps without pooling and classifier."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from d3ke.errors import InvalidInputError, UnknownNameError

RESNETS = ("resnet18", "resnet34", "resnet50", "resnext50_32x4d")
MOBILENETS = ("mobilenet_v3_small", "mobilenet_v3_large")
CONVNEXT, EFFICIENTNET = "convnext_tiny", "efficientnet_v2_s"
PUBLISHED = (*RESNETS, *MOBILENETS, CONVNEXT, EFFICIENTNET)
"""torchvision's, for which there are ImageNet weights."""
BACKBONES = ("resnet18_half", *PUBLISHED)
IMAGENET = "imagenet"


def build_backbone(name: str, weights: str = "") -> tuple[nn.Sequential, int]:
    """Build a backbone that maps images [B,3,H,W] to features [B,C,H/32,W/32].

    The paper uses resnext50_32x4d (section 2.1). Its reference code also has a half-finished
    "center striding" that shifts one of two branches by a pixel; it is left out on purpose.

    Args:
        name: one of `BACKBONES`.
        weights: "" for random weights, "imagenet" to download torchvision's, or the path of a
            state_dict (.pth, .safetensors) of the torchvision model of this name.

    Returns:
        The module and its number of output channels C.

    Raises:
        UnknownNameError: no such backbone.
        InvalidInputError: the weights cannot be downloaded, read or do not fit.
    """
    if name not in BACKBONES:
        raise UnknownNameError("backbone", name, BACKBONES)
    if name == "resnet18_half":
        backbone, channels = _half_width_resnet18()
    elif name in RESNETS:
        backbone, channels = _resnet(name)
    elif name in MOBILENETS:
        backbone, channels = _mobilenet(name)
    elif name == CONVNEXT:
        backbone, channels = _convnext(name)
    else:
        backbone, channels = _efficientnet(name)
    if weights:
        state = _imagenet_state(name) if weights == IMAGENET else _local_state(Path(weights))
        _load(backbone, state, f"weights {weights!r} of backbone {name}")
    return backbone, channels


def _half_width_resnet18() -> tuple[nn.Sequential, int]:
    """ResNet-18 with half the channels: 2.8 M parameters, for training on CPU cores."""
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False),
        bn1=nn.BatchNorm2d(32),
        relu=nn.ReLU(inplace=True),
        maxpool=nn.MaxPool2d(3, stride=2, padding=1),
    )
    channels = 32
    for index, width in enumerate((32, 64, 128, 256), start=1):
        stages[f"layer{index}"] = _stage(channels, width, stride=1 if index == 1 else 2)
        channels = width
    backbone = nn.Sequential(stages)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return backbone, channels


def _stage(channels: int, width: int, stride: int) -> nn.Sequential:
    """Two residual blocks; the first changes the resolution and the number of channels."""
    from torchvision.models.resnet import BasicBlock

    downsample = None
    if stride != 1 or channels != width:
        convolution = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
        downsample = nn.Sequential(convolution, nn.BatchNorm2d(width))
    return nn.Sequential(BasicBlock(channels, width, stride, downsample), BasicBlock(width, width))


def _resnet(name: str) -> tuple[nn.Sequential, int]:
    from torchvision.models import get_model

    model = get_model(name, weights=None)
    kept = [(key, module) for key, module in model.named_children() if key not in ("avgpool", "fc")]
    return nn.Sequential(OrderedDict(kept)), int(model.fc.in_features)


def _mobilenet(name: str) -> tuple[nn.Sequential, int]:
    from torchvision.models import get_model

    model = get_model(name, weights=None)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # torchvision's 0.01 is for ImageNet's many steps: on a small data set the running
            # statistics lag so far behind that evaluation is useless for the first epochs.
            module.momentum = 0.1
    return nn.Sequential(OrderedDict(features=model.features)), int(model.features[-1].out_channels)


def _convnext(name: str) -> tuple[nn.Sequential, int]:
    from torchvision.models import get_model

    model = get_model(name, weights=None)
    norm = model.classifier[0]  # belongs to the features: they come out of a residual sum
    kept = OrderedDict(features=model.features, classifier=nn.Sequential(norm))
    return nn.Sequential(kept), int(norm.weight.numel())


def _efficientnet(name: str) -> tuple[nn.Sequential, int]:
    from torchvision.models import get_model

    model = get_model(name, weights=None)
    return nn.Sequential(OrderedDict(features=model.features)), int(model.features[-1].out_channels)


def _imagenet_state(name: str) -> Mapping[str, Tensor]:
    from torchvision.models import get_model_weights

    if name == "resnet18_half":
        raise InvalidInputError(
            "ImageNet weights of resnet18_half",
            "nobody publishes them",
            f"Leave `weights` empty or choose a backbone of: {', '.join(PUBLISHED)}.",
        )
    # Version 1, as in the paper: version 2's recipe fine-tunes worse to regression.
    published = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return published.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InvalidInputError(
            f"ImageNet weights of {name}",
            f"the download of {published.url} failed ({error})",
            "Download the file elsewhere and give its path as `weights` (--frame.weights FILE).",
        ) from error


def _local_state(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise InvalidInputError(
            f"backbone weights {str(path)!r}",
            "no such file",
            f'`weights` (--frame.weights) is "", "{IMAGENET}" or the path of a state_dict.',
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Any damaged or foreign file ends here; the readers raise a dozen different types.
        raise InvalidInputError(
            f"backbone weights {str(path)!r}", f"not a readable state_dict ({error})"
        ) from error


def _load(backbone: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load all of the backbone; a classifier in the file is ignored, anything missing is not."""
    expected = backbone.state_dict()
    missing = [key for key in expected if key not in state and "num_batches" not in key]
    if missing:
        raise InvalidInputError(what, f"{len(missing)} arrays are missing, first {missing[0]!r}")
    wrong = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    if wrong:
        raise InvalidInputError(
            what, f"array {wrong[0]!r} has shape {tuple(state[wrong[0]].shape)}"
        )
    backbone.load_state_dict({key: state[key] for key in expected if key in state}, strict=False)
