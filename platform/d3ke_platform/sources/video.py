"""Writing videos: H.264 in MP4, near lossless, deterministic."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from d3ke.errors import InvalidInputError

QUALITY_CRF = 18


class VideoWriter:
    """Writes RGB frames to an .mp4 file; a context manager.

    The file appears under its name when the block ends without an error, and not at all
    otherwise. The same frames give the same bytes.
    """

    def __init__(
        self, path: Path, *, size: tuple[int, int], fps: float, crf: int = QUALITY_CRF
    ) -> None:
        """`size` is width and height, px: InvalidInputError when one is odd, for H.264 halves
        them for colour. `fps` may be fractional; `crf` 0 is lossless, 18 looks it."""
        if size[0] % 2 or size[1] % 2 or min(size) < 2:
            raise InvalidInputError(f"video {path.name}", f"size {size} px must be even")
        if not fps > 0:
            raise InvalidInputError(f"video {path.name}", f"{fps} frames per second")
        self.frame_count = 0
        self._path, self._size = path, size
        self._rate = Fraction(fps).limit_denominator(100_000)
        self._crf = crf

    def __enter__(self) -> VideoWriter:
        import av

        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self._path.with_name(f".{self._path.stem}.{os.getpid()}.mp4")
        self._container = av.open(str(self._partial), "w", format="mp4")
        # The same bytes every time need one thread, and no B-frames: choosing them, x264's vector
        # code reads memory that was never written.
        options = {"crf": str(self._crf), "preset": "veryfast", "threads": "1", "bf": "0"}
        self._stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        self._stream.width, self._stream.height = self._size
        self._stream.pix_fmt = "yuv420p"
        return self

    def write(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Append one RGB frame; raises InvalidInputError when its size is another."""
        import av

        if (frame.shape[1], frame.shape[0]) != self._size:
            raise InvalidInputError(
                f"video {self._path.name}", f"frame {frame.shape}, size {self._size}"
            )
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        self._container.mux(self._stream.encode(picture))
        self.frame_count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self.frame_count == 0:
                raise InvalidInputError(f"video {self._path.name}", "there are no frames")
            if kind is None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if kind is None:
                os.replace(self._partial, self._path)
        finally:
            self._partial.unlink(missing_ok=True)
