"""What files hold beside plain pictures: turns, fields, depths, sound, several streams, rates."""

from __future__ import annotations

import gc
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from video_files import frame_image, write_video

from d3ke.errors import InvalidInputError
from d3ke_platform.stages import video_index
from d3ke_platform.stages.decode import frames, probe
from d3ke_platform.stages.picture import orientation, upright


def first_image(path: Path) -> np.ndarray:
    return next(frames(path)).image


@pytest.mark.parametrize("rotation", [0, 90, -90, 180])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
def test_the_display_matrix_turns_pictures_upright(
    tmp_path: Path, name: str, rotation: int
) -> None:
    path = write_video(tmp_path / name, 3, rotation=rotation)
    expected = np.rot90(frame_image(0), k=rotation // 90)
    decoded = first_image(path)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < 4
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_the_older_tag_turns_pictures_clockwise(tmp_path: Path, rotate: int) -> None:
    path = write_video(tmp_path / "a.mkv", 2, tags={"rotate": str(rotate)})
    expected = np.rot90(frame_image(0), k=-rotate // 90)
    assert np.abs(first_image(path).astype(int) - expected).mean() < 4


def test_tag_and_matrix_together_turn_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 2, tags={"rotate": "90"}, rotation=-90)
    expected = np.rot90(frame_image(0), k=-1)
    assert np.abs(first_image(path).astype(int) - expected).mean() < 4


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_every_display_matrix_of_quarter_turns(turn: int, mirrored: bool) -> None:
    """The matrix moves each pixel to where the picture made by `upright` has it."""
    corners = {0: (1, 0, 0, 1), 1: (0, -1, 1, 0), 2: (-1, 0, 0, -1), 3: (0, 1, -1, 0)}
    a, b, c, d = corners[turn]
    if mirrored:
        a, b = -a, -b
    matrix = np.array([[a, b, 0], [c, d, 0], [0, 0, 1 << 14]], np.int32) << 16
    matrix[2, 2] = 1 << 30

    image = np.arange(12).reshape(3, 4)
    shown = upright(image, orientation(matrix, {}))
    y, x = np.indices(image.shape)
    column, row = a * x + c * y, b * x + d * y
    moved = np.full(shown.shape, -1)
    moved[row - row.min(), column - column.min()] = image
    np.testing.assert_array_equal(shown, moved)


@pytest.mark.parametrize("tag", ["", "left", "nan", "inf", "45.1"])
def test_a_tag_that_is_no_turn_is_no_error(tmp_path: Path, tag: str) -> None:
    assert first_image(write_video(tmp_path / "a.mkv", 2, tags={"rotate": tag})).size


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("libx264", "yuv420p10le"), ("libx265", "yuv422p10le")]
)
def test_ten_bits(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else None
    path = write_video(tmp_path / "a.mkv", 3, codec=codec, pix_fmt=pix_fmt, options=options)
    for frame in frames(path):
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - frame_image(frame.index)).mean() < 4


