"""Videos that do harm, and videos full of people; without PyTorch, as children start with it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from d3ke_platform.stages.crop_video import CropBatch, CropJob, CropVideo
from d3ke_platform.stages.decode import Frame, VideoInfo
from d3ke_platform.stages.detect import Detection, PersonFinder


class HarmfulVideos(CropVideo):
    """Does what hostile files make native code do, by the file's name."""

    def probe(self, path: Path) -> VideoInfo:
        info = super().probe(path)
        if "probe-crash" in path.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        return info

    def crops(self, job: CropJob) -> Iterator[CropBatch | None]:
        name = job.path.name
        for number, batch in enumerate(super().crops(job)):
            yield batch
            if number == 0 and "crash" in name:
                time.sleep(0.3)
                os.kill(os.getpid(), signal.SIGSEGV)
            if number == 0 and "once" in name and not (job.path.parent / "crashed").exists():
                (job.path.parent / "crashed").touch()
                os._exit(1)
            if "hang" in name:
                time.sleep(600)
            if "memory" in name:
                np.ones(10**10, np.uint8)


class TwoPeople:
    """Sees two people who walk past each other, in most frames."""

    name = "two"
    smooth = True
    every_frame = False

    def people(self, frame: Frame) -> list[Detection]:
        width = frame.image.shape[1]
        place = frame.index / 30 * (width - 20)
        found = [
            Detection(np.array([place, 4.0, place + 14, 44.0]), 0.9),
            Detection(np.array([width - 24 - place, 12.0, width - 4 - place, 40.0]), 0.8),
        ]
        return found[1:] if frame.index % 7 == 3 else found


class CrowdedVideos(CropVideo):
    """Every video shows the same two people."""

    def _finder_for(self, job: CropJob) -> PersonFinder:
        return TwoPeople()
