"""Encoded crops out of the files of a data set. Imports no PyTorch: readers of crops need none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from d3ke.arrays import ImageArray, IntArray
from d3ke.errors import InvalidInputError
from d3ke_platform.storage import group_sizes, read_rows

_READERS = 8
"""Files that are read at once."""


@dataclass(frozen=True, kw_only=True)
class CropTable:
    """Where the crops of numbered samples lie; samples are ordered by recording and row."""

    uris: tuple[str, ...]
    """CROPS table of every recording."""
    recording: IntArray
    """[n] which of them."""
    row: IntArray
    """[n] row in it."""

    def read(self, samples: IntArray) -> list[bytes]:
        """Encoded crops of samples [k], in their order.

        Raises:
            InvalidInputError: a file cannot be read.
        """
        images: list[bytes] = [b""] * len(samples)
        order = np.argsort(self.recording[samples], kind="stable")
        recordings, firsts = np.unique(self.recording[samples[order]], return_index=True)

        def fetch(recording: int, places: IntArray) -> None:
            rows = self.row[samples[places]]
            column = read_rows(self.uris[recording], ["jpeg"], rows).column("jpeg")
            for place, image in zip(places, column, strict=True):
                images[place] = image.as_py()

        # Object stores answer after a while, to many requests at once.
        with ThreadPoolExecutor(_READERS, thread_name_prefix="crops") as pool:
            list(pool.map(fetch, recordings.tolist(), np.split(order, firsts[1:])))
        return images

    def shard_sizes(self) -> IntArray:
        """Samples [shards] of every shard: the samples of one row group of one recording.

        One look at the end of every file.
        """
        bounds = np.searchsorted(self.recording, np.arange(len(self.uris) + 1))

        def count(recording: int) -> IntArray:
            rows = self.row[bounds[recording] : bounds[recording + 1]]
            ends = np.cumsum(group_sizes(self.uris[recording]))
            return np.bincount(np.searchsorted(ends, rows, side="right"), minlength=len(ends))

        with ThreadPoolExecutor(_READERS, thread_name_prefix="crops") as pool:
            sizes = np.concatenate(list(pool.map(count, range(len(self.uris)))))
        return sizes[sizes > 0]


def decode_crop(jpeg: bytes) -> ImageArray:
    """JPEG bytes -> [H,W,3] RGB."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InvalidInputError("a crop", "its JPEG bytes cannot be decoded", "Prepare it again.")
    return image[:, :, ::-1]


def decode_crops(jpegs: list[bytes]) -> ImageArray:
    """JPEG bytes of n crops of one size -> [n,3,H,W] RGB, contiguous."""
    first = decode_crop(jpegs[0])
    images = np.empty((len(jpegs), 3, *first.shape[:2]), np.uint8)
    images[0] = first.transpose(2, 0, 1)
    for place, jpeg in enumerate(jpegs[1:], start=1):
        images[place] = decode_crop(jpeg).transpose(2, 0, 1)
    return images
