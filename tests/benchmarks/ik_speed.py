"""Frames per second of inverse kinematics, beside OpenSim's solver.

Run by `make benchmark`. Two kinds of trials: a made-up motion of the built-in full-body model
with noisy markers, and the recorded walks that come with OpenSim where they are at hand.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from machine import machine, seconds_of
from real_trials import TRIALS, RealTrial, is_available, real_trial
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter1d

from d3ke.kinematics import CoordinateTask, IKResult, MarkerSet, solve_ik
from d3ke.skeleton import SkeletalModelLayer, Skeleton, full_body_model_path

RATE_HZ = 100.0
NOISE_M = 0.003
"""Standard deviation of each coordinate of a marker."""
NOISE_FRAMES = 5.0
"""Width of the Gaussian that smooths it over time: skin moves, it does not jitter."""
OPENSIM_ACCURACY = 1e-5
"""The default of OpenSim's tool."""

_HALF = np.pi
_MOTION = {
    "pelvis_tx": (0.0, 0.5, 0.15, 0.0), "pelvis_ty": (0.95, 0.03, 2.0, 0.0),
    "pelvis_tz": (0.0, 0.3, 0.1, 1.0), "pelvis_tilt": (-0.1, 0.1, 1.0, 0.5),
    "pelvis_list": (0.0, 0.1, 1.0, 1.0), "pelvis_rotation": (0.5, 0.8, 0.2, 0.0),
    "hip_flexion_r": (0.3, 0.5, 1.0, 0.0), "hip_flexion_l": (0.3, 0.5, 1.0, _HALF),
    "hip_adduction_r": (-0.1, 0.1, 1.0, 0.3), "hip_adduction_l": (-0.1, 0.1, 1.0, 0.3 + _HALF),
    "hip_rotation_r": (0.0, 0.2, 0.5, 0.0), "hip_rotation_l": (0.0, 0.2, 0.5, _HALF),
    "knee_angle_r": (-0.7, 0.6, 1.0, 0.8), "knee_angle_l": (-0.7, 0.6, 1.0, 0.8 + _HALF),
    "ankle_angle_r": (0.0, 0.3, 1.0, 1.5), "ankle_angle_l": (0.0, 0.3, 1.0, 1.5 + _HALF),
    "elv_angle": (0.3, 0.5, 1.0, _HALF), "elv_angle_l": (0.3, 0.5, 1.0, 0.0),
    "shoulder_elv": (0.8, 0.5, 0.4, 0.0), "shoulder_elv_l": (0.8, 0.5, 0.3, 0.0),
    "shoulder_rot": (0.0, 0.4, 0.6, 0.0), "shoulder_rot_l": (0.0, 0.4, 0.6, _HALF),
    "elbow_flexion": (1.0, 0.7, 0.8, 0.0), "elbow_flexion_l": (1.0, 0.7, 0.8, _HALF),
}  # fmt: skip
"""Coordinate -> middle, amplitude [rad or m], cycles per second and phase [rad], in its range."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A trial solved one way."""

    name: str
    result: IKResult
    frames_per_second: float
    cores: int | None
    """None = a GPU."""


def main() -> None:
    """Print one table per trial."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="arithmetic threads of PyTorch")
    parser.add_argument("--runs", type=int, default=3, help="timed runs of the batched solver")
    parser.add_argument("--frames", type=int, default=1000, help="frames of the made-up motion")
    parser.add_argument("--opensim-frames", type=int, default=60, help="frames for OpenSim")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # Wide enough for the table when the output is a file.
    console = Console(width=130)
    console.print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for trial in trials(options.frames, Path(folder)):
            rows = [*batched(trial, options.runs), opensim(trial, options.opensim_frames)]
            console.print(table(trial, rows))


def trials(frames: int, folder: Path) -> Iterator[RealTrial]:
    """The made-up motion, then the recordings."""
    yield made_up(frames, folder)
    for name in TRIALS:
        if is_available(name):
            yield real_trial(name)


def made_up(frames: int, folder: Path) -> RealTrial:
    """The motion's markers with noise, on a model file that has these markers."""
    marker_set = MarkerSet.builtin("smplh")
    used = np.flatnonzero(marker_set.ik_weights > 0.0)
    names = tuple(marker_set.names[marker] for marker in used)
    path = folder / "full_body_with_markers.osim"
    marker_set.apply_to_model(full_body_model_path(), path)
    bodies = [marker_set.bodies[marker] for marker in used]
    skeleton = Skeleton.full_body().with_markers(names, bodies, marker_set.locations[used])
    times = np.arange(frames) / RATE_HZ
    pose = SkeletalModelLayer(skeleton)(torch.from_numpy(motion(skeleton, times)))
    return RealTrial(
        name="made-up motion, full body",
        model_path=path,
        marker_names=names,
        positions=pose.markers.numpy() + noise(frames, len(names)),
        weights=marker_set.ik_weights[used],
        coordinate_tasks=(),
        times=times,
    )


