"""A model bundle with random weights, and estimates to go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3ke.camera import Camera, box_of_points, crop_camera, project
from d3ke.networks import (
    Estimate,
    FrameNetwork,
    FrameNetworkConfig,
    PredictionHead,
    SequenceNetwork,
    SequenceNetworkConfig,
    save_bundle,
)
from d3ke.rotations import axis_angle_to_matrix
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton, full_body_model_path
from d3ke_platform.stages.estimate import EstimateArrays

CROP = {"stored_size": 160, "field_of_view": 1.2, "margin": 1.25}
FPS = 10.0


def write_random_bundle(
    folder: Path,
    *,
    sequence: bool = True,
    seed: int = 0,
    backbone: str = "resnet18_half",
    image_size: int = 128,
) -> Path:
    """The sequence network has random weights, so it changes things."""
    torch.manual_seed(seed)
    skeleton, measurements = Skeleton.full_body(), MeasurementSet.full_body()
    predicted = PredictedSet.full_body()
    head = PredictionHead(skeleton, measurements, predicted)
    frame_config = FrameNetworkConfig(backbone=backbone, image_size=image_size)
    sequence_config = SequenceNetworkConfig(kind="lstm", window=9, width=16, layers=1)
    sequence_state = None
    if sequence:
        network = SequenceNetwork(sequence_config, head)
        torch.nn.init.normal_(network.output.weight, std=0.5)
        sequence_state = network.state_dict()
    return save_bundle(
        folder,
        skeleton=skeleton,
        measurements=measurements,
        predicted=predicted,
        frame_config=frame_config,
        frame_state=FrameNetwork(frame_config, head).state_dict(),
        sequence_config=sequence_config if sequence else None,
        sequence_state=sequence_state,
        settings={"crop": {**CROP, "stored_size": image_size * 5 // 4}, "fps": FPS},
        card="random weights",
        model_osim=full_body_model_path(),
    )


def random_rotations(count: int, seed: int = 0, spread: float = 0.4) -> np.ndarray:
    """[n,3,3] turns of up to about `spread` rad."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    angle = spread * torch.randn(count, generator=generator)
    return axis_angle_to_matrix(axis.double(), angle.double()).numpy()


def random_estimates(bundle: Any, count: int, camera: Camera, seed: int = 0) -> dict[str, Any]:
    """ESTIMATES columns of a person about 4 m away, with the boxes their own markers give."""
    generator = torch.Generator().manual_seed(seed)
    head = bundle.head
    drawn = head.decode(0.3 * torch.randn(count, head.size, generator=generator))
    locked = bundle.skeleton.coordinate_locked[head.coordinate_index.numpy()]
    drawn.coordinates[:, locked] = 0.0
    walk = np.linspace(-0.4, 0.4, count)
    ground = np.stack([np.full(count, -4.0), np.zeros(count), walk], axis=1)
    rotation = random_rotations(count, seed)
    box, crops = [], []
    for row in range(count):
        estimate = Estimate(*(value[row].double() for value in drawn))
        pose = head.pose(estimate._replace(root_rotation=torch.from_numpy(rotation[row])))
        box.append(box_of_points(project(camera, pose.markers.numpy() + ground[row])))
        margin = CROP["field_of_view"] * CROP["margin"]
        crops.append(crop_camera(camera, box[-1], size=int(CROP["stored_size"]), margin=margin))
    crop_rotation = np.stack([crop.rotation for crop in crops])
    return {
        "recording_id": np.array(["r"] * count, object),
        "person": np.zeros(count, np.int32),
        "frame": np.arange(count, dtype=np.int32),
        "time_s": np.arange(count) / FPS,
        "coordinates": drawn.coordinates.double().numpy(),
        "root_rotation": crop_rotation @ rotation,
        "measurement_factors": drawn.factors.double().numpy(),
        "box": np.stack(box),
        "confidence": np.ones(count),
        "crop_intrinsics": np.stack([crop.intrinsics for crop in crops]),
        "crop_rotation": crop_rotation,
        "crop_translation": np.stack([crop.translation for crop in crops]),
    }


def as_estimate(columns: dict[str, Any]) -> EstimateArrays:
    names = ("coordinates", "root_rotation", "measurement_factors")
    return EstimateArrays(*(columns[name] for name in names))
