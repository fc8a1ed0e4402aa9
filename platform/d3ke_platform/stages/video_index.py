"""Which frames a video has, when each is shown, and where decoding can start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke_platform.isolation import sign_of_life
from d3ke_platform.stages.video_file import broken, decoding_errors, open_video

MAX_FRAMES = 10_000_000
"""Most frames of one video: 46 hours at 60 frames/s. Times and places of all are in memory."""
MAX_PAUSE_S = 3600.0
"""Longest time between two frames; a longer one is a damaged timestamp, not a recording."""

# A file counts as cut short when it ends more than this many frames before the end it states;
# containers round their durations, and an edit list may hide a frame or two.
_TOLERATED_MISSING_FRAMES = 2.5
# A duration above this is a damaged header and says nothing about where the file should end.
_BELIEVABLE_DURATION_S = 7 * 86400.0
# How many decoded frames are compared with the packets before the packets' list is believed.
_COMPARED_FRAMES = 12
_SEEK_DISTANCE = 8  # frames; nearer places to start are not worth remembering
_HIDING_CODECS = ("vp8", "libvpx")
_BELIEVABLE_FPS = (0.01, 10_000.0)
DEFAULT_FPS = 30.0
"""Of files without timestamps that state no frame rate either, 1/s."""


@dataclass(frozen=True, kw_only=True)
class SeekPoint:
    """A packet that decoding can start with."""

    frame: int
    """First frame that comes out complete when decoding starts here."""
    pts: int | None
    """Presentation timestamp of the packet; None: the start of the file."""
    dts: int | None
    """Decoding timestamp of the packet."""


@dataclass(frozen=True, kw_only=True)
class VideoIndex:
    """Times of a video's frames, or of a part of them, and the places to start decoding."""

    first: int
    """Index in the video of the first frame listed here."""
    times_s: FloatArray
    """Presentation times [frames listed], s after the video's first frame; they increase."""
    stamps: np.ndarray | None
    """Timestamps by which decoded frames are recognised, int64 [frames listed], in the stream's
    unit; None where the file has none that tell frames apart: decoding then starts at frame 0."""
    seek_points: tuple[SeekPoint, ...]
    """In the order of their frames; the first one is the start."""
    torn_packets: int
    """Packets at the start of the file that are left out: nothing can be decoded from them."""
    fps: float
    """Average frame rate, 1/s."""
    frame_count: int
    """Frames of the whole video."""
    codec: str
    """FFmpeg's name of the codec."""

    @cached_property
    def places(self) -> dict[int, int] | None:
        """Index in the video by timestamp, of the frames listed; None without timestamps."""
        if self.stamps is None:
            return None
        return {stamp: self.first + at for at, stamp in enumerate(self.stamps.tolist())}

    def part(self, first: int, count: int) -> VideoIndex:
        """Index of `count` frames from `first` on: small, to be sent to who decodes the part."""
        at = slice(first - self.first, first - self.first + count)
        before = [point for point in self.seek_points if point.frame <= first]
        return replace(
            self,
            first=first,
            times_s=self.times_s[at],
            stamps=None if self.stamps is None else self.stamps[at],
            # The start for files whose other places turn out not to work, and the nearest few.
            seek_points=tuple(dict.fromkeys([*before[:1], *before[-3:]])),
        )

    def between(self, start_s: float, end_s: float) -> tuple[int, int]:
        """First frame and number of frames with start_s <= time < end_s; the number may be 0."""
        first = int(np.searchsorted(self.times_s, start_s))
        after = int(np.searchsorted(self.times_s, end_s))
        return self.first + first, after - first


def index_video(path: str | Path) -> VideoIndex:
    """Read the packets of a video, without decoding more than its first frames.

    Files whose packets do not tell the frames (timestamps missing, doubled or not in the order
    of display, two fields in packets of their own) are decoded once instead.

    Raises:
        InvalidInputError: not a video, damaged, cut short, without a frame, or beyond the limits.
    """
    packets = _read_packets(path)
    stamps = _expected_stamps(packets)
    if stamps is None or not _confirmed(path, packets, stamps):
        decoded = _decoded_stamps(path, packets)
        count = len(decoded)
        known = None not in decoded and len(set(decoded)) == count
        stamps = np.array(decoded, np.int64) if known else None
    else:
        count = len(stamps)
    if not count:
        stated = packets.header_frames
        reason = f"breaks off after 0 frames read of the {stated} it states"
        raise InvalidInputError(str(path), reason if stated else "holds no video frame")
    times, fps = _times(path, packets, stamps, count)
    _check_complete(path, packets, stamps, times, fps)
    return VideoIndex(
        first=0,
        times_s=times,
        stamps=stamps,
        seek_points=_seek_points(packets, stamps),
        torn_packets=packets.start,
        fps=fps,
        frame_count=count,
        codec=packets.codec,
    )


