"""Person boxes from torchvision's Faster R-CNN, the paper's detector."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pickle import UnpicklingError
from typing import Any
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor

from d3ke.errors import InvalidInputError
from d3ke_platform.stages.decode import Frame
from d3ke_platform.stages.detect import Detection
from d3ke_platform.stages.estimate import choose_device

_PERSON = 1
_MINIMUM_SCORE = 0.8


class FasterRCNNDetector:
    """The person of highest score, frame by frame (COCO classes, ResNet-50 with FPN)."""

    name = "fasterrcnn"
    smooth = True
    every_frame = False

    def __init__(self, weights: str = "", *, device: str = "auto", batch_size: int = 4) -> None:
        """Load the network.

        Args:
            weights: Local state dict of torchvision's fasterrcnn_resnet50_fpn; "" downloads
                torchvision's COCO weights.
            device: "auto", "cpu" or "cuda".
            batch_size: Frames per forward pass.

        Raises:
            InvalidInputError: weights that cannot be downloaded or do not fit.
        """
        self._device = choose_device(device)
        self._batch_size = batch_size
        self._network = _load(weights).to(self._device).eval()

    def boxes(self, frames: Iterable[Frame]) -> list[Detection | None]:
        """Boxes of one video."""
        found: list[Detection | None] = []
        remaining = iter(frames)
        while batch := list(islice(remaining, self._batch_size)):
            found += [best_person(result) for result in self._detect(batch)]
        return found

    def people(self, frame: Frame) -> list[Detection]:
        """Everybody in one frame."""
        return persons(self._detect([frame])[0])

    def _detect(self, batch: list[Frame]) -> list[dict[str, Tensor]]:
        images = [
            torch.from_numpy(frame.image).to(self._device).permute(2, 0, 1).float() / 255
            for frame in batch
        ]
        with torch.inference_mode():
            return list(self._network(images))


def persons(result: dict[str, Tensor]) -> list[Detection]:
    """The persons of at least the least score, best first."""
    wanted = (result["labels"] == _PERSON) & (result["scores"] >= _MINIMUM_SCORE)
    boxes = result["boxes"][wanted].double().cpu().numpy()
    scores = result["scores"][wanted].double().cpu().numpy()
    # torchvision measures from the corner of the first pixel, boxes from its centre.
    found = [Detection(np.asarray(b - 0.5), float(s)) for b, s in zip(boxes, scores, strict=True)]
    return sorted(found, key=lambda item: -item.confidence)


def best_person(result: dict[str, Tensor]) -> Detection | None:
    """The detection of highest score among the persons; None below the least score."""
    return next(iter(persons(result)), None)


def _load(weights: str) -> Any:
    from torchvision.models.detection import (
        FasterRCNN_ResNet50_FPN_Weights,
        fasterrcnn_resnet50_fpn,
    )

    if not weights:
        try:
            return fasterrcnn_resnet50_fpn(weights=FasterRCNN_ResNet50_FPN_Weights.COCO_V1)
        except (URLError, OSError, RuntimeError) as error:
            raise InvalidInputError(
                "Faster R-CNN weights",
                f"cannot be downloaded ({error})",
                "Give a local file by --detector-weights.",
            ) from error
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        network = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
        network.load_state_dict(state)
    except (OSError, RuntimeError, TypeError, EOFError, UnpicklingError) as error:
        raise InvalidInputError(
            f"--detector-weights {weights}",
            f"is no state dict of fasterrcnn_resnet50_fpn ({type(error).__name__})",
        ) from error
    return network
