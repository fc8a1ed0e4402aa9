from __future__ import annotations

import av
import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke.skeleton import Skeleton
from d3ke_platform.evaluation.real_video import middle_frame, real_video_pictures
from d3ke_platform.schema import RESULTS
from d3ke_platform.storage import write_table

FRAMES = 7


def write_video(path, frames=FRAMES):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 96, "yuv420p"
        for number in range(frames):
            picture = np.full((96, 64, 3), 30 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def scores(tmp_path):
    skeleton = Skeleton.full_body()
    dims = {
        "Q": len(skeleton.coordinates),
        "N": len(skeleton.bodies),
        "J": len(skeleton.joints),
        "M": len(skeleton.markers),
    }
    for view in ("cam1", "cam2"):
        columns = {
            column.name: np.zeros((FRAMES, *column.resolve(dims))) for column in RESULTS.columns
        }
        columns |= {"recording_id": [view] * FRAMES, "time_s": np.arange(FRAMES) / 10}
        write_table(tmp_path / "results" / f"{view}.parquet", RESULTS.to_arrow(columns, dims))
    return tmp_path


def test_middle_frame(tmp_path):
    write_video(tmp_path / "a.mp4")
    frame = middle_frame(tmp_path / "a.mp4")
    assert frame.shape == (96, 64, 3)
    assert abs(frame.astype(float).mean() - 30 * 3) < 6


def test_a_video_without_frames_is_an_error(tmp_path):
    with av.open(str(tmp_path / "empty.mp4"), "w") as container:
        container.add_stream("mpeg4", rate=10)
    with pytest.raises((InvalidInputError, av.FFmpegError)):
        middle_frame(tmp_path / "empty.mp4")


def test_curves_without_overlays(scores):
    shown = real_video_pictures(str(scores), Skeleton.full_body())
    assert [picture.title for picture in shown] == ["Angles in real video"]


def test_stills_and_curves(scores):
    write_video(scores / "exports" / "cam1" / "overlay.mp4")
    shown = real_video_pictures(str(scores), Skeleton.full_body())
    assert [picture.title for picture in shown] == ["Overlay on real video", "Angles in real video"]
    assert all(picture.data_uri.startswith("data:image/") for picture in shown)


def test_nothing_scored(tmp_path):
    assert real_video_pictures(str(tmp_path), Skeleton.full_body()) == []
