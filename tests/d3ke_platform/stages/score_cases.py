"""What tests of scoring share: plans, a plain script to compare with, a slow network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3ke.camera import Camera, crop_camera, warp
from d3ke.networks.bundle import load_bundle
from d3ke_platform.stages.crop_video import CropRule
from d3ke_platform.stages.decode import frames
from d3ke_platform.stages.detect import DetectorChoice
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
