"""Videos to RGB frames: any container FFmpeg reads, upright, with the file's own timestamps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.arrays import ImageArray
from d3ke.errors import InvalidInputError

# A file counts as cut short when it ends more than this many frames before the end it states;
# containers round their durations, and an edit list may hide a frame or two.
_TOLERATED_MISSING_FRAMES = 2.5


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
    """What a video file says about itself; sizes are of the upright picture."""

    fps: float
    """Average frame rate, 1/s."""
    frame_count: int
    """Number of frames: the file's own count, or the number of its video packets."""
    width: int
    """Width of the upright picture, px."""
    height: int
    """Height of the upright picture, px."""
    duration_s: float
    """Duration, s."""
    codec: str
    """FFmpeg's name of the codec."""


def probe(path: str | Path) -> VideoInfo:
    """Describe a video without decoding more than its first frame.

    Raises:
        InvalidInputError: empty, cut short, not a video, or without a picture that decodes.
    """
    with _open(path) as (container, stream):
        try:
            first = next(container.decode(stream), None)
        except _decoding_errors() as error:
            raise _broken(path, 0, error) from error
        if first is None:
            raise InvalidInputError(str(path), "holds no video frame")
        fps = _frame_rate(stream)
        height, width = _upright(np.empty((first.height, first.width), bool), first.rotation).shape
        count = stream.frames or _count_packets(path)
        return VideoInfo(
            fps=fps,
            frame_count=count,
            width=width,
            height=height,
            duration_s=_stated_end(stream) or count / fps,
            codec=stream.codec_context.name,
        )


def frames(
    path: str | Path, *, every: int = 1, first: int = 0, count: int | None = None
) -> Iterator[Frame]:
    """Decode a video, or a part of it, in display order.

    Args:
        path: The video file.
        every: Yield frames first, first + every, ...
        first: Index in the video of the first frame of the part. Getting there costs one pass over
            the file's packets and the decoding from the key frame before.
        count: Length of the part in frames; None = to the end.

    Yields:
        Upright RGB frames; index and time (the file's timestamps) start at 0 with the part.

    Raises:
        InvalidInputError: the file cannot be read, or breaks off part way. The whole video is
            refused then, after the frames already yielded: a silently shortened recording would
            look complete.
    """
    _check_part(every, first, count)
    with _open(path) as (container, stream):
        places = _seek(path, container, stream, first) if first else {}
        index, start_s, last_s = 0, 0.0, 0.0
        fps = _frame_rate(stream)
        for decoded in _decode(path, container, stream):
            index = places.get(decoded.pts, index)
            moment = decoded.time if decoded.time is not None else start_s + (index - first) / fps
            start_s = moment if index == first else start_s
            last_s = moment
            if index >= first and (index - first) % every == 0:
                image = np.ascontiguousarray(
                    _upright(decoded.to_ndarray(format="rgb24"), decoded.rotation)
                )
                yield Frame(index=index - first, time_s=moment - start_s, image=image)
            index += 1
            if count is not None and index == first + count:
                return
        _check_complete(path, stream, read=index, last_s=last_s)
        if index < first + (count or 1):
            reason = f"holds {index} frames; frames {first} to {first + (count or 1) - 1} are asked"
            raise InvalidInputError(str(path), reason)


def _check_part(every: int, first: int, count: int | None) -> None:
    if every < 1:
        raise InvalidInputError("every", f"is {every}, must be 1 or more")
    if first < 0 or (count is not None and count < 1):
        reason = f"of {count} frames from {first} on: the start must be 0 or more, the length 1"
        raise InvalidInputError("part of a video", reason)


def _seek(path: str | Path, container: Any, stream: Any, first: int) -> dict[int, int]:
    """Goes to the key frame before a frame; index by timestamp, {} = not moved (no timestamps)."""
    with _open(path) as (listed, its_stream):
        try:
            times = [p.pts for p in listed.demux(its_stream) if p.size and not p.is_discard]
        except _decoding_errors() as error:
            raise _broken(path, 0, error) from error
    if None in times or len(set(times)) < len(times) or first >= len(times):
        return {}
    ordered = sorted(times)
    container.seek(ordered[first], stream=stream, backward=True, any_frame=False)
    return {time: index for index, time in enumerate(ordered)}


def _decode(path: str | Path, container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames of all packets; a damaged packet ends the video with an error."""
    read = 0
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise InvalidInputError(str(path), f"is damaged after {read} frames read")
            for decoded in packet.decode():
                yield decoded
                read += 1
    except _decoding_errors() as error:
        raise _broken(path, read, error) from error


@contextmanager
def _open(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first video stream."""
    import av

    file = Path(path)
    if not file.is_file():
        raise InvalidInputError(str(path), "no such file")
    if file.stat().st_size == 0:
        raise InvalidInputError(str(path), "the file is empty (0 bytes)")
    try:
        container = av.open(str(file))
    except _decoding_errors() as error:
        reason = f"cannot be opened as a video: truncated or not a video ({_reason(error)})"
        raise InvalidInputError(str(path), reason) from error
    with container:
        if not container.streams:
            reason = "cannot be opened as a video: truncated or not a video (it lists no stream)"
            raise InvalidInputError(str(path), reason)
        if not container.streams.video:
            raise InvalidInputError(str(path), "holds no video stream")
        stream = container.streams.video[0]
        # Parallelism comes from one actor per core, not from threads inside each decoder.
        stream.codec_context.thread_count = 1
        yield container, stream


def _check_complete(path: str | Path, stream: Any, *, read: int, last_s: float) -> None:
    """Refuse a file that ended before the end it states.

    Both the frame count and the duration must fall short where the file states both: an edit
    list legitimately hides frames, and variable-rate files state rounded durations.
    """
    if read == 0:
        raise InvalidInputError(str(path), "holds no video frame")
    frame_s = 1.0 / _frame_rate(stream)
    stated_end = _stated_end(stream)
    too_few = read < stream.frames if stream.frames else None
    too_early = last_s + _TOLERATED_MISSING_FRAMES * frame_s < stated_end if stated_end else None
    signs = [sign for sign in (too_few, too_early) if sign is not None]
    if signs and all(signs):
        stated = f"{stream.frames} frames" if stream.frames else f"{stated_end:.2f} s"
        reason = f"breaks off after {read} frames read ({last_s:.2f} s) of the {stated} it states"
        raise InvalidInputError(str(path), reason)


def _stated_end(stream: Any) -> float:
    """Time at which the stream ends by its own statement, s; 0 when it states none."""
    if stream.duration is not None:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    # Matroska keeps each stream's duration as a tag, "00:00:04.000000000".
    clock = stream.metadata.get("DURATION", "")
    if not clock:
        return 0.0
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _frame_rate(stream: Any) -> float:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else 30.0


def _count_packets(path: str | Path) -> int:
    with _open(path) as (container, stream):
        try:
            return sum(1 for packet in container.demux(stream) if packet.size)
        except _decoding_errors() as error:
            raise _broken(path, 0, error) from error


def _upright(image: np.ndarray, rotation_deg: int) -> np.ndarray:
    """Turn a stored picture by the file's display rotation (degrees counterclockwise)."""
    return np.rot90(image, k=round(rotation_deg / 90) % 4)


def _decoding_errors() -> tuple[type[Exception], ...]:
    import av

    return (av.FFmpegError, EOFError)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error)


def _broken(path: str | Path, read: int, error: Exception) -> InvalidInputError:
    return InvalidInputError(str(path), f"breaks off after {read} frames read ({_reason(error)})")