@pytest.mark.parametrize("size", [(63, 47), (1, 1), (17, 5), (641, 3)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "a.mkv", 2, size=size, codec="ffv1", pix_fmt="yuv444p")
    info = probe(path)
    assert (info.width, info.height) == size
    assert np.abs(first_image(path).astype(int) - frame_image(0, size)).mean() < 4


def write_fields(path: Path, count: int, *, marked: bool) -> Path:
    """Something bright that moves between the two fields of each frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.options = {"qp": "4"}
        if marked:
            stream.options |= {"x264-params": "interlaced=1"}
        for index in range(count):
            image = np.full((64, 96, 3), 50, np.uint8)
            left = 8 + 4 * index
            image[0::2, left : left + 16] = 220
            image[1::2, left + 12 : left + 28] = 220
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def combing(image: np.ndarray) -> float:
    grey = image.astype(float).mean(axis=-1)
    return float(np.abs(grey[2:] - 2 * grey[1:-1] + grey[:-2]).mean())


def test_interlaced_frames_lose_their_combs_and_keep_their_number(tmp_path: Path) -> None:
    comb = list(frames(write_fields(tmp_path / "a.mp4", 6, marked=False)))
    smooth = list(frames(write_fields(tmp_path / "b.mp4", 6, marked=True)))
    assert [frame.index for frame in smooth] == list(range(6))
    for frame, combed in zip(smooth, comb, strict=True):
        assert combing(frame.image) < 0.2 * combing(combed.image)
        # The first field is the one that is kept: the lower one, as the encoder marks it.
        left = 8 + 4 * frame.index
        assert frame.image[20:40, left + 4 : left + 8].mean() < 90
        assert frame.image[20:40, left + 20 : left + 24].mean() > 180


def test_sound_subtitles_and_a_cover_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000)
        small = container.add_stream("libx264", rate=10)
        small.width, small.height, small.pix_fmt = 32, 24, "yuv420p"
        large = container.add_stream("libx264", rate=10)
        large.width, large.height, large.pix_fmt = 64, 48, "yuv420p"
        for stream in (small, large):
            stream.disposition = av.stream.Disposition(0)
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 16000
        container.mux(sound.encode(silence))
        for index in range(6):
            for stream, size in ((small, (32, 24)), (large, (64, 48))):
                image = frame_image(index, size)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in (sound, small, large):
            container.mux(stream.encode(None))
    info = probe(path)
    assert (info.width, info.height, info.frame_count) == (64, 48, 6)
    assert [frame.index for frame in frames(path)] == list(range(6))


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = write_cover(tmp_path / "song.mp4", with_video=False)
    with pytest.raises(InvalidInputError, match="no video stream .*cover picture"):
        probe(path)
    info = probe(write_cover(tmp_path / "film.mp4", with_video=True))
    assert (info.width, info.frame_count) == (64, 3)


def write_cover(path: Path, *, with_video: bool) -> Path:
    """A file with a large cover picture, before its sound or video."""
    picture = av.CodecContext.create("mjpeg", "w")
    picture.width, picture.height, picture.pix_fmt = 640, 480, "yuvj420p"
    picture.time_base = Fraction(1, 10)
    image = av.VideoFrame.from_ndarray(frame_image(0, (640, 480)), format="rgb24")
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=10)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        moving = None
        if with_video:
            moving = container.add_stream("libx264", rate=10)
            moving.width, moving.height, moving.pix_fmt = 64, 48, "yuv420p"
        for packet in picture.encode(image.reformat(format="yuvj420p")):
            packet.stream = cover
            container.mux(packet)
        for index in range(3 if moving else 0):
            frame = av.VideoFrame.from_ndarray(frame_image(index), format="rgb24")
            container.mux(moving.encode(frame))
        if moving:
            container.mux(moving.encode(None))
    return path


@pytest.mark.parametrize("frame_ns", [0, 1, 12_345_678, 0xFFFFFFFF])
def test_rates_follow_the_timestamps_not_the_header(tmp_path: Path, frame_ns: int) -> None:
    path = write_video(tmp_path / "a.mkv", 12)
    content = path.read_bytes()
    stated = b"\x23\xe3\x83\x84" + (100_000_000).to_bytes(4, "big")
    assert content.count(stated) == 1
    path.write_bytes(content.replace(stated, stated[:4] + frame_ns.to_bytes(4, "big")))
    info = probe(path)
    assert info.fps == pytest.approx(10.0)
    assert info.duration_s == pytest.approx(1.2)


def test_rates_of_files_without_timestamps(tmp_path: Path) -> None:
    assert probe(write_video(tmp_path / "a.h264", 5)).fps == 25.0
    path = write_video(tmp_path / "a.avi", 8, codec="mpeg4")
    content = bytearray(path.read_bytes())
    struct.pack_into("<II", content, content.index(b"vids") + 20, 0, 0)  # scale and rate
    path.write_bytes(content)
    info = probe(path)
    assert info.frame_count == 8
    assert info.fps > 0
    assert (np.diff(info.index.times_s) > 0).all()


def test_the_mean_rate_of_uneven_frames(tmp_path: Path) -> None:
    uneven = write_video(tmp_path / "b.mkv", 4, times=[0, 40, 80, 1040])
    assert probe(uneven).fps == pytest.approx(3 / 1.04)


def test_a_header_with_an_absurd_duration_is_not_believed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 12)
    content = bytearray(path.read_bytes())
    struct.pack_into(">I", content, content.index(b"mdhd") + 20, 0xFFFFFFF0)
    path.write_bytes(content)
    assert probe(path).duration_s == pytest.approx(1.2, abs=0.01)
    assert len(list(frames(path))) == 12


def test_leaping_timestamps_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mkv", 4, times=[0, 40, 8_000_080, 8_000_120])
    with pytest.raises(InvalidInputError, match="leap by 8000 s after frame 1"):
        probe(path)
    monkeypatch.setattr(video_index, "MAX_FRAMES", 3)
    with pytest.raises(InvalidInputError, match="more than 3 frames"):
        probe(write_video(tmp_path / "b.mkv", 4))


def test_pictures_of_another_size_end_a_video(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / f"{w}.h264", 4, size=(w, 48)) for w in (64, 32)]
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InvalidInputError, match="change from 64 x 48 to 32 x 48 pixels at frame 4"):
        list(frames(path))


def test_frames_are_freed_at_once(tmp_path: Path) -> None:
    """No circles of references: an hour of video would fill the memory between two collections."""
    path = write_video(
        tmp_path / "a.mp4", 150, size=(640, 480), rotation=90, options={"preset": "ultrafast"}
    )
    process = psutil.Process()
    gc.disable()
    try:
        seen = []
        for frame in frames(path):
            if frame.index % 50 == 20:
                seen.append(process.memory_info().rss)
    finally:
        gc.enable()
    assert seen[-1] - seen[0] < 20 * 640 * 480 * 1.5