def motion(skeleton: Skeleton, times: np.ndarray) -> np.ndarray:
    """Coordinates [T, Q]: sinusoids, the others at their defaults."""
    coordinates = np.tile(skeleton.coordinate_defaults, (len(times), 1))
    for name, (middle, amplitude, cycles, phase) in _MOTION.items():
        column = skeleton.index_of("coordinate", name)
        coordinates[:, column] = middle + amplitude * np.sin(2 * np.pi * cycles * times + phase)
    return coordinates


def noise(frames: int, markers: int) -> np.ndarray:
    """[T, M, 3] m, smooth over time, the same at every run."""
    white = np.random.default_rng(0).normal(size=(frames, markers, 3))
    smooth = gaussian_filter1d(white, NOISE_FRAMES, axis=0)
    return NOISE_M * smooth / smooth.std()


def batched(trial: RealTrial, runs: int) -> Iterator[Row]:
    """All frames at once: median of some runs after one that is not counted.

    On one thread, as OpenSim works, and on all: Python's lock keeps the threads of one process
    from being as fast each as one alone.
    """
    threads = torch.get_num_threads()
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        yield timed(trial, runs, f"solve_ik, {count} thread{'s'[: count - 1]}", count)
    if torch.cuda.is_available():
        yield timed(trial, runs, "solve_ik, GPU", None)


def timed(trial: RealTrial, runs: int, name: str, cores: int | None) -> Row:
    """Of the batched solver."""
    found: list[IKResult] = []
    device = "cuda" if cores is None else "cpu"

    def run() -> None:
        found.append(solve(trial, len(trial.times), device=device))

    run()
    seconds = statistics.median(seconds_of(run) for _ in range(runs))
    return Row(
        name=name,
        result=found[-1],
        frames_per_second=len(trial.times) / seconds,
        cores=cores,
    )


def opensim(trial: RealTrial, frames: int) -> Row:
    """The first frames. What the model takes to load and the first frame to assemble is not
    counted: the time of one frame is taken off that of all."""
    found: list[IKResult] = []

    def run(count: int) -> float:
        settings = {"solver": "opensim", "model_path": trial.model_path}
        return seconds_of(
            lambda: found.append(solve(trial, count, accuracy=OPENSIM_ACCURACY, **settings))
        )

    first, all_of_them = run(1), run(frames)
    return Row(
        name="OpenSim",
        result=found[-1],
        frames_per_second=(frames - 1) / (all_of_them - first),
        cores=1,
    )


def solve(trial: RealTrial, frames: int, **settings: object) -> IKResult:
    """A trial's first frames, with its weights and tasks."""
    return solve_ik(
        trial.skeleton,
        trial.positions[:frames],
        trial.weights,
        marker_names=trial.marker_names,
        coordinate_tasks=[beginning(task, frames) for task in trial.coordinate_tasks],
        times=trial.times[:frames],
        **settings,
    )


def beginning(task: CoordinateTask, frames: int) -> CoordinateTask:
    """The task of a trial's first frames."""
    return task if np.ndim(task.value) == 0 else replace(task, value=task.value[:frames])


def table(trial: RealTrial, rows: list[Row]) -> Table:
    """Speed, fit and the difference to the last row, OpenSim."""
    reference = rows[-1]
    shared = len(reference.result.solved)
    title = f"{trial.name}: {len(trial.times)} frames, {len(trial.marker_names)} markers"
    found = Table(title=title)
    found.add_column("solver")
    columns = ("frames", "frames/s", "per core, x OpenSim", "RMS mm", f"of {shared} frames")
    for column in (*columns, "converged", "iterations", "largest difference to OpenSim"):
        found.add_column(column, justify="right")
    for row in rows:
        error, is_reference = row.result.marker_error, row is reference
        ratio = row.frames_per_second / reference.frames_per_second
        found.add_row(
            row.name,
            str(len(error)),
            f"{row.frames_per_second:,.1f}",
            "-" if row.cores is None else f"{ratio / row.cores:.1f}",
            f"{1e3 * trial.weighted_rms(error):.3f}",
            f"{1e3 * trial.weighted_rms(error[:shared]):.3f}",
            f"{100 * row.result.converged.mean():.1f} %",
            "-" if is_reference else f"{row.result.iterations.mean():.1f}",
            "-" if is_reference else largest_difference(trial, row.result, reference.result),
        )
    return found


def largest_difference(trial: RealTrial, found: IKResult, reference: IKResult) -> str:
    """Of all angles in the frames both solved."""
    angles = np.flatnonzero(trial.skeleton.coordinate_rotational)
    shared = len(reference.coordinates)
    turns = (found.coordinates[:shared] - reference.coordinates)[:, angles]
    away = np.rad2deg(np.abs(np.arctan2(np.sin(turns), np.cos(turns)))).max(0)
    worst = int(away.argmax())
    return f"{away[worst]:.2f} deg {trial.skeleton.coordinates[angles[worst]]}"


if __name__ == "__main__":
    main()