@dataclass(frozen=True, kw_only=True)
class _Packets:
    """The packets of a video stream in the file's order, and what its header states."""

    pts: list[int | None]
    dts: list[int | None]
    key: list[bool]
    shown: list[bool]
    codec: str
    time_base: float
    header_fps: float
    header_frames: int
    header_end_s: float

    @property
    def start(self) -> int:
        """First packet decoding can start with: a cut broadcast begins with torn pictures."""
        return self.key.index(True) if True in self.key else 0


def _read_packets(path: str | Path) -> _Packets:
    with open_video(path) as (container, stream):
        packets = _Packets(
            pts=[],
            dts=[],
            key=[],
            shown=[],
            codec=stream.codec_context.name,
            time_base=float(stream.time_base or 0),
            header_fps=_header_fps(stream),
            header_frames=stream.frames,
            header_end_s=_header_end_s(stream),
        )
        try:
            for packet in container.demux(stream):
                sign_of_life()
                if packet.size:
                    _add_packet(path, packets, packet)
        except decoding_errors() as error:
            raise broken(path, len(packets.pts), error) from error
    return packets


def _add_packet(path: str | Path, packets: _Packets, packet: Any) -> None:
    if packet.is_corrupt:
        reason = f"is damaged (or joined from pieces) after {len(packets.pts)} frames read"
        raise InvalidInputError(str(path), reason, "Write it anew with a video tool.")
    if len(packets.pts) >= MAX_FRAMES:
        reason = f"has more than {MAX_FRAMES} frames"
        raise InvalidInputError(str(path), reason, "Cut it into several videos.")
    packets.pts.append(packet.pts)
    packets.dts.append(packet.dts)
    packets.key.append(packet.is_keyframe)
    # A VP8 picture that only others refer to says so in its first byte.
    hidden = packets.codec in _HIDING_CODECS and not memoryview(packet)[0] & 0x10
    packets.shown.append(not packet.is_discard and not hidden)


def _expected_stamps(packets: _Packets) -> np.ndarray | None:
    """Timestamps of all frames in order of display as packets tell them; None: they do not."""
    start = packets.start
    shown = [
        pts
        for pts, is_shown in zip(packets.pts[start:], packets.shown[start:], strict=True)
        if is_shown
    ]
    if not shown or None in shown or len(set(shown)) < len(shown) or packets.time_base <= 0:
        return None
    decoding = np.array([dts for dts in packets.dts[start:] if dts is not None], np.int64)
    if (np.diff(decoding) < 0).any():
        return None
    stamps = np.sort(np.array(shown, np.int64))
    # Pictures shown before the first key picture refer to what is not in the file.
    first = packets.pts[start]
    return stamps if first is None else stamps[stamps >= first]


def _confirmed(path: str | Path, packets: _Packets, stamps: np.ndarray) -> bool:
    """Whether the first decoded frames are those of the list, in its order."""
    decoded = _decoded_stamps(path, packets, limit=_COMPARED_FRAMES)
    return decoded == stamps[: min(len(stamps), _COMPARED_FRAMES)].tolist()


def _decoded_stamps(
    path: str | Path, packets: _Packets, limit: int | None = None
) -> list[int | None]:
    """Timestamps of the decoded frames, in the decoder's order."""
    with open_video(path) as (container, stream):
        decoded = decode_packets(path, container.demux(stream), skip=packets.start)
        return [frame.pts for frame in islice(decoded, limit)]


