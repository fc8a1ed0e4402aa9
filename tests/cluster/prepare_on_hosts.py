"""Prepares eight small trials in a process of its own, locally or as a job: OUTPUT."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "d3ke_platform"))

import layer_source
import ray
from layer_source import LayerSource

from d3ke_platform import runtime
from d3ke_platform.pipelines.prepare import prepare
from d3ke_platform.pipelines.prepare_settings import CropSettings, PrepareSettings

SOURCE = LayerSource(
    subjects=("s1", "s2"),
    movements=tuple(f"bend{number}" for number in range(4)),
    damage=(("trials/s2_bend3.trc", "empty"),),
)

if __name__ == "__main__":
    ray.cloudpickle.register_pickle_by_value(layer_source)
    settings = PrepareSettings(
        output=sys.argv[1], crop=CropSettings(stored_size=32), detector="none"
    )
    with runtime.connect():
        prepare(settings, source=SOURCE)
