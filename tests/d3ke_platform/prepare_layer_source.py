"""Prepares a small data set in a process of its own, to be killed: OUTPUT as the only argument."""

from __future__ import annotations

import sys
from pathlib import Path

import layer_source
import ray
from layer_source import LayerSource

from d3ke_platform import runtime
from d3ke_platform.pipelines.prepare import prepare
from d3ke_platform.pipelines.prepare_settings import CropSettings, PrepareSettings

SOURCE = LayerSource(
    subjects=("s1", "s2"),
    movements=("bend", "turn", "empty"),
    damage=(("trials/s2_empty.trc", "empty"), ("videos/s1_turn_cam.mp4", "truncate")),
)


def settings(output: Path) -> PrepareSettings:
    return PrepareSettings(output=str(output), crop=CropSettings(stored_size=32), detector="none")


if __name__ == "__main__":
    ray.cloudpickle.register_pickle_by_value(layer_source)
    with runtime.connect():
        prepare(settings(Path(sys.argv[1])), source=SOURCE)
