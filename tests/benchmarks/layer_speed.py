"""Poses per second of the skeletal-model layer, beside a joint after the other and OpenSim.

Run by `make benchmark`, not by pytest: its type checks of array shapes would be timed too. All
take the 69 coordinates that the networks predict and give the bodies, joints and supervised
markers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from joint_by_joint import JointByJoint
from machine import machine, median_seconds
from rich.console import Console
from rich.table import Table
from torch import Tensor

from d3ke.kinematics.opensim_library import load_model
from d3ke.skeleton import (
    Pose,
    PredictedSet,
    SkeletalModelLayer,
    Skeleton,
    full_body_model_path,
)

Implementation = Callable[..., Pose]

CPU_BATCHES = (1, 256)
GPU_BATCHES = (256, 4096, 65536)
PLAIN, EAGER, COMPILED = "joint by joint", "layer", "layer, torch.compile"


@dataclass(frozen=True)
class Speed:
    """Poses per second."""

    forward: float
    both: float | None
    """Forward and backward; None where there is no backward."""


ASKED = {1: Speed(4_000, 1_500), 256: Speed(60_000, 20_000)}
"""On the CPU, by batch size."""
ASKED_RATIOS = {1: Speed(100, 150), 256: Speed(8, 14)}
"""To joint by joint in the same run."""


def main() -> None:
    """Print one row per way to compute poses and batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="arithmetic threads of PyTorch")
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each figure")
    parser.add_argument("--scales", action="store_true", help="scale factors as input as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    bench = Bench(seconds=options.seconds, scaled=options.scales)
    what = "coordinates and scales" if options.scales else "coordinates"
    console = Console()
    console.print(machine())
    title = f"Built-in model, float32, by {what}, median poses/s"
    console.print(table(f"{title}, CPU", bench, "cpu", CPU_BATCHES))
    if torch.cuda.is_available():
        console.print(table(f"{title}, GPU", bench, "cuda", GPU_BATCHES))


def table(title: str, bench: Bench, device: str, batches: tuple[int, ...]) -> Table:
    """A section per batch size; ratios are to joint by joint."""
    found = Table(title=title)
    for column in ("implementation", "batch", "forward", "ratio", "forward + backward", "ratio"):
        found.add_column(column, justify="left" if column == "implementation" else "right")
    for batch in batches:
        speeds = dict(bench.speeds(batch, device))
        for name, speed in speeds.items():
            found.add_row(name, str(batch), *cells(speed, ratios(speed, speeds[PLAIN])))
        if device == "cpu":
            figures = cells(ASKED[batch], ASKED_RATIOS[batch])
            found.add_row("asked of the layer", str(batch), *figures, style="dim")
        found.add_section()
    return found


def ratios(speed: Speed, plain: Speed) -> Speed:
    """How many times as fast."""
    both = None if speed.both is None or plain.both is None else speed.both / plain.both
    return Speed(speed.forward / plain.forward, both)


def cells(speed: Speed, ratio: Speed) -> list[str]:
    """Forward, its ratio, forward and backward, its ratio."""
    return [
        f"{speed.forward:,.0f}",
        f"{ratio.forward:.1f}",
        "-" if speed.both is None else f"{speed.both:,.0f}",
        "-" if ratio.both is None else f"{ratio.both:.1f}",
    ]


class Bench:
    """The implementations and what they are timed on."""

    def __init__(self, *, seconds: float, scaled: bool) -> None:
        predicted = PredictedSet.full_body()
        self.seconds, self.scaled = seconds, scaled
        self.coordinates = predicted.coordinates
        self.skeleton = Skeleton.full_body().select_markers(tuple(predicted.marker_loss_weights))

    def speeds(self, batch: int, device: str) -> Iterator[tuple[str, Speed]]:
        """Side by side at one batch size."""
        for name, implementation in self.implementations(device):
            yield name, self.speed(implementation, batch, device)
        if batch == 1:
            yield "OpenSim", Speed(1 / self.opensim_seconds(), None)

    def implementations(self, device: str) -> Iterator[tuple[str, Implementation]]:
        """Each made when it is its turn."""
        yield PLAIN, self.plain(device)
        layer = SkeletalModelLayer(self.skeleton, coordinates=self.coordinates).to(device)
        yield EAGER, layer
        torch.compiler.reset()  # a batch size is compiled as such, whatever came before
        if device == "cpu":
            yield COMPILED, torch.compile(layer, dynamic=False)
        else:
            yield f"{COMPILED}, CUDA graph", as_cuda_graph(layer)

    def plain(self, device: str) -> Implementation:
        """One joint after the other, of the selected coordinates."""
        oracle = JointByJoint(self.skeleton, torch.float32, device)
        defaults = torch.tensor(self.skeleton.coordinate_defaults, dtype=torch.float32)
        index = torch.tensor(self.skeleton.index_of("coordinate", self.coordinates))
        defaults, index = defaults.to(device), index.to(device)

        def run(coordinates: Tensor, scales: Tensor | None = None) -> Pose:
            whole = defaults.expand(len(coordinates), -1).index_copy(1, index, coordinates)
            return oracle(whole, scales)

        return run

    def speed(self, implementation: Implementation, batch: int, device: str) -> Speed:
        """Of one implementation at one batch size."""
        inputs = [0.1 * torch.randn(batch, len(self.coordinates), device=device)]
        if self.scaled:
            inputs.append(torch.rand(batch, len(self.skeleton.bodies), 3, device=device) + 0.5)
        with torch.no_grad():
            forward = median_seconds(partial(implementation, *inputs), self.seconds)
        both = median_seconds(gradient(implementation, inputs), self.seconds)
        return Speed(batch / forward, batch / both)

    def opensim_seconds(self) -> float:
        """Set the coordinates, realize the position, read the markers: what no use of it can do
        without. Couplers are not assembled, which would take far longer."""
        model = load_model(full_body_model_path())
        state = model.initSystem()
        chosen = [model.getCoordinateSet().get(name) for name in self.coordinates]
        markers = [model.getMarkerSet().get(name) for name in self.skeleton.markers]

        def run() -> object:
            for coordinate in chosen:
                coordinate.setValue(state, 0.1, False)
            model.realizePosition(state)
            return [marker.getLocationInGround(state) for marker in markers]

        return median_seconds(run, self.seconds)


def as_cuda_graph(layer: SkeletalModelLayer) -> Implementation:
    """Compiled into CUDA graphs, whose results the next call overwrites."""
    compiled = torch.compile(layer, dynamic=False, mode="reduce-overhead")

    def run(*inputs: Tensor) -> Pose:
        torch.compiler.cudagraph_mark_step_begin()
        return compiled(*inputs)

    return run


def gradient(implementation: Implementation, inputs: list[Tensor]) -> Callable[[], object]:
    """A call and its gradients with respect to all inputs."""
    leaves = [part.clone().requires_grad_() for part in inputs]

    def run() -> object:
        pose = implementation(*leaves)
        return torch.autograd.grad(pose.markers.sum() + pose.joint_centers.sum(), leaves)

    return run


if __name__ == "__main__":
    main()
