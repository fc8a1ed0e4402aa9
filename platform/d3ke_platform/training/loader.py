"""Encoded crops and labels -> batches of tensors on the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from d3ke.arrays import ImageArray, IntArray
from d3ke.errors import InvalidInputError
from d3ke.losses import Target
from d3ke_platform.training.samples import Samples


class FrameBatch(NamedTuple):
    """Crops with their margin, before augmentation."""

    images: Tensor
    """[B,3,Hs,Ws] uint8 RGB."""
    intrinsics: Tensor
    """[B,3,3] of the stored crops [px]."""
    target: Target


def decode_crop(jpeg: bytes) -> ImageArray:
    """JPEG bytes -> [H,W,3] RGB."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InvalidInputError("a crop", "its JPEG bytes cannot be decoded", "Prepare it again.")
    return image[:, :, ::-1]


class FrameLoader:
    """Decodes batches in threads, a few steps ahead of the network.

    Decoding releases Python's lock, so threads suffice and the encoded images exist once.
    """

    def __init__(
        self, samples: Samples, jpegs: list[bytes], device: torch.device, *, threads: int = 1
    ) -> None:
        self._samples, self._jpegs = samples, jpegs
        self._device, self._threads = device, threads

    def batches(self, steps: Iterable[IntArray]) -> Iterator[FrameBatch]:
        """Batches of the samples (rows of this loader's own samples) given for every step."""
        for batch in prefetch(self._read, steps, threads=self._threads):
            yield move(batch, self._device)

    def _read(self, rows: IntArray) -> FrameBatch:
        images = np.stack([decode_crop(self._jpegs[row]) for row in rows])
        samples = self._samples
        target = Target(
            coordinates=torch.from_numpy(samples.coordinates[rows]),
            coordinate_mask=torch.from_numpy(samples.coordinate_mask[rows]),
            factors=torch.from_numpy(samples.factors[rows]),
            root_rotation=torch.from_numpy(samples.root_rotation[rows]),
            marker_mask=torch.from_numpy(samples.marker_mask[rows]),
        )
        return FrameBatch(
            images=torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
            intrinsics=torch.from_numpy(samples.intrinsics[rows]),
            target=target,
        )


def move(batch: FrameBatch, device: torch.device) -> FrameBatch:
    """The batch on `device`."""

    def send(tensor: Tensor) -> Tensor:
        if device.type == "cuda":
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor

    labels: dict[str, Any] = {
        k: v if v is None else send(v) for k, v in batch.target._asdict().items()
    }
    target = Target(**labels)
    return FrameBatch(send(batch.images), send(batch.intrinsics), target)


def prefetch(
    read: Callable[[IntArray], FrameBatch], steps: Iterable[IntArray], *, threads: int
) -> Iterator[FrameBatch]:
    """Results of `read` in the order of `steps`, up to `threads + 1` of them computed ahead."""
    waiting: deque[Future[FrameBatch]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for rows in steps:
                waiting.append(pool.submit(read, rows))
                if len(waiting) > threads + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