def decode_packets(path: str | Path, packets: Iterable[Any], *, skip: int = 0) -> Iterator[Any]:
    """Decoded frames of packets but the first `skip`.

    Raises InvalidInputError where the file breaks off.
    """
    read = 0
    try:
        for number, packet in enumerate(packets):
            sign_of_life()
            if number < skip and packet.size:
                continue
            for decoded in packet.decode():
                yield decoded
                read += 1
    except decoding_errors() as error:
        raise broken(path, read, error) from error


def _times(
    path: str | Path, packets: _Packets, stamps: np.ndarray | None, count: int
) -> tuple[FloatArray, float]:
    """Times of all frames, s after the first one, and the frame rate, 1/s.

    Timestamps count where they tell the frames' order; else frames follow at the header's rate.
    """
    if stamps is None or (np.diff(stamps) <= 0).any() or packets.time_base <= 0:
        fps = packets.header_fps or DEFAULT_FPS
        return np.arange(count) / fps, fps
    times = (stamps - stamps[0]) * packets.time_base
    pauses = np.diff(times)
    if len(pauses) and pauses.max() > MAX_PAUSE_S:
        at = int(pauses.argmax())
        reason = f"its timestamps leap by {pauses[at]:.0f} s after frame {at}; they are damaged"
        raise InvalidInputError(str(path), reason, "Write it anew with a video tool.")
    measured = (count - 1) / times[-1] if count > 1 else packets.header_fps or DEFAULT_FPS
    # The header's rate is a fraction such as 30000/1001, exact where it is true.
    true = abs(packets.header_fps - measured) < 0.01 * measured
    return times, packets.header_fps if true else float(measured)


def _seek_points(packets: _Packets, stamps: np.ndarray | None) -> tuple[SeekPoint, ...]:
    """The start, and key packets at least a few frames apart."""
    points = [SeekPoint(frame=0, pts=None, dts=None)]
    if stamps is None:
        return tuple(points)
    sorted_order = bool((np.diff(stamps) > 0).all())
    places = {} if sorted_order else {stamp: at for at, stamp in enumerate(stamps.tolist())}
    for pts, dts, key in zip(packets.pts, packets.dts, packets.key, strict=True):
        if not key or pts is None:
            continue
        frame = int(np.searchsorted(stamps, pts)) if sorted_order else places.get(pts, -1)
        if frame >= points[-1].frame + _SEEK_DISTANCE:
            points.append(SeekPoint(frame=frame, pts=pts, dts=dts))
    return tuple(points)


def _check_complete(
    path: str | Path, packets: _Packets, stamps: np.ndarray | None, times: FloatArray, fps: float
) -> None:
    """Refuse a file that ends before the end it states.

    Both the frame count and the duration must fall short where the file states both: an edit
    list legitimately hides frames, and variable-rate files state rounded durations.
    """
    read, last_s = len(packets.pts), float(times[-1])
    end_s = last_s if stamps is None else float(stamps.max()) * packets.time_base
    stated_end_s = packets.header_end_s
    too_few = read < packets.header_frames if packets.header_frames else None
    too_early = end_s + _TOLERATED_MISSING_FRAMES / fps < stated_end_s if stated_end_s else None
    signs = [sign for sign in (too_few, too_early) if sign is not None]
    if signs and all(signs):
        frames = packets.header_frames
        stated = f"{frames} frames" if frames else f"{stated_end_s:.2f} s"
        reason = f"breaks off after {read} frames read ({last_s:.2f} s) of the {stated} it states"
        raise InvalidInputError(str(path), reason)


def _header_end_s(stream: Any) -> float:
    """Time at which the stream ends by its own statement, s; 0 when it states none to believe."""
    end_s = 0.0
    if stream.duration is not None:
        end_s = float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    elif clock := stream.metadata.get("DURATION", ""):
        # Matroska keeps each stream's duration as a tag, "00:00:04.000000000".
        end_s = _clock_s(clock)
    return end_s if 0 < end_s < _BELIEVABLE_DURATION_S else 0.0


def _clock_s(clock: str) -> float:
    try:
        hours, minutes, seconds = clock.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0


def _header_fps(stream: Any) -> float:
    """Frame rate that the header states, 1/s; 0 when it states none to believe."""
    rate = float(stream.average_rate or stream.guessed_rate or stream.base_rate or 0)
    return rate if _BELIEVABLE_FPS[0] <= rate <= _BELIEVABLE_FPS[1] else 0.0
