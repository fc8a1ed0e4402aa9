"""How fast videos are scored, from a moment of one of them."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from typing import Any

from d3ke_platform import storage
from d3ke_platform.stages.crop_network import CropNetwork
from d3ke_platform.stages.finish_recording import FinishRecording
from d3ke_platform.stages.local_copy import local_copy
from d3ke_platform.stages.score_plan import ScorePlan
from d3ke_platform.stages.score_video import ScoreVideo
from d3ke_platform.stages.scores_folder import ScoredVideo, exports_uri, results_uri
from d3ke_platform.stages.video_record import VideoRecord

SAMPLE_FRAMES = 128


class SpeedSample(ScoreVideo):
    """Scores the first frames of a video into a folder that is deleted."""

    name = "sample"

    def __init__(self, plan: ScorePlan, *, network: CropNetwork | None = None) -> None:
        """As of `ScoreVideo`."""
        self._scratch = tempfile.TemporaryDirectory(prefix="d3ke-")
        # In one go, however short the segments are.
        alone = replace(plan, output=self._scratch.name, part_segments=SAMPLE_FRAMES)
        super().__init__(alone, network=network)

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: a video, as of `ScoreVideo`; returns {"uri", "frames_per_second"} of one worker."""
        recording, record = self.look(item)
        rate = self._estimating(recording, record)
        if rate and self._plan.exports:
            rate = 1 / (1 / rate + self._finishing_s(item, recording, record.index.fps))
        return [{"uri": recording.uri, "frames_per_second": rate}]

    def _estimating(self, recording: ScoredVideo, record: VideoRecord) -> float:
        """Frames estimated per second."""
        assert self._network is not None
        count = min(SAMPLE_FRAMES, recording.frames)
        frames, began = 0, 0.0
        with local_copy(recording.uri, content_hash=recording.content_hash) as copy:
            segments = -(-count // recording.segment_frames)
            job = self._job(recording, record, copy.path)(0, segments)
            first, size = recording.first_frame, max(1, count // 4)
            job = replace(job, first=first, last=first + count, batch_size=size)
            for batch in self._child.stream("crops", job):
                if len(batch.images):
                    self._network.result(self._network.submit(batch.images))
                # The first batch pays for loading the detector, and is not counted.
                frames += len(batch.images) if began else 0
                began = began or time.perf_counter()
        seconds = time.perf_counter() - began
        return frames / seconds if frames and seconds > 0 else 0.0

    def _finishing_s(self, item: dict[str, Any], recording: ScoredVideo, fps: float) -> float:
        """Seconds per frame for results and exports; what a video costs however short it is makes
        it too much rather than too little."""
        start = float(item.get("start_s") or 0.0)
        end = start + min(SAMPLE_FRAMES, recording.frames) / fps
        (row,) = super().__call__({**item, "start_s": start, "end_s": end})
        if "reason" in row:
            return 0.0
        finish = FinishRecording(self._plan)
        for _ in range(2):  # the first one pays for loading OpenSim
            for locate in (results_uri, exports_uri):
                storage.remove(locate(self._plan.folder, row["recording_id"]))
            (done,) = finish(row)
            if "reason" in done:
                return 0.0
        return float(sum(done["seconds"].values())) / row["frames"]
