"""Parts of a video have the frames and times of the whole, however it is cut."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_files import remux, write_video

from d3ke.errors import InvalidInputError
from d3ke_platform.stages import decode
from d3ke_platform.stages.decode import Frame, frames, probe
from d3ke_platform.stages.video_index import SeekPoint, VideoIndex, index_video

COUNT = 45
# Each has another way of telling, or hiding, where its frames and key frames are.
KINDS = (
    "plain.mp4",
    "b_frames.mp4",
    "b_frames.mkv",
    "open_gop.mp4",
    "hevc_open_gop.mp4",
    "refresh.mkv",
    "transport.ts",
    "program.mpg",
    "b_frames.avi",
    "intra.avi",
    "raw.h264",
    "vp8.webm",
    "vp9.webm",
    "uneven.mkv",
    "interlaced.mp4",
    "negative.mp4",
    "negative.nut",
    "cut_in.ts",
    "restarts.mpg",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


def video(folder: Path, kind: str) -> Path:
    """The video of that kind, made when first asked for."""
    path = folder / kind
    return path if path.exists() else MAKERS.get(kind.split(".")[0], made)(path)


def made(path: Path) -> Path:
    stem = path.stem
    codecs = {"vp8": "libvpx", "vp9": "libvpx-vp9", "program": "mpeg2video", "intra": "mjpeg"}
    codecs["hevc_open_gop"] = "libx265"
    options = {
        "open_gop": {"x264-params": "open-gop=1:keyint=8:min-keyint=8:scenecut=0"},
        "hevc_open_gop": {"x265-params": "open-gop=1:keyint=8:min-keyint=8:log-level=none"},
        "refresh": {"x264-params": "intra-refresh=1:keyint=12:scenecut=0"},
        "program": {"g": "6", "bf": "2"},
        "vp8": {"auto-alt-ref": "1", "lag-in-frames": "12", "g": "20"},
        "vp9": {"lag-in-frames": "12", "g": "20", "row-mt": "0"},
        "interlaced": {"x264-params": "interlaced=1:tff=1:keyint=8"},
    }
    b_frames = 2 if stem in ("b_frames", "open_gop", "transport", "interlaced", "raw") else 0
    uneven = np.cumsum(1 + 97 * (np.arange(COUNT) % 3)).tolist()
    return write_video(
        path,
        COUNT,
        fps=25,
        codec=codecs.get(stem, "libx264"),
        b_frames=b_frames,
        pix_fmt="yuvj420p" if stem == "intra" else "yuv420p",
        options=options.get(stem),
        times=uneven if stem == "uneven" else None,
    )


def cut_in(path: Path) -> Path:
    """A broadcast recorded from the middle of a group of pictures on."""
    whole = write_video(path.with_name("whole.ts"), COUNT + 2, b_frames=1)
    return remux(whole, path, skip=2)


def restarts(path: Path) -> Path:
    """Three recordings put together byte by byte: the timestamps start anew each time."""
    once = write_video(path.with_name("once.mpg"), COUNT // 3, codec="mpeg2video")
    path.write_bytes(3 * once.read_bytes())
    return path


MAKERS = {
    "cut_in": cut_in,
    "negative": lambda path: remux(
        write_video(path.with_name("positive.mkv"), COUNT, b_frames=2), path, shift=-700
    ),
    "restarts": restarts,
}


@cache
def whole(path: Path) -> list[Frame]:
    return list(frames(path))


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_is_there_once_and_later_than_the_one_before(folder: Path, kind: str) -> None:
    path = video(folder, kind)
    info = probe(path)
    expected = list(plainly(path, kind))
    assert info.frame_count == len(whole(path)) == len(expected)
    # One packet before the first key frame; seven frames before the edit list's start.
    assert len(expected) == COUNT - {"cut_in.ts": 1, "negative.mp4": 7}.get(kind, 0)
    assert [frame.index for frame in whole(path)] == list(range(info.frame_count))
    times = np.array([frame.time_s for frame in whole(path)])
    assert times[0] == 0
    assert (np.diff(times) > 0).all()
    np.testing.assert_array_equal(times, info.index.times_s)
    for frame, picture in zip(whole(path), expected, strict=True):
        if kind != "interlaced.mp4":
            np.testing.assert_array_equal(frame.image, picture)


def plainly(path: Path, kind: str) -> Iterator[np.ndarray]:
    """The oracle: what PyAV decodes from start to end; not what comes before a key frame."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            started = kind != "cut_in.ts" or stream.codec_context.is_open or packet.is_keyframe
            if started:
                for frame in packet.decode():
                    yield frame.to_ndarray(format="rgb24")


@pytest.mark.parametrize("kind", KINDS)
@given(cuts=st.sets(st.integers(1, COUNT - 3), max_size=5), every=st.integers(1, 3))
@settings(max_examples=8, deadline=None, derandomize=True)
def test_however_a_video_is_cut_it_has_the_same_frames_and_times(
    folder: Path, kind: str, cuts: set[int], every: int
) -> None:
    path = video(folder, kind)
    index = index_video(path)
    edges = [0, *sorted(cut for cut in cuts if cut < index.frame_count), index.frame_count]
    for first, end in itertools.pairwise(edges):
        part = pickle.loads(pickle.dumps(index.part(first, end - first)))
        found = list(frames(path, every=every, first=first, count=end - first, index=part))
        expected = whole(path)[first:end:every]
        assert [(f.index, f.time_s) for f in found] == [(f.index, f.time_s) for f in expected]
        for frame, same in zip(found, expected, strict=True):
            np.testing.assert_array_equal(frame.image, same.image)


@pytest.mark.parametrize("kind", ["plain.mp4", "b_frames.mkv", "open_gop.mp4", "transport.ts"])
def test_a_part_is_reached_without_decoding_what_is_before(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = video(folder, kind)
    index = index_video(path)
    decoded = []
    plain = decode.decode_packets

    def counted(*arguments: object, **keywords: object) -> Iterator[object]:
        for frame in plain(*arguments, **keywords):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(decode, "decode_packets", counted)
    list(frames(path, first=COUNT - 3, count=2, index=index))
    assert 2 <= len(decoded) <= 24


def test_times_choose_frames() -> None:
    index = VideoIndex(
        first=0,
        times_s=np.array([0.0, 0.1, 0.25, 0.3, 2.0]),
        stamps=None,
        seek_points=(SeekPoint(frame=0, pts=None, dts=None),),
        torn_packets=0,
        fps=10.0,
        frame_count=5,
        codec="h264",
    )
    assert index.between(0.1, 0.3) == (1, 2)
    assert index.between(0.0, 9.0) == (0, 5)
    assert index.between(0.5, 1.0) == (4, 0)


@pytest.mark.parametrize(("first", "count"), [(14, 1), (12, 3), (20, None)])
def test_part_beyond_the_end_of_a_video(tmp_path: Path, first: int, count: int | None) -> None:
    path = write_video(tmp_path / "a.mp4", 14)
    with pytest.raises(InvalidInputError, match=f"holds 14 frames; frames {first} to"):
        list(frames(path, first=first, count=count))
