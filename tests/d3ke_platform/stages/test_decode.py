"""Decoding: every frame, upright, at its time, or an error that says why not."""

from __future__ import annotations

import re
import wave
from pathlib import Path

import numpy as np
import pytest
from video_files import cut_off, frame_image, write_video

from d3ke.errors import InvalidInputError
from d3ke_platform.stages.decode import frames, probe


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")]
)
def test_every_frame_with_its_time(tmp_path: Path, name: str, codec: str) -> None:
    path = write_video(tmp_path / name, 12, codec=codec)
    decoded = list(frames(path))
    assert [frame.index for frame in decoded] == list(range(12))
    np.testing.assert_allclose([frame.time_s for frame in decoded], np.arange(12) / 10, atol=2e-3)
    for frame in decoded:
        assert frame.image.dtype == np.uint8
        assert np.abs(frame.image.astype(int) - frame_image(frame.index)).mean() < 4
    info = probe(path)
    assert (info.frame_count, info.width, info.height) == (12, 64, 48)
    assert info.fps == pytest.approx(10, rel=0.05)
    assert info.duration_s == pytest.approx(1.2, abs=0.11)


def test_colours_are_rgb(tmp_path: Path) -> None:
    corner = next(frames(write_video(tmp_path / "a.mp4", 1))).image[2:8, 2:8].mean(axis=(0, 1))
    assert corner[0] > 180
    assert corner[2] < 80


def test_every_second_frame_keeps_its_index(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 7)
    assert [frame.index for frame in frames(path, every=3)] == [0, 3, 6]
    with pytest.raises(InvalidInputError, match="must be 1 or more"):
        next(frames(path, every=0))


@pytest.mark.parametrize(("first", "count"), [(14, 1), (12, 3), (20, None)])
def test_part_beyond_the_end_of_a_video(tmp_path: Path, first: int, count: int | None) -> None:
    path = write_video(tmp_path / "a.mp4", 14)
    with pytest.raises(InvalidInputError, match=f"holds 14 frames; frames {first} to"):
        list(frames(path, first=first, count=count))


def test_uneven_times_are_the_files_own(tmp_path: Path) -> None:
    times = [500, 533, 700, 1100, 1150]
    path = write_video(tmp_path / "a.mkv", 5, times=times)
    expected = (np.array(times) - 500) / 1000
    np.testing.assert_allclose([frame.time_s for frame in frames(path)], expected, atol=2e-3)


def test_empty_missing_and_foreign_files(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    text = tmp_path / "text.mp4"
    text.write_text("no video at all")
    for path, reason in (
        (empty, "empty"),
        (text, "not a video"),
        (tmp_path / "none.mp4", "no such"),
    ):
        with pytest.raises(InvalidInputError, match=reason):
            next(frames(path))
        with pytest.raises(InvalidInputError, match=reason):
            probe(path)


def test_sound_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    with pytest.raises(InvalidInputError, match="no video stream"):
        probe(path)


def test_file_without_its_index_cannot_be_opened(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", 12)
    with pytest.raises(InvalidInputError, match="truncated or not a video"):
        next(frames(cut_off(whole, tmp_path / "cut.mp4", 0.6)))


@pytest.mark.parametrize(("name", "index_first"), [("a.mp4", True), ("a.mkv", False)])
@pytest.mark.parametrize("part", [0.5, 0.8])
def test_video_that_breaks_off_is_refused_at_once(
    tmp_path: Path, name: str, index_first: bool, part: float
) -> None:
    whole = write_video(
        tmp_path / name, 60, codec="mpeg4", size=(320, 240), index_first=index_first
    )
    cut = cut_off(whole, tmp_path / f"cut_{name}", part)
    for attempt in (lambda: next(frames(cut)), lambda: probe(cut)):
        with pytest.raises(InvalidInputError, match=r"after (\d+) frames read") as caught:
            attempt()
        read = int(re.findall(r"after (\d+) frames", str(caught.value))[0])
        assert 60 * part - 15 < read < 60 * part + 15
