"""Training under Ray Train beside the same steps in plain PyTorch, and how long a step waits.

Run by `make benchmark`. One worker trains the per-frame network on the crops of a data set: under
Ray Train with the product's loop, in this process with the product's loop, and with the shortest
loop that one would write by hand on the same batches. Start-up is not counted. The orders
alternate, since a machine's speed drifts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from fake_data import make_data_set
from machine import machine
from rich.console import Console
from rich.table import Table

from d3ke_platform import runtime
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.settings import FrameTraining
from d3ke_platform.training.trainer import Resources, fit
from d3ke_platform.training.worker import LocalWorker

EPOCHS = 2
"""The first warms up and is not counted."""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="", help="prepared data set; default: a drawn one")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image-size", type=int, default=128, help="px")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=200, help="steps that are timed")
    parser.add_argument("--runs", type=int, default=1, help="times each way is run")
    options = parser.parse_args()
    console = Console(width=110)
    console.print(machine())
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or drawn(Path(folder) / "data", options)
        job = FrameJob(
            data=data,
            settings=FrameTraining(
                backbone=options.backbone,
                image_size=options.image_size,
                batch_size=options.batch_size,
                epochs=(EPOCHS,),
                learning_rate_start=(1e-4,),
                learning_rate_end=(1e-4,),
                schedule_by="step",
            ),
            seed=1,
        )
        ways: dict[str, list[tuple[float, float]]] = {"plain": [], "loop": [], "ray": []}
        with runtime.connect():
            for run in range(options.runs):
                for way in sorted(ways, reverse=bool(run % 2)):
                    ways[way].append(WAYS[way](job, Path(folder) / f"{way}{run}"))
    console.print(table(ways, options))


def drawn(folder: Path, options: argparse.Namespace) -> str:
    """A data set with so many crops that an epoch has the steps asked for."""
    stored = options.image_size * 5 // 4
    frames = 40
    needed = options.steps * options.batch_size
    people = -(-needed // (2 * 2 * frames * 5 // 6))  # two trials, two cameras, a sixth unlabelled
    data = make_data_set(
        folder,
        subjects={"train": people, "validation": 1},
        frames=frames,
        stored_size=stored,
    )
    return data.root


def plain(job: FrameJob, folder: Path) -> tuple[float, float]:
    """Seconds a step of the loop written by hand, and the share of them it waited for a batch."""
    task = job.task(LocalWorker(folder))
    optimizer = torch.optim.AdamW(task.module.parameters(), lr=1e-4, fused=True)
    task.module.train()
    waited, began, steps = 0.0, 0.0, 0
    for epoch in range(EPOCHS):
        began, waited, steps = time.perf_counter(), 0.0, 0
        mark = began
        for batch in task.batches(epoch):
            waited += time.perf_counter() - mark
            optimizer.zero_grad(set_to_none=True)
            task.losses(task.module, batch)["total"].backward()
            optimizer.step()
            steps += 1
            mark = time.perf_counter()
    seconds = time.perf_counter() - began
    return seconds / steps, waited / seconds


def loop(job: FrameJob, folder: Path, *, workers: int = 0) -> tuple[float, float]:
    """The same of the product's loop in this process (or on Ray Train's workers)."""
    folder.mkdir()
    progress = folder / "progress.jsonl"
    steps = job.task(LocalWorker(folder)).steps_per_epoch
    fit(
        job,
        folder,
        run_name="speed",
        resources=Resources(workers=workers, workers_on_node=1),
        progress=progress,
    )
    last = read_rows(progress)[-1]
    return last["train_s"] / steps, last["wait_s"] / last["train_s"]


def ray(job: FrameJob, folder: Path) -> tuple[float, float]:
    """The same of one worker of Ray Train."""
    return loop(job, folder, workers=1)


WAYS = {"plain": plain, "loop": loop, "ray": ray}
NAMES = {
    "plain": "plain PyTorch, written by hand",
    "loop": "the product's loop, in process",
    "ray": "the product's loop, Ray Train, one worker",
}


def table(ways: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> Table:
    """Milliseconds a step, the ratio to plain PyTorch, and the wait for data."""
    title = f"{options.backbone}, {options.image_size} px, batches of {options.batch_size}"
    found = Table(title=title)
    for column in ("", "ms a step", "to plain PyTorch", "waits for data"):
        found.add_column(column, justify="left" if not column else "right")
    base = statistics.median(seconds for seconds, _ in ways["plain"])
    for way, runs in ways.items():
        seconds = statistics.median(one for one, _ in runs)
        waits = statistics.median(share for _, share in runs)
        found.add_row(
            NAMES[way], f"{1e3 * seconds:.1f}", f"{seconds / base:.3f}", f"{100 * waits:.1f} %"
        )
    return found


if __name__ == "__main__":
    main()
