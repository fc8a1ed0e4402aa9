"""Opening a video: only the file itself is read, and a file that is no video says what it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from d3ke.errors import InvalidInputError

MAX_MEGAPIXELS = 64.0
"""Largest picture that is decoded; 8K has 33. A damaged header can ask for gigabytes a frame."""

# Formats that make FFmpeg read other files, devices or the network, and pictures: one picture is
# no video, and the rest would let a file in the archive choose what this machine reads.
_REFUSED_FORMATS = frozenset(
    (
        *("hls", "concat", "concatf", "dash", "sdp", "rtsp", "rtp", "sap", "imf", "lavfi", "fbdev"),
        *("alsa", "oss", "x11grab", "kmsgrab", "video4linux2,v4l2", "webm_dash_manifest", "image2"),
        *("image2pipe", "ffmetadata", "tty", "vapoursynth", "avisynth", "bin", "xbin", "adf"),
    )
)
_PICTURES = ("_pipe", "image2", "tty")
_LISTS = {
    b"#EXTM3U": "an HLS playlist",
    b"ffconcat": "a concat list",
    b"<MPD": "a DASH manifest",
    b"<SmoothStreamingMedia": "a streaming manifest",
    b"v=0": "an SDP session description",
    b"[playlist]": "a playlist",
    b"[Reference]": "a playlist",
}
_PICTURE_STARTS = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_SIZELESS_FORMATS = ("mpegts", "mpeg")
_IGNORED_STREAMS = ("attached_pic", "timed_thumbnails", "still_image")


def decoding_errors() -> tuple[type[Exception], ...]:
    """What PyAV raises for a file that FFmpeg cannot read."""
    import av

    return (av.FFmpegError, EOFError, MemoryError)


def broken(path: str | Path, read: int, error: Exception) -> InvalidInputError:
    """The error of a file that cannot be read further than `read` frames."""
    import av

    reason = _reason(error)
    if isinstance(error, av.ArgumentError):  # what decoders say to a picture above the limit
        reason = f"a picture above {MAX_MEGAPIXELS:g} megapixels, or damage: {reason}"
    return InvalidInputError(str(path), f"breaks off after {read} frames read ({reason})")


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """The container and its best video stream.

    FFmpeg gets an open file, no name, and may open nothing else: a playlist in the archive
    cannot make it read another file or the network, nor a name choose the format. Of several
    video streams the one marked as default is taken, then the largest; cover pictures are none.

    Raises:
        InvalidInputError: not a file, not readable, not a video, without a video stream, or with
            pictures above `MAX_MEGAPIXELS`.
    """
    descriptor = _open_file(path)
    try:
        container = _open_container(path, descriptor)
        with container:
            stream = _best_stream(path, container)
            _check_size(path, container, stream)
            # Parallelism comes from one actor per core, not from threads inside each decoder.
            stream.codec_context.thread_count = 1
            stream.codec_context.options = _limits()
            yield container, stream
    finally:
        os.close(descriptor)


def _open_file(path: str | Path) -> int:
    """Descriptor of a regular file that is not empty."""
    try:
        # Without O_NONBLOCK a named pipe would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise InvalidInputError(str(path), "no such file") from error
    except (OSError, ValueError) as error:
        raise InvalidInputError(str(path), f"cannot be read ({_reason(error)})") from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise InvalidInputError(str(path), f"is {_kind(state.st_mode)}, not a file")
        if state.st_size == 0:
            raise InvalidInputError(str(path), "the file is empty (0 bytes)")
        _check_start(path, os.pread(descriptor, 4096, 0))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def _check_start(path: str | Path, start: bytes) -> None:
    if not start.strip(b"\0"):
        raise InvalidInputError(
            str(path), "cannot be opened as a video: it begins with zero bytes only"
        )
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    for sign, kind in _LISTS.items():
        listed = sign in text[:1024] if sign.startswith(b"<") else text.startswith(sign)
        if listed:
            reason = f"is {kind}, which names other files, and holds no video itself"
            raise InvalidInputError(str(path), reason, "List those files themselves.")


def _open_container(path: str | Path, descriptor: int) -> Any:
    import av

    os.lseek(descriptor, 0, os.SEEK_SET)
    options = {
        "fd": str(descriptor),
        "protocol_whitelist": "fd",
        "format_whitelist": _format_whitelist(),
    }
    try:
        container = av.open(
            "fd:", container_options=options, options=_limits(), metadata_errors="replace"
        )
    except (av.FFmpegError, EOFError, MemoryError, ValueError, OSError) as error:
        raise InvalidInputError(str(path), _unopened(descriptor, error)) from error
    if not container.streams:
        container.close()
        reason = "cannot be opened as a video: truncated or not a video (it lists no stream)"
        raise InvalidInputError(str(path), reason)
    return container


def _unopened(descriptor: int, error: Exception) -> str:
    start = os.pread(descriptor, 16, 0)
    for sign, kind in _PICTURE_STARTS.items():
        if start.startswith(sign):
            return f"is a picture ({kind}), not a video"
    return f"cannot be opened as a video: truncated or not a video ({_reason(error)})"


@cache
def _format_whitelist() -> str:
    import av

    allowed = {
        name
        for name in av.formats_available
        if name not in _REFUSED_FORMATS and not name.endswith(_PICTURES)
    }
    return ",".join(sorted(allowed))


def _limits() -> dict[str, str]:
    """Options of decoders: the limit holds for what the stream says, not the header alone."""
    return {"max_pixels": str(int(MAX_MEGAPIXELS * 1e6))}


def _best_stream(path: str | Path, container: Any) -> Any:
    """The default video stream, then the largest, then the first; no cover pictures."""
    videos = container.streams.video
    moving = [s for s in videos if not any(_has(s, name) for name in _IGNORED_STREAMS)]
    if not moving:
        kinds = sorted({stream.type or "unknown" for stream in container.streams})
        what = "a cover picture only" if videos else f"only {', '.join(kinds)}"
        raise InvalidInputError(str(path), f"holds no video stream ({what})")
    known = [stream for stream in moving if stream.codec_context is not None]
    if not known:
        reason = "its video is coded in a way this FFmpeg has no decoder for"
        raise InvalidInputError(str(path), reason, "Convert it, for example to H.264.")

    def rank(stream: Any) -> tuple[bool, int, int]:
        area = stream.codec_context.width * stream.codec_context.height
        return _has(stream, "default"), area, -stream.index

    return max(known, key=rank)


def _has(stream: Any, disposition: str) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition[disposition])


def _check_size(path: str | Path, container: Any, stream: Any) -> None:
    """Raises InvalidInputError for a size that FFmpeg has thrown away: it is then 0 x 0."""
    width, height = stream.codec_context.width, stream.codec_context.height
    # A broadcast that begins between key frames shows its size later.
    if width * height == 0 and container.format.name not in _SIZELESS_FORMATS:
        reason = f"states no picture size, or one above {MAX_MEGAPIXELS:g} megapixels"
        raise InvalidInputError(str(path), reason, "Scale it down if that is its true size.")


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", "") or error) or type(error).__name__
