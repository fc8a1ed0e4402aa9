"""What tests of scoring share: plans, a plain script to compare with, and videos that do harm."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3ke.camera import Camera, crop_camera, warp
from d3ke.networks.bundle import load_bundle
from d3ke_platform.stages.crop_video import CropBatch, CropJob, CropRule, CropVideo
from d3ke_platform.stages.decode import Frame, VideoInfo, frames
from d3ke_platform.stages.detect import Detection, DetectorChoice, PersonFinder
from d3ke_platform.stages.estimate import CropGeometry, EstimateArrays, bundle_dims
from d3ke_platform.stages.score_plan import ScorePlan

WHOLE = DetectorChoice("none", "", "")


def make_plan(bundle_folder: Path, output: Path, **changes: Any) -> ScorePlan:
    """Whole pictures on the CPU, in segments of eight frames."""
    bundle = load_bundle(bundle_folder)
    geometry = CropGeometry.of_bundle(bundle)
    plan = ScorePlan(
        output=str(output),
        run="model-a-settings-b",
        bundle=str(bundle_folder),
        dims=bundle_dims(bundle),
        detector=WHOLE,
        rule=CropRule(
            stored_size=geometry.stored_size,
            cut_size=geometry.cut_size,
            margin=geometry.stored_field_of_view,
        ),
        device="cpu",
        batch_size=5,
        segment_frames=8,
        part_segments=3,
        timeout_s=60.0,
    )
    return replace(plan, **changes)


def plain_script(bundle_folder: Path, video: Path, boxes: np.ndarray) -> EstimateArrays:
    """Decode, crop, predict, one frame after the other, with the network as it was trained."""
    bundle = load_bundle(bundle_folder)
    geometry = CropGeometry.of_bundle(bundle)
    estimates: list[list[np.ndarray]] = []
    for frame, box in zip(frames(video), boxes, strict=True):
        camera = Camera.assumed((frame.image.shape[1], frame.image.shape[0]))
        margin = geometry.stored_field_of_view
        view = crop_camera(camera, box, size=geometry.stored_size, margin=margin)
        picture = torch.from_numpy(warp(frame.image, camera, view)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            estimate = bundle.frame.eval()(geometry.seen(picture))
        estimates.append([value[0].double().numpy() for value in estimate])
    return EstimateArrays(*(np.stack(values) for values in zip(*estimates, strict=True)))


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


class SlowNetwork:
    """A network elsewhere: results come later, two batches may be on their way."""

    ahead = 2

    def __init__(self, network: Any) -> None:
        self._network = network
        self.waiting = self.most = 0

    def submit(self, images: np.ndarray) -> Any:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        return self._network.submit(images)

    def result(self, ticket: Any) -> EstimateArrays:
        self.waiting -= 1
        return self._network.result(ticket)
