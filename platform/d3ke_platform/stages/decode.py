"""Videos to RGB frames: any container FFmpeg reads, upright, with the file's own timestamps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.arrays import ImageArray
from d3ke.errors import InvalidInputError
from d3ke_platform.stages.picture import (
    Orientation,
    display_matrix,
    orientation,
    progressive,
    rgb,
    upright,
)
from d3ke_platform.stages.video_file import broken, decoding_errors, open_video
from d3ke_platform.stages.video_index import SeekPoint, VideoIndex, decode_packets, index_video


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One decoded video frame."""

    index: int
    """Position in the video, from 0, in display order."""
    time_s: float
    """Presentation time, s after the video's first frame."""
    image: ImageArray
    """Upright picture, uint8 [H,W,3], RGB."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video is; sizes are of the upright picture."""

    fps: float
    """Average frame rate, 1/s: of the timestamps, or the header's where both agree."""
    frame_count: int
    """Number of frames, counted, not the header's."""
    width: int
    """Width of the upright picture, px."""
    height: int
    """Height of the upright picture, px."""
    duration_s: float
    """Time from the first frame to the end of the last one, s."""
    codec: str
    """FFmpeg's name of the codec."""
    index: VideoIndex
    """Times of the frames and places to start decoding, for `frames`."""


def probe(path: str | Path) -> VideoInfo:
    """Describe a video: its packets are read, its first frames decoded.

    Raises:
        InvalidInputError: empty, cut short, not a video, beyond the limits, or without a picture
            that decodes.
    """
    index = index_video(path)
    first = next(frames(path, count=1, index=index))
    height, width = first.image.shape[:2]
    return VideoInfo(
        fps=index.fps,
        frame_count=index.frame_count,
        width=width,
        height=height,
        duration_s=float(index.times_s[-1]) + 1.0 / index.fps,
        codec=index.codec,
        index=index,
    )


def frames(
    path: str | Path,
    *,
    every: int = 1,
    first: int = 0,
    count: int | None = None,
    index: VideoIndex | None = None,
) -> Iterator[Frame]:
    """Decode a video, or a part of it, in display order.

    A part has the frames and times that the whole video has there: decoding starts at the key
    frame before it, and frames are recognised by their timestamps. Files without usable ones
    are decoded from their start.

    Args:
        path: The video file.
        every: Yield frames first, first + every, ...
        first: Index in the video of the first frame of the part.
        count: Length of the part in frames; None = to the end.
        index: Of `index_video` or `probe`, or its `part` that holds these frames; without it the
            file's packets are read once more.

    Yields:
        Upright RGB frames; index and time count from the start of the video.

    Raises:
        InvalidInputError: the file cannot be read, is cut short, or a frame does not decode. The
            whole video should be refused then, also after frames already yielded: a silently
            shortened recording would look complete.
    """
    if every < 1:
        raise InvalidInputError("every", f"is {every}, must be 1 or more")
    if first < 0 or (count is not None and count < 1):
        reason = f"of {count} frames from {first} on: the start must be 0 or more, the length 1"
        raise InvalidInputError("part of a video", reason)
    index = index or index_video(path)
    end = index.first + len(index.times_s) if count is None else first + count
    if end > index.first + len(index.times_s) or first >= end or first < index.first:
        asked = f"frames {first} to {first + (count or 1) - 1} are asked"
        raise InvalidInputError(str(path), f"holds {index.frame_count} frames; {asked}")
    for (number, turn), picture in progressive(_decode(path, index, first, end)):
        if (number - first) % every == 0:
            try:
                image = np.ascontiguousarray(upright(rgb(picture), turn))
            except decoding_errors() as error:
                raise broken(path, number, error) from error
            time_s = float(index.times_s[number - index.first])
            yield Frame(index=number, time_s=time_s, image=image)


_Numbered = tuple[tuple[int, Orientation], Any]


def _decode(path: str | Path, index: VideoIndex, first: int, end: int) -> Iterator[_Numbered]:
    """Decoded frames first to end - 1, each with its index and orientation.

    Some key frames are not complete by themselves (pictures that refresh bit by bit); where the
    first frame does not come out, decoding starts at a key frame further back.
    """
    wanted, size = first, None
    for point in reversed([point for point in index.seek_points if point.frame <= first]):
        with open_video(path) as (container, stream):
            for number, frame in _from_point(path, container, stream, index, point):
                if number > wanted:
                    break
                if number < wanted:
                    continue
                size = size or (frame.width, frame.height)
                _check_size(path, number, size, frame)
                turn = orientation(display_matrix(frame), stream.metadata)
                yield (number, turn), frame
                wanted += 1
                if wanted == end:
                    return
        if wanted > first:
            break
    reason = f"is damaged: frame {wanted} of its {index.frame_count} frames does not decode"
    raise InvalidInputError(str(path), reason)


def _from_point(
    path: str | Path, container: Any, stream: Any, index: VideoIndex, point: SeekPoint
) -> Iterator[tuple[int, Any]]:
    """Decoded frames from a place on, with their indices; none where it cannot be found."""
    places = index.places
    packets, skip = container.demux(stream), index.torn_packets
    if point.pts is not None:
        packets, skip = _packets_from(container, stream, point), 0
    for counted, frame in enumerate(decode_packets(path, packets, skip=skip)):
        if places is None:
            yield counted, frame
        elif frame.pts in places:
            yield places[frame.pts], frame


def _packets_from(container: Any, stream: Any, point: SeekPoint) -> Iterator[Any]:
    """Packets from exactly this key packet on; none where the file's index leads elsewhere."""
    before = [stamp for stamp in (point.pts, point.dts) if stamp is not None]
    try:
        container.seek(min(before), stream=stream, backward=True, any_frame=False)
    except decoding_errors():
        return
    found = False
    for packet in container.demux(stream):
        if not found:
            found = packet.is_keyframe and packet.pts == point.pts
            passed = None not in (packet.dts, point.dts) and packet.dts > point.dts
            if not found and (passed or not packet.size):
                return
        if found:
            yield packet


def _check_size(path: str | Path, number: int, size: tuple[int, int], frame: Any) -> None:
    if (frame.width, frame.height) != size:
        now = f"{frame.width} x {frame.height}"
        reason = f"its pictures change from {size[0]} x {size[1]} to {now} pixels at frame {number}"
        raise InvalidInputError(str(path), reason, "Cut it there into two videos.")
