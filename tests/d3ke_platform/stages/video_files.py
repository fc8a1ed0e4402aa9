"""Small videos for tests."""

from __future__ import annotations

from collections.abc import Sequence
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
    times: Sequence[int] | None = None,
    b_frames: int = 0,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
) -> Path:
    """Encode `count` frames; `times` are presentation times in 1/1000 s, `tags` the stream's."""
    muxing = {"movflags": "faststart"} if index_first else {}
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.options = {"g": "4", "bf": str(b_frames)} if codec == "libx264" else {}
        stream.options |= options or {}
        stream.metadata.update(tags or {})
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


def remux(source: Path, target: Path, *, shift: int = 0, skip: int = 0) -> Path:
    """Copy the packets of a video but the first `skip`; `shift` is added to its timestamps."""
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        video = container.streams.video[0]
        stream = output.add_stream_from_template(video)
        for packet in [*container.demux(video)][skip:-1]:
            packet.pts += shift
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.stream = stream
            output.mux(packet)
    return target


def write_long_video(path: Path, *, seconds: int) -> Path:
    """Full HD at 25 frames/s, ten seconds encoded once and its packets repeated."""
    short = path.with_name("ten_seconds.mp4")
    write_video(short, 250, size=(1920, 1080), fps=25, b_frames=2, options={"preset": "ultrafast"})
    with av.open(str(short)) as source, av.open(str(path), "w") as target:
        packets = [packet for packet in source.demux(video=0) if packet.size]
        stream = target.add_stream_from_template(source.streams.video[0])
        length = round(10 / source.streams.video[0].time_base)
        for repeat in range(seconds // 10):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts = (t + repeat * length for t in (packet.pts, packet.dts))
                copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
                copy.duration, copy.stream = packet.duration, stream
                target.mux(copy)
    return path


def cut_off(path: Path, target: Path, part: float) -> Path:
    """The first `part` of a file's bytes."""
    content = path.read_bytes()
    target.write_bytes(content[: int(len(content) * part)])
    return target
