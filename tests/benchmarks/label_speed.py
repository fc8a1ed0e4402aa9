"""Labelling with one process and with N actors: frames per second, efficiency, memory.

Run by `make benchmark`. A data set of made-up trials of the built-in model is labelled by
`LabelTrial` in this process and by the pipeline's actors on Ray, with either solver. Efficiency is
the actors' rate over N times the one process's, once both are under way.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from ik_speed import RATE_HZ, motion, noise
from machine import machine
from rich.console import Console
from rich.table import Table

from d3ke.kinematics import MarkerSet, MarkerTrajectories, ScalingSettings, write_trc
from d3ke.skeleton import (
    MeasurementSet,
    PredictedSet,
    SkeletalModelLayer,
    Skeleton,
    full_body_model_path,
)
from d3ke_platform import runtime, storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.pipelines.ray_data import is_reject, run_stage
from d3ke_platform.schema import SUBJECT_LABELS
from d3ke_platform.stages.label import LabelTrial

SUBJECT = "s001"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actors", type=int, default=2, help="actors, at most the cores")
    parser.add_argument("--trials", type=int, default=6, help="trials per actor")
    parser.add_argument("--frames", type=int, default=60, help="frames a trial, OpenSim's solver")
    parser.add_argument("--batched-frames", type=int, default=1200, help="frames a trial, solve_ik")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as the actors
    console = Console(width=130)
    console.print(machine())
    table = Table(title=f"labelling, full-body model, {options.actors} actors")
    for column in ("solver", "frames/s, one process", "frames/s, actors", "efficiency"):
        table.add_column(column, justify="right")
    table.add_column("with start-up", justify="right")
    table.add_column("memory of an actor and its child, MB", justify="right")
    with runtime.connect():
        for solver, frames in (("opensim", options.frames), ("batched", options.batched_frames)):
            table.add_row(*_row(solver, frames, options.trials, options.actors))
    console.print(table)


def _row(solver: str, frames: int, trials: int, actors: int) -> tuple[str, ...]:
    arguments = {"solver": solver, "accuracy": 1e-4 if solver == "opensim" else 1e-5}
    with tempfile.TemporaryDirectory() as folder:
        data, items = made_up(Path(folder), trials * actors, frames)
        stage = LabelTrial(data.root, **arguments)
        stage(items[0])  # starts the child process and fills its caches
        alone = [row for item in items[:trials] for row in stage(item)]
        began = time.perf_counter()
        with _ActorMemory() as memory:
            rows = list(
                run_stage(
                    items,
                    LabelTrial,
                    arguments={"root": data.root, **arguments},
                    name="label",
                    actors=actors,
                    progress=False,
                )
            )
        seconds = time.perf_counter() - began
    if failed := [row["reason"] for row in rows if is_reject(row)]:
        raise SystemExit(f"{len(failed)} trials failed, the first: {failed[0]}")
    # An actor's first trial waits for its child process: the shorter ones are under way.
    running = sorted(row["seconds"] for row in rows)[: len(rows) - actors]
    one = frames * len(alone) / sum(row["seconds"] for row in alone)
    together = actors * frames * len(running) / sum(running)
    return (
        solver,
        f"{one:,.1f}",
        f"{together:,.1f}",
        f"{together / (actors * one):.2f}",
        f"{frames * len(rows) / seconds:,.1f} frames/s",
        f"{memory.peak_mb:,.0f}",
    )


def made_up(folder: Path, trials: int, frames: int) -> tuple[DataSet, list[dict[str, object]]]:
    """A data set with one subject, the unscaled model, and trials of one motion at different
    times."""
    marker_set = MarkerSet.builtin("smplh")
    settings = {"crop": {}, "labels": {}}
    data = DataSet.create(folder, source="benchmark", settings=settings)
    marker_set.apply_to_model(full_body_model_path(), data.model_osim)
    skeleton = Skeleton.from_osim(data.model_osim)
    skeleton.save(data.resolve("skeleton.json"))
    measurements = MeasurementSet.full_body()
    measurements.save(data.resolve("measurements.json"))
    PredictedSet.full_body().save(data.resolve("predicted.json"))
    marker_set.save(data.resolve("marker_set.json"))
    storage.write_json(data.uri("scaling.json"), ScalingSettings())
    row = {
        "subject": SUBJECT,
        "model_uri": "model.osim",
        "measurement_factors": np.ones(len(measurements.names)),
        "body_scales": np.ones((len(skeleton.bodies), 3)),
        "static_marker_rms_m": 0.0,
    }
    table = SUBJECT_LABELS.from_rows([row], data.dims())
    storage.write_table(data.subject_label_uri(SUBJECT), table)
    return data, [_trial(data, skeleton, index, frames) for index in range(trials)]


def _trial(data: DataSet, skeleton: Skeleton, index: int, frames: int) -> dict[str, object]:
    times = (index * frames + np.arange(frames)) / RATE_HZ
    pose = SkeletalModelLayer(skeleton)(torch.from_numpy(motion(skeleton, times)))
    measured = MarkerTrajectories(
        names=skeleton.markers,
        positions=pose.markers.numpy() + noise(frames, len(skeleton.markers)),
        times=times - times[0],
        rate_hz=RATE_HZ,
    )
    name = f"{SUBJECT}_{index}"
    path = data.resolve(f"trials/{name}.trc")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_trc(path, measured)
    return {
        "trial_id": name,
        "subject": SUBJECT,
        "markers_uri": f"trials/{name}.trc",
        "ik_setup_uri": "",
    }


class _ActorMemory:
    """Peak of the largest actor with its children, sampled."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _ActorMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(5.0):  # reading it costs time that the actors would have
            for process in psutil.Process().children(recursive=True):
                try:
                    if "StageActor" in process.name() or "MapWorker" in process.name():
                        family = [process, *process.children(recursive=True)]
                        used = sum(one.memory_full_info().uss for one in family) / 1e6
                        self.peak_mb = max(self.peak_mb, used)
                except (psutil.NoSuchProcess, psutil.AccessDenied):
                    continue


if __name__ == "__main__":
    main()
