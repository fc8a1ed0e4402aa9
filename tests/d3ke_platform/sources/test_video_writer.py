"""Written videos: exact frames and rate, close to the frames given, all or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke_platform.sources.texture import noise_texture
from d3ke_platform.sources.video import VideoWriter


def frames(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    picture = noise_texture(rng, size=96, base=np.full(3, 0.5), contrast=0.1)
    return [np.roll(picture, 3 * i, axis=1)[:64] for i in range(count)]


def write(path: Path, pictures: list[np.ndarray], fps: float = 10.0) -> None:
    with VideoWriter(path, size=(96, 64), fps=fps) as writer:
        for picture in pictures:
            writer.write(picture)
    assert writer.frame_count == len(pictures)


@pytest.mark.parametrize("fps", [10.0, 29.97])
def test_frames_rate_and_content(tmp_path: Path, fps: float) -> None:
    pictures = frames(17)
    write(tmp_path / "sub" / "a.mp4", pictures, fps)
    with av.open(str(tmp_path / "sub" / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(fps).limit_denominator(100_000)
        decoded = list(container.decode(stream))
    assert len(decoded) == 17
    np.testing.assert_allclose([f.time for f in decoded], np.arange(17) / fps, atol=1e-3)
    for frame, picture in zip(decoded, pictures, strict=True):
        error = frame.to_ndarray(format="rgb24").astype(float) - picture
        assert np.sqrt((error**2).mean()) < 8


ENCODE = """
import sys
from pathlib import Path
import numpy as np
from d3ke_platform.sources.texture import noise_texture
from d3ke_platform.sources.video import VideoWriter
rng = np.random.default_rng(0)
with VideoWriter(Path(sys.argv[1]), size=(320, 320), fps=10.0) as writer:
    for _ in range(7):
        picture = noise_texture(rng, size=320, base=np.full(3, 0.5), contrast=0.1)
        writer.write(np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8))
"""


def test_same_frames_same_bytes_whatever_memory_held_before(tmp_path: Path) -> None:
    contents = set()
    for fill in ("0", "85", "170"):
        path = tmp_path / f"{fill}.mp4"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "MALLOC_PERTURB_": fill,
            "MALLOC_MMAP_THRESHOLD_": "100000000",
        }
        subprocess.run([sys.executable, "-c", ENCODE, str(path)], env=environment, check=True)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_nothing_is_left_of_a_failed_video(tmp_path: Path) -> None:
    pictures = [*frames(2), np.zeros((32, 32, 3), np.uint8)]
    with pytest.raises(InvalidInputError, match="frame"):
        write(tmp_path / "a.mp4", pictures)
    with pytest.raises(InvalidInputError, match="no frames"):
        write(tmp_path / "b.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_bad_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="even"):
        VideoWriter(tmp_path / "a.mp4", size=(95, 64), fps=10.0)
    with pytest.raises(InvalidInputError, match="per second"):
        VideoWriter(tmp_path / "a.mp4", size=(96, 64), fps=0.0)
