"""Small videos for tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def frame_image(index: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """Grey ramp whose brightness tells the frame; the upper left corner is red."""
    width, height = size
    image = np.full((height, width, 3), 40 + 8 * (index % 20), np.uint8)
    image[: height // 4, : width // 4] = (230, 20, 20)
    return image


def write_video(
    path: Path,
    count: int = 12,
    *,
    size: tuple[int, int] = (64, 48),
    fps: int = 10,
    codec: str = "libx264",
    rotation: int = 0,
    index_first: bool = False,
    times: list[int] | None = None,
    b_frames: int = 0,
) -> Path:
    """Encode `count` frames; `times` are presentation times in 1/1000 s."""
    options = {"movflags": "faststart"} if index_first else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"g": "4", "bf": str(b_frames)} if codec == "libx264" else {}
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(frame_image(index, size), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_off(path: Path, target: Path, part: float) -> Path:
    """The first `part` of a file's bytes."""
    content = path.read_bytes()
    target.write_bytes(content[: int(len(content) * part)])
    return target
