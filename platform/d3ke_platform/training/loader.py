"""Encoded crops and labels -> batches of tensors on the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from d3ke.arrays import ImageArray, IntArray
from d3ke.draws import Draws
from d3ke.losses import Target
from d3ke_platform.training.crop_files import decode_crops
from d3ke_platform.training.samples import Samples

Item = TypeVar("Item")
Result = TypeVar("Result")
ReadCrops = Callable[[IntArray], list[bytes]]
"""Encoded crops of rows [b] of a loader's samples."""


class FrameBatch(NamedTuple):
    """Crops with their margin, before augmentation."""

    images: Tensor
    """[B,3,Hs,Ws] uint8 RGB."""
    intrinsics: Tensor
    """[B,3,3] of the stored crops [px]."""
    target: Target
    draws: Draws | None = None
    """Random numbers of its augmentation."""


class FrameLoader:
    """Decodes batches in threads, a few steps ahead of the network.

    Decoding releases Python's lock, so threads suffice and the encoded images exist once.
    """

    def __init__(self, samples: Samples, device: torch.device, *, threads: int = 1) -> None:
        self._samples, self._device, self._threads = samples, device, threads

    def batches(self, steps: Iterable[IntArray], read: ReadCrops) -> Iterator[FrameBatch]:
        """Batches of the samples (rows of this loader's own samples) given for every step."""

        def load(rows: IntArray) -> FrameBatch:
            return self._batch(rows, decode_crops(read(rows)))

        for batch in prefetch(load, steps, threads=self._threads):
            yield move(batch, self._device)

    def decoded(self, shares: Iterable[tuple[IntArray, ImageArray]]) -> Iterator[FrameBatch]:
        """Batches of samples [b] that come with their pictures [b,3,H,W]."""
        for rows, images in shares:
            yield move(self._batch(rows, images), self._device)

    def _batch(self, rows: IntArray, images: ImageArray) -> FrameBatch:
        samples = self._samples
        target = Target(
            coordinates=torch.from_numpy(samples.coordinates[rows]),
            coordinate_mask=torch.from_numpy(samples.coordinate_mask[rows]),
            factors=torch.from_numpy(samples.factors[rows]),
            root_rotation=torch.from_numpy(samples.root_rotation[rows]),
            marker_mask=torch.from_numpy(samples.marker_mask[rows]),
        )
        # Pictures out of shared memory are read-only, which PyTorch has no notion of.
        pictures = images if images.flags.writeable else images.copy()
        return FrameBatch(
            images=torch.from_numpy(pictures),
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
    make: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int | None = None,
) -> Iterator[Result]:
    """Results of `make` in the order of `items`, made in threads; up to `ahead` of them (threads
    + 1) before they are asked for."""
    most = threads + 1 if ahead is None else ahead
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="prefetch") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
