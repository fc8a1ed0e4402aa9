"""Per-frame estimates: crops through the per-frame network, in batches on the device."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from d3ke.arrays import FloatArray, ImageArray
from d3ke.augmentation import center_crop
from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.schema import CROPS, ESTIMATES
from d3ke_platform.telemetry import DeviceBusy

if TYPE_CHECKING:
    from d3ke.networks import FrameNetwork


class EstimateArrays(NamedTuple):
    """A network's estimate as NumPy arrays; the fields are those of `d3ke.networks.Estimate`."""

    coordinates: FloatArray
    """[n,P] rad."""
    root_rotation: FloatArray
    """[n,3,3] pelvis -> crop camera."""
    factors: FloatArray
    """[n,S] measurement factors."""


class FrameEstimator:
    """The per-frame network of a bundle, ready to be called with crops."""

    def __init__(
        self,
        bundle_folder: str | Path,
        *,
        device: str = "auto",
        batch_size: int = 64,
        precision: str = "fp32",
    ) -> None:
        """Load the bundle.

        Args:
            bundle_folder: Folder written by `d3ke.networks.save_bundle`.
            device: "auto" (CUDA when there is one), or a torch device name.
            batch_size: Crops per forward pass.
            precision: fp32, or bf16 for the backbone; angles are computed in fp32 either way.
        """
        from d3ke.networks.bundle import load_bundle

        if batch_size < 1:
            raise InvalidInputError("batch_size", f"is {batch_size}, must be 1 or more")
        self.bundle = load_bundle(Path(bundle_folder))
        self.device = choose_device(device)
        self.batch_size = batch_size
        self.crop = CropGeometry.of_bundle(self.bundle)
        self._network = inference_network(self.bundle.frame.to(self.device))
        self._autocast = precision == "bf16"
        self._busy = DeviceBusy("estimate", self.device.type)

    def estimate(self, images: ImageArray) -> EstimateArrays:
        """Estimate every crop on its own.

        Both kinds of crop are centred on the optical axis, and the estimate is in the crop
        camera's axes, so that no camera is needed.

        Args:
            images: [n,H,W,3] uint8 RGB, as stored (with margin) or exactly what the network sees.

        Raises:
            InvalidInputError: not that type or shape.
        """
        check_images(images)
        with self._busy:
            parts = [
                self.finish(self.start(images[start : start + self.batch_size]))
                for start in range(0, len(images), self.batch_size)
            ]
        if not parts:
            return self._nothing()
        return EstimateArrays(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def start(self, images: ImageArray) -> Any:
        """Start on one batch; on a GPU it only goes into its queue, for `finish` to wait for."""
        batch = torch.from_numpy(np.ascontiguousarray(images))
        if self.device.type == "cuda":
            batch = batch.pin_memory()
        with torch.inference_mode(), self._precision():
            crops = batch.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
            return self._network(self.crop.seen(crops))

    def finish(self, estimate: Any) -> EstimateArrays:
        """Wait for what `start` has started."""
        return EstimateArrays(*(_numpy(value) for value in estimate))

    def _precision(self) -> AbstractContextManager[Any]:
        if not self._autocast:
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _nothing(self) -> EstimateArrays:
        predicted = len(self.bundle.head.predicted.coordinates)
        factors = len(self.bundle.head.measurements.names)
        return EstimateArrays(np.zeros((0, predicted)), np.zeros((0, 3, 3)), np.zeros((0, factors)))


class CropGeometry:
    """How large a stored crop is, and which part of it the network sees."""

    def __init__(
        self, *, image_size: int, stored_size: int, field_of_view: float, margin: float
    ) -> None:
        self.image_size = image_size
        """Side of the network's input, px."""
        self.stored_size = stored_size
        """Side of a stored crop, px."""
        self.field_of_view = field_of_view
        """Side of what the network sees, in longer box sides."""
        self.margin = margin
        """Side of a stored crop, in sides of what the network sees."""

    @classmethod
    def of_bundle(cls, bundle: Any) -> CropGeometry:
        """Geometry that the bundle was trained with."""
        crop = bundle.config.get("crop", {})
        missing = [name for name in ("stored_size", "field_of_view", "margin") if name not in crop]
        if missing:
            raise InvalidInputError(
                f"model bundle {bundle.folder}",
                f"its config.json does not say how to crop (crop.{missing[0]})",
                "Train it again, or add the numbers of its data set's dataset.json.",
            )
        return cls(
            image_size=bundle.frame.config.image_size,
            stored_size=int(crop["stored_size"]),
            field_of_view=float(crop["field_of_view"]),
            margin=float(crop["margin"]),
        )

    @property
    def cut_size(self) -> int:
        """Side of the part of a stored crop that has to be cut out for the network: what it sees,
        where that is pixels of the stored crop, else all of it [px]."""
        margin = self.stored_size - self.image_size
        fits = abs(self.stored_size / self.margin - self.image_size) < 0.5
        return self.image_size if margin >= 0 and margin % 2 == 0 and fits else self.stored_size

    @property
    def stored_field_of_view(self) -> float:
        """Side of a stored crop, in longer box sides: `margin` of `d3ke.camera.crop_camera`."""
        return self.field_of_view * self.margin

    def seen(self, images: Tensor) -> Tensor:
        """The middle of stored crops [n,3,H,W] at the network's size; exact size passes through."""
        side = images.shape[-1]
        if side != self.stored_size:
            if side == self.image_size:
                return images
            raise InvalidInputError(
                "crops",
                f"are {side} px wide, must be {self.stored_size} (stored, with margin) or "
                f"{self.image_size} (what the network sees)",
            )
        return center_crop(images, self.image_size, self.margin)


class EstimateCrops:
    """Stage: the CROPS table of a recording -> its ESTIMATES table."""

    name = "estimate"

    def __init__(self, bundle_folder: str, *, device: str = "auto", batch_size: int = 64) -> None:
        self._estimator = FrameEstimator(bundle_folder, device=device, batch_size=batch_size)

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: recording_id, crops_uri, estimates_uri; a finished recording is left alone."""
        began = time.perf_counter()
        recording_id = item["recording_id"]
        if storage.exists(item["estimates_uri"]):
            frames = storage.read_table(item["estimates_uri"], ["frame"]).num_rows
            return [{"recording_id": recording_id, "frames": frames, "seconds": 0.0}]
        crops = CROPS.to_numpy(storage.read_table(item["crops_uri"]))
        images = _decode_jpegs(crops["jpeg"], self._estimator.crop.stored_size)
        estimate = self._estimator.estimate(images)
        columns = {name: crops[name] for name in CROP_COLUMNS}
        columns["confidence"] = np.ones(len(images))
        dims = bundle_dims(self._estimator.bundle)
        table = estimates_table(recording_id, estimate, columns, dims)
        storage.write_table(item["estimates_uri"], table)
        seconds = time.perf_counter() - began
        return [{"recording_id": recording_id, "frames": len(images), "seconds": seconds}]


CROP_COLUMNS = ("frame", "time_s", "box", "crop_intrinsics", "crop_rotation", "crop_translation")
"""Columns that estimates take over from the crops."""


def estimates_table(
    recording_id: str,
    estimate: EstimateArrays,
    columns: Mapping[str, np.ndarray],
    dims: Mapping[str, int],
    *,
    person: int | np.ndarray = 0,
) -> pa.Table:
    """ESTIMATES rows of one recording.

    Args:
        recording_id: The recording.
        estimate: n rows.
        columns: `CROP_COLUMNS` and "confidence", n rows each.
        dims: Sizes of the symbolic dimensions.
        person: Number of the person in the recording, for all rows or [n].
    """
    rows = len(columns["frame"])
    data: dict[str, Any] = {name: columns[name] for name in (*CROP_COLUMNS, "confidence")}
    data |= {
        "recording_id": [recording_id] * rows,
        "person": np.broadcast_to(np.asarray(person, np.int32), rows),
        "coordinates": estimate.coordinates,
        "root_rotation": estimate.root_rotation,
        "measurement_factors": estimate.factors,
    }
    return ESTIMATES.to_arrow(data, dims)


def bundle_dims(bundle: Any) -> dict[str, int]:
    """Sizes of the tables' symbolic dimensions for a bundle."""
    skeleton, head = bundle.skeleton, bundle.head
    return {
        "Q": len(skeleton.coordinates),
        "P": len(head.predicted.coordinates),
        "N": len(skeleton.bodies),
        "J": len(skeleton.joints),
        "M": len(skeleton.markers),
        "S": len(head.measurements.names),
    }


def inference_network(network: FrameNetwork) -> FrameNetwork:
    """The same network for inference: batch normalisation is folded into the convolutions before
    it, and pictures are laid out as vector units like them."""
    from torch.fx.experimental.optimization import fuse

    network = network.eval()
    # A graph module, which is called like the sequence of layers that it comes from.
    network.backbone = fuse(network.backbone).eval()  # type: ignore[assignment]
    return network.to(memory_format=torch.channels_last)


def choose_device(name: str) -> torch.device:
    """Torch device of a setting: "auto" is CUDA when there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInputError("device", f"{name!r} is not one", "Try auto, cpu, cuda.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError("device", f"no CUDA device for {name!r}", "Try --device cpu.")
    return device


def check_images(images: ImageArray) -> None:
    """Raises InvalidInputError for anything but square RGB pictures."""
    shape = images.shape
    if images.dtype != np.uint8 or images.ndim != 4 or shape[1] != shape[2] or shape[3] != 3:
        raise InvalidInputError(
            "crops", f"are {images.dtype} {shape}, must be uint8 [n,H,H,3] (RGB, square)"
        )


def _decode_jpegs(jpegs: np.ndarray, size: int) -> ImageArray:
    """JPEG bytes [n] -> RGB [n,size,size,3]."""
    images = np.empty((len(jpegs), size, size, 3), np.uint8)
    for index, jpeg in enumerate(jpegs):
        image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        if image is None or image.shape[:2] != (size, size):
            raise InvalidInputError(f"crop {index}", f"is not a JPEG picture of {size} px")
        images[index] = image[:, :, ::-1]
    return images


def _numpy(tensor: Tensor) -> FloatArray:
    return tensor.detach().double().cpu().numpy()
