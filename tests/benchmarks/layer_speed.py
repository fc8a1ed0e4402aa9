"""Poses per second of the skeletal-model layer, beside OpenSim's forward kinematics.

Run by `make benchmark`, not by pytest: its type checks of array shapes would be timed too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from d3ke.kinematics.opensim_library import load_model
from d3ke.skeleton import SkeletalModelLayer, Skeleton, full_body_model_path

BATCHES = (1, 256)


def main() -> None:
    """Print one row per way to compute poses and batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="arithmetic threads of PyTorch")
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each figure")
    parser.add_argument("--compile", action="store_true", help="torch.compile as well (a minute)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table(title=f"Built-in model, float32, {options.threads} thread(s), median")
    for column in ("implementation", "batch", "forward poses/s", "forward + backward poses/s"):
        table.add_column(column, justify="left" if column == "implementation" else "right")
    for name, batch, forward, both in rows(compiled=options.compile, seconds=options.seconds):
        table.add_row(name, str(batch), f"{forward:,.0f}", "-" if both is None else f"{both:,.0f}")
    Console().print(table)


def rows(*, compiled: bool, seconds: float) -> Iterator[tuple[str, int, float, float | None]]:
    """Name, batch size, poses/s forward, poses/s forward and backward (None: has none)."""
    skeleton = Skeleton.full_body()
    layers = {"layer": SkeletalModelLayer(skeleton)}
    if compiled:
        layers["layer, torch.compile"] = torch.compile(SkeletalModelLayer(skeleton))
    for name, layer in layers.items():
        for batch in BATCHES:
            coordinates = 0.1 * torch.randn(batch, len(skeleton.coordinates))
            scales = torch.ones(batch, len(skeleton.bodies), 3)
            with torch.no_grad():
                forward = batch / median_seconds(partial(layer, coordinates, scales), seconds)
            both = batch / median_seconds(gradient(layer, coordinates, scales), seconds)
            yield name, batch, forward, both
    yield "OpenSim", 1, 1 / opensim_seconds(skeleton, seconds), None


def gradient(
    layer: Callable[..., object], coordinates: torch.Tensor, scales: torch.Tensor
) -> Callable[[], object]:
    """A call of the layer and its gradients with respect to angles and scales."""
    inputs = coordinates.clone().requires_grad_(), scales.clone().requires_grad_()

    def run() -> object:
        pose = layer(*inputs)
        return torch.autograd.grad(pose.markers.sum() + pose.joint_centers.sum(), inputs)

    return run


def opensim_seconds(skeleton: Skeleton, seconds: float) -> float:
    """Seconds of one pose: set the coordinates, realize the position, read all markers."""
    model = load_model(full_body_model_path())
    state = model.initSystem()
    free = [c for c in model.getCoordinateSet() if not c.isDependent(state)]
    markers = list(model.getMarkerSet())
    assert len(markers) == len(skeleton.markers)

    def run() -> object:
        for coordinate in free:
            coordinate.setValue(state, 0.0, False)
        model.realizePosition(state)
        return [marker.getLocationInGround(state) for marker in markers]

    return median_seconds(run, seconds)


def median_seconds(run: Callable[[], object], seconds: float) -> float:
    """Median time of a call, after three that are not counted."""
    for _ in range(3):
        run()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
