"""Model bundles from finished trainings."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from d3ke.networks.bundle import save_bundle
from d3ke_platform.storage import DataSet
from d3ke_platform.training.settings import TrainSettings

_CARD = """# D3KE model

Estimates joint angles, body scales and the orientation of the pelvis of an OpenSim model from
crops of single-camera video.

- Trained on: data set {data_hash}, source {source}, {fps:g} frames per second
- Image network: {backbone}, {image_size} px
- Sequence network: {sequence}
- Validation subjects: {metrics}

The errors are those of people, rooms and movements like those of the training data. Other
footage may be much worse: compare with reference measurements before use. Not a medical device.
"""


def build_bundle(
    folder: Path,
    *,
    data: DataSet,
    data_hash: str,
    settings: TrainSettings,
    fps: float,
    frame: dict[str, Tensor],
    sequence: dict[str, Tensor] | None,
    metrics: dict[str, float],
) -> None:
    """Write the bundle `folder`; `metrics` are validation errors for the card and the record."""
    # JSON has no NaN: an error that had nothing to be measured on is left out.
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    config = settings.sequence
    card = _CARD.format(
        data_hash=data_hash,
        source=data.description["source"],
        fps=fps,
        backbone=settings.frame.backbone,
        image_size=settings.frame.image_size,
        sequence="none" if sequence is None else f"{config.kind}, {config.window} frames",
        metrics=", ".join(f"{name} {value:.3g}" for name, value in metrics.items()),
    )
    save_bundle(
        folder,
        skeleton=data.skeleton(),
        measurements=data.measurements(),
        predicted=data.predicted(),
        # Whoever loads the bundle gets all weights from it, not the backbone's first ones.
        frame_config=replace(settings.frame.network(), weights=""),
        frame_state=frame,
        sequence_config=None if sequence is None else config.network(),
        sequence_state=sequence,
        settings={
            "crop": data.crop,
            "fps": fps,
            "data_hash": data_hash,
            "validation": metrics,
            "training": asdict(settings),
        },
        card=card,
        model_osim=data.model_osim,
    )
