"""A video from a bucket into a bucket: the rows of a local one, and nothing done or read twice."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from object_store import S3Server, s3_server
from score_cases import make_plan
from video_files import write_video

from d3ke_platform import storage
from d3ke_platform.stages.finish_recording import FinishRecording
from d3ke_platform.stages.score_video import ScoreVideo
from d3ke_platform.stages.scores_folder import estimates_uri, read_scored, results_uri
from d3ke_platform.stages.segment_files import read_estimates

__all__ = ["s3_server"]


@pytest.mark.slow
def test_a_video_from_bucket_to_bucket(
    s3_server: S3Server, random_bundle: Path, tmp_path: Path
) -> None:
    video = write_video(tmp_path / "a walk 50%.mp4", 20, b_frames=2)
    uri = f"{s3_server.bucket()}/in/a walk 50%.mp4"
    storage.write_bytes(uri, video.read_bytes())
    local = make_plan(random_bundle, tmp_path / "scores")
    remote = replace(local, output=f"{s3_server.bucket()}/scores")
    found = {}
    for plan, place in ((local, str(video)), (remote, uri)):
        stage = ScoreVideo(plan)
        (row,) = stage({"uri": place, "camera": None})
        assert row["estimated"] == 20
        name = row["recording_id"]
        scored = read_scored(plan.folder, name)
        assert scored is not None
        found[place] = read_estimates(plan.folder, scored).columns
    for column, values in found[str(video)].items():
        np.testing.assert_array_equal(values, found[uri][column])
    (done,) = FinishRecording(remote)({"recording_id": name})
    assert done["counts"]["rows"] == 20
    assert storage.exists(results_uri(remote.folder, name))
    assert video_downloads(s3_server) == 1  # to look at it and to score it
    # Nothing is missing: the video is not even downloaded.
    (row,) = stage({"uri": uri, "camera": None})
    assert (row["estimated"], row["counts"]["rows"]) == (0, 20)
    assert video_downloads(s3_server) == 1
    # One segment is: only that is made again.
    segment = storage.list_files(estimates_uri(remote.folder, name), ".parquet")[1]
    before = storage.read_table(segment)
    storage.remove(segment)
    storage.remove(results_uri(remote.folder, name))
    (row,) = stage({"uri": uri, "camera": None})
    assert row["estimated"] == 8
    assert storage.read_table(segment) == before


def video_downloads(server: S3Server) -> int:
    """How often the video's first bytes have been asked for."""
    return sum(bool(re.search(r"GET /\S+/in/a%20walk", line)) for line in server.requests())
