"""An hour of full HD, stage by stage: time and memory follow neither its length nor its place."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from random_bundle import write_random_bundle
from score_cases import make_plan
from video_files import write_long_video

from d3ke_platform import storage
from d3ke_platform.schema import ESTIMATES
from d3ke_platform.stages.decode import frames
from d3ke_platform.stages.finish_recording import FinishRecording
from d3ke_platform.stages.score_video import ScoreVideo
from d3ke_platform.stages.scores_folder import ScoredVideo, estimates_uri, read_scored, write_scored
from d3ke_platform.stages.video_index import index_video

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
HOUR_S, FPS = 3600, 25
BUDGET_BYTES = 4e9


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_long_video(tmp_path_factory.mktemp("hour") / "hour.mp4", seconds=HOUR_S)


@contextmanager
def children_watched() -> Iterator[Counter[str]]:
    """Highest resident memory of this process ("own") and of its children together, bytes."""
    peaks: Counter[str] = Counter()
    ended = threading.Event()

    def sample() -> None:
        process = psutil.Process()
        while not ended.wait(0.2):
            used = 0
            for child in process.children(recursive=True):
                try:
                    used += child.memory_info().rss
                except psutil.Error:
                    continue
            peaks["children"] = max(peaks["children"], used)
            peaks["own"] = max(peaks["own"], process.memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def test_the_end_of_an_hour_is_reached_as_fast_as_its_start(hour: Path) -> None:
    process = psutil.Process()
    before, began = process.memory_info().rss, time.process_time()
    index = index_video(hour)
    indexed_s = time.process_time() - began
    assert index.frame_count == HOUR_S * FPS
    seconds = []
    for first in (0, index.frame_count - 100):
        part = index.part(first, 100)
        began = time.process_time()
        pictures = sum(1 for _ in frames(hour, first=first, count=100, index=part))
        seconds.append(time.process_time() - began)
        assert pictures == 100
    assert seconds[1] < 3 * seconds[0] + 1.0
    assert indexed_s < 20 * seconds[0]  # an hour's packets, against four seconds' pictures
    assert process.memory_info().rss - before < 300e6


def test_memory_of_the_stages(hour: Path, tmp_path: Path) -> None:
    """Decoding and estimating at the end of the hour, then finishing an hour of estimates."""
    bundle = write_random_bundle(tmp_path / "bundle")
    plan = make_plan(bundle, tmp_path / "scores", segment_frames=512, batch_size=32)
    item = {"uri": str(hour), "camera": None, "start_s": HOUR_S - 512 / FPS, "end_s": None}
    with children_watched() as estimating:
        (row,) = ScoreVideo(plan)(item)
    assert row["estimated"] == 512
    name = repeat_over_the_hour(plan.folder, row["recording_id"])
    with children_watched() as finishing:
        (done,) = FinishRecording(plan)({"recording_id": name})
    assert done["counts"]["rows"] == HOUR_S * FPS
    peaks = {"estimate": dict(estimating), "finish": dict(finishing)}
    (tmp_path / "peaks.json").write_text(json.dumps(peaks))
    assert sum(estimating.values()) < BUDGET_BYTES, peaks
    assert sum(finishing.values()) < BUDGET_BYTES, peaks


def repeat_over_the_hour(run: str, recording_id: str) -> str:
    """The one segment's estimates as those of every segment of the hour; returns the new name."""
    last = read_scored(run, recording_id)
    assert last is not None
    (file,) = storage.list_files(estimates_uri(run, recording_id), ".parquet")
    table = storage.read_table(file)
    about = json.loads(table.schema.metadata[b"segment"])
    scored: ScoredVideo = replace(
        last, recording_id="hour", first_frame=0, frames=HOUR_S * FPS, key="repeated"
    )
    write_scored(run, scored)
    columns = ESTIMATES.to_numpy(table)
    dims = {"P": columns["coordinates"].shape[1], "S": columns["measurement_factors"].shape[1]}
    for number in range(scored.segments):
        rows = min(512, scored.frames - number * 512)
        part = {key: values[:rows] for key, values in columns.items()}
        part["frame"] = (number * 512 + np.arange(rows)).astype(np.int32)
        part["time_s"] = part["frame"] / FPS
        part["recording_id"] = ["hour"] * rows
        made = ESTIMATES.to_arrow(part, dims)
        told = json.dumps({**about, "number": number, "frames": rows}).encode()
        metadata = {**(made.schema.metadata or {}), b"segment": told}
        uri = scored.segment_uri(run, number)
        storage.write_table(uri, made.replace_schema_metadata(metadata))
    return "hour"
