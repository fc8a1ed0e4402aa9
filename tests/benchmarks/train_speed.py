"""Training under Ray Train beside the same steps in plain PyTorch, and how long a step waits.

Run by `make benchmark`. One worker trains the per-frame network on the crops of a data set: under
Ray Train with the product's loop, in this process with the product's loop, and with the shortest
loop that one would write by hand on the same batches; with crops in memory, and streamed. Start-up
is not counted. The orders alternate, since a machine's speed drifts. A second table says how much
memory the crops take, by the size of the set.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import torch
from fake_data import make_data_set
from machine import machine
from rich.console import Console
from rich.table import Table

from d3ke_platform import runtime
from d3ke_platform.storage import DataSet
from d3ke_platform.training.crop_files import CropTable
from d3ke_platform.training.crop_stream import CropStream
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.samples import load_samples
from d3ke_platform.training.settings import FrameTraining
from d3ke_platform.training.stream_plan import StreamPlan
from d3ke_platform.training.trainer import Resources, fit
from d3ke_platform.training.worker import LocalWorker

BUFFER = 2048
"""Crops shuffled together where memory is measured."""
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
    parser.add_argument("--no-memory", action="store_true", help="leave out the second table")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
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
        if not options.no_memory:
            console.print(memory_table(data))
        ways: dict[str, list[tuple[float, float]]] = {way: [] for way in options.ways}
        with runtime.connect():
            for run in range(options.runs):
                for way in sorted(ways, reverse=bool(run % 2)):
                    run_way, loading = WAYS[way]
                    settings = replace(job.settings, loading=loading)
                    one = replace(job, settings=settings)
                    ways[way].append(run_way(one, Path(folder) / f"{way}{run}"))
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


WAYS = {
    "plain": (plain, "memory"),
    "loop": (loop, "memory"),
    "loop-stream": (loop, "stream"),
    "ray": (ray, "memory"),
    "ray-stream": (ray, "stream"),
}
NAMES = {
    "plain": "plain PyTorch, written by hand",
    "loop": "the product's loop, in process",
    "loop-stream": "the same, crops streamed by threads",
    "ray": "the product's loop, Ray Train, one worker",
    "ray-stream": "the same, crops streamed by Ray Data",
}


def memory_table(data: str) -> Table:
    """Memory that crops take in a worker, of sets made of the same files again and again."""
    found = Table(title=f"memory for crops, buffer of {BUFFER}")
    for column in ("crops", "encoded", "in memory", "streamed"):
        found.add_column(column, justify="right")
    for times in (4, 16, 64):
        table = repeated(data, times)
        count = len(table.row)
        size = sum(Path(uri).stat().st_size for uri in table.uris)
        streamed = peak_growth(lambda table=table: rounds(table))
        kept = peak_growth(lambda table=table, count=count: [table.read(np.arange(count))])
        found.add_row(f"{count:,}", *(f"{value / 1e6:.0f} MB" for value in (size, kept, streamed)))
    return found


def repeated(data: str, times: int) -> CropTable:
    """The training crops of a data set, so many times."""
    opened = DataSet.open(data)
    samples = load_samples(opened, "train")
    one = samples.crop_table(opened)
    shift = np.repeat(np.arange(times) * len(one.uris), len(samples))
    return CropTable(
        uris=one.uris * times,
        recording=np.tile(one.recording, times) + shift,
        row=np.tile(one.row, times),
    )


def rounds(table: CropTable) -> Iterator[object]:
    """An epoch of encoded crops, round by round."""
    plan = StreamPlan(sizes=table.shard_sizes(), batch_size=64, buffer=BUFFER, seed=1)
    stream = CropStream(plan=plan, table=table)
    return (list(stream.round(0, number)) for number in range(plan.rounds))


def peak_growth(make: Callable[[], Iterable[object]]) -> int:
    """Growth [bytes] of this process while it holds one item of what is made after the other."""
    process = psutil.Process()
    gc.collect()
    pa.default_memory_pool().release_unused()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not be used again unseen
    before = peak = process.memory_info().rss
    for item in make():
        peak = max(peak, process.memory_info().rss)
        del item
    return peak - before


def table(ways: dict[str, list[tuple[float, float]]], options: argparse.Namespace) -> Table:
    """Milliseconds a step, the ratio to plain PyTorch, and the wait for data."""
    title = f"{options.backbone}, {options.image_size} px, batches of {options.batch_size}"
    found = Table(title=title)
    for column in ("", "ms a step", "to plain PyTorch", "waits for data"):
        found.add_column(column, justify="left" if not column else "right")
    base = statistics.median(seconds for seconds, _ in next(iter(ways.values())))
    for way, runs in ways.items():
        seconds = statistics.median(one for one, _ in runs)
        waits = statistics.median(share for _, share in runs)
        found.add_row(
            NAMES[way], f"{1e3 * seconds:.1f}", f"{seconds / base:.3f}", f"{100 * waits:.1f} %"
        )
    return found


if __name__ == "__main__":
    main()
