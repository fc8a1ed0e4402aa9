"""A scoring job played through, event by event.

Windows of videos, actors that start, items that are handed out one after the other, GPUs that all
workers share: it finds what the arithmetic of `capacity.plan` misses, idle workers at the end of a
window above all.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from d3ke_platform.capacity import Costs, Job


@dataclass(frozen=True, kw_only=True)
class Played:
    """What `simulate` comes to."""

    seconds: float
    frames: int
    worker_busy: float
    """Share of the workers' time in which they had an item."""

    @property
    def frames_per_s(self) -> float:
        """Of the whole job."""
        return self.frames / self.seconds


def simulate(
    videos: list[int], *, workers: int, gpus: int, costs: Costs, job: Job, stages: int = 2
) -> Played:
    """Play a job through.

    Args:
        videos: frames of each video.
        workers: workers that decode.
        gpus: GPUs they share; 0: each worker has the network itself.
        costs: of a frame and an item.
        job: windows and parts.
        stages: 1: videos are only estimated; 2: and finished.
    """
    clock = busy = 0.0
    for first in range(0, len(videos), job.window_videos):
        window = videos[first : first + job.window_videos]
        whole = [frames for frames in window if frames <= job.part_frames]
        long = [frames for frames in window if frames > job.part_frames]
        parts = [
            min(job.part_frames, frames - start)
            for frames in long
            for start in range(0, frames, job.part_frames)
        ]
        rounds = [[*whole, *([0] * len(long))], parts]
        for items in rounds:
            if items:
                clock, worked = _round(items, clock, workers, gpus, costs, estimating=True)
                busy += worked
        if stages > 1:
            clock, worked = _round(window, clock, workers, 0, costs, estimating=False)
            busy += worked
    return Played(
        seconds=clock, frames=sum(videos), worker_busy=busy / (workers * clock) if clock else 0.0
    )


def _round(
    items: list[int], clock: float, workers: int, gpus: int, costs: Costs, *, estimating: bool
) -> tuple[float, float]:
    """One stage over its items: when it ends, and the seconds that its workers had items."""
    count = min(workers, len(items))
    # Workers by when they are free; at first, when they have started.
    free = [clock + costs.start_s] * count
    ends: list[float] = []
    handed, busy = clock + costs.start_s, 0.0
    own_network = estimating and not gpus
    alone = (costs.worker_s if estimating else costs.finish_s) + costs.network_s * own_network
    for number, frames in enumerate(items):
        handed += 1.0 / costs.handed_out_per_s
        start = max(heapq.heappop(free), handed)
        while ends and ends[0] <= start:
            heapq.heappop(ends)
        per_frame = alone
        if estimating and gpus:
            # Those that start at the same moment share the GPUs as well.
            sharing = min(count, len(ends) + len(items) - number)
            per_frame = max(alone, sharing / (gpus * costs.gpu_frames_per_s))
        end = start + frames * per_frame
        busy += end - start
        heapq.heappush(free, end)
        heapq.heappush(ends, end)
    return max(free), busy
