"""How fast videos are estimated, from a moment of one of them."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from d3ke_platform.stages.local_copy import local_copy
from d3ke_platform.stages.score_video import ScoreVideo

SAMPLE_FRAMES = 128


class SpeedSample(ScoreVideo):
    """Decodes, crops and estimates the first frames of a video, and writes nothing."""

    name = "sample"

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: a video, as of `ScoreVideo`; returns {"uri", "frames_per_second"} of one worker."""
        recording, record = self.look(item)
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
        rate = frames / seconds if frames and seconds > 0 else 0.0
        return [{"uri": recording.uri, "frames_per_second": rate}]
