"""Inverse kinematics of whole trials: joint angles from markers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3ke.arrays import BoolArray, FloatArray, IntArray
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics.ik_bounds import coordinate_bounds
from d3ke.kinematics.ik_gauss_newton import Bounds
from d3ke.kinematics.ik_levenberg_marquardt import Minimiser, Solution
from d3ke.kinematics.ik_opensim import solve_with_opensim
from d3ke.kinematics.ik_problem import IKProblem
from d3ke.kinematics.ik_result import IKResult
from d3ke.kinematics.ik_scales import ScaleEstimator, scale_slots
from d3ke.kinematics.ik_schedule import Schedule, one_thread
from d3ke.kinematics.ik_smooth import smooth
from d3ke.kinematics.ik_start import RootPlacement
from d3ke.kinematics.ik_system import MarkerSystem, Targets
from d3ke.kinematics.ik_tasks import CoordinateTask
from d3ke.skeleton import MeasurementSet, Skeleton, full_body_model_path

_STATIC_FRAMES = 20
SOLVERS = ("batched", "opensim")
REGULARIZATION = 3e-8
"""m^2, of a coordinate half its range away from its default: as much as 0.2 mm at every marker.
Far below any measurement, yet it decides what the markers leave open (which joint of the spine
bends, a wrist's turn), where without it the optimum is a flat valley."""


@dataclass(frozen=True, kw_only=True)
class IKSettings:
    """How the batched solver works."""

    regularization: float = REGULARIZATION
    """m^2; see `REGULARIZATION`. Of angles outside the root joint; 0 = none."""
    unbiased: bool = True
    """Once a frame has converged, take a last step with the pull towards what was found, so that
    it moves only what markers leave open (iterated Tikhonov regularisation). Without, angles that
    markers hold loosely stay nearer the default pose, and are smoother over time."""
    smoothness: float = 0.0
    """m^2 per rad^2 (or m^2) of change from frame to frame, added to the cost of a trial; 0 leaves
    frames independent, 1e-3 evens out marker noise at 100 Hz."""
    accuracy: float = 1e-5
    """A frame has converged when a step promises to lower its cost by a smaller share."""
    max_iterations: int = 100
    """Steps per frame and start."""
    device: str | torch.device = "cpu"
    """Where to compute, in float64; on the CPU with `torch.get_num_threads()` threads."""

    def __post_init__(self) -> None:
        for name in ("regularization", "smoothness", "accuracy", "max_iterations"):
            value = getattr(self, name)
            if not np.isfinite(value) or value < 0.0:
                raise InvalidInputError(name, f"is {value}, not a number of 0 or more")


def solve_ik(
    skeleton: Skeleton,
    markers: FloatArray | Tensor,
    weights: FloatArray | Mapping[str, float] | None = None,
    *,
    marker_names: Sequence[str] | None = None,
    coordinate_tasks: Sequence[CoordinateTask] = (),
    locked: Sequence[str] = (),
    initial: FloatArray | None = None,
    scales: FloatArray | None = None,
    estimate_scales: bool | MeasurementSet = False,
    solver: str = "batched",
    model_path: str | Path | None = None,
    times: FloatArray | None = None,
    **settings: Any,
) -> IKResult:
    """Coordinates at which a skeleton's markers fit measured ones best, frame by frame.

    Minimises sum w |p - o|^2 / sum w + sum c (q - v)^2 per frame, as OpenSim does (`ik_opensim` has
    the proof), with couplers exact and clamped coordinates in their ranges. All frames are solved
    in one batch by Levenberg-Marquardt; the optimum does not depend on the frame before.

    Args:
        skeleton: the model; `Skeleton.from_osim`, `Skeleton.full_body`.
        markers: [*trials, T, M, 3] m, ground frame; NaN = not measured.
        weights: [M], or by name (others 0); all 1 if left out.
        marker_names: M names of the skeleton's markers; default: all, in its order.
        coordinate_tasks: coordinates to keep near values.
        locked: coordinates that keep their start's value, beside those the model locks.
        initial: [Q] or [*trials, T, Q] rad or m. Default: the default pose, moved to the markers.
        scales: [N, 3] or [*trials, N, 3] factors of the bodies, for a model that is not scaled.
        estimate_scales: find the factors that fit a static trial best, with its pose: those of a
            measurement set, or one per body (True); from up to twenty frames.
        solver: "opensim" is OpenSim's InverseKinematicsSolver, the reference.
        model_path, times: the .osim file (known for the built-in model) and [T] s, for OpenSim.
        **settings: fields of `IKSettings`; OpenSim takes its own `accuracy` alone.

    Raises InvalidInputError, UnknownNameError, UnsupportedModelError, KinematicsError.
    """
    if isinstance(markers, Tensor):
        markers = markers.detach().cpu().double().numpy()
    problem = IKProblem.checked(
        skeleton,
        markers,
        weights,
        marker_names=marker_names,
        coordinate_tasks=coordinate_tasks,
        locked=locked,
        initial=initial,
        scales=scales,
    )
    chosen = _settings(solver, settings, estimate_scales, scales)
    if solver == "opensim":
        path = _model_file(skeleton, model_path)
        return _by_opensim(problem, path, locked, times, chosen.accuracy)
    with torch.no_grad():
        if estimate_scales:
            measurements = None if estimate_scales is True else estimate_scales
            problem = _with_estimated_scales(problem, measurements, chosen)
        return _batched(problem, chosen)


def _settings(
    solver: str,
    given: Mapping[str, Any],
    estimate_scales: bool | MeasurementSet,
    scales: FloatArray | None,
) -> IKSettings:
    """Checked: unknown ones, and what does not go together."""
    if solver not in SOLVERS:
        raise UnknownNameError("solver", solver, SOLVERS)
    valid = [field.name for field in fields(IKSettings)]
    for name in given:
        if name not in valid:
            raise UnknownNameError("setting of solve_ik", name, valid)
        if solver == "opensim" and name != "accuracy":
            raise InvalidInputError(name, "is not for OpenSim's solver", "Use solver='batched'.")
    if estimate_scales and (solver == "opensim" or scales is not None):
        with_what = "OpenSim's solver" if solver == "opensim" else "given scales"
        raise InvalidInputError("estimate_scales", f"does not go with {with_what}")
    return IKSettings(**given)


def _schedule(problem: IKProblem, settings: IKSettings) -> Schedule:
    skeleton, device = problem.skeleton, _device(settings.device)
    coupled = skeleton.index_of("coordinate", skeleton.coupled)
    free = np.setdiff1d(np.flatnonzero(~problem.locked), coupled)
    tasks, task_values = problem.task_arrays()
    pull = _pull(skeleton, settings.regularization, free) * (tasks == 0.0)
    system = MarkerSystem(skeleton, free, tasks + pull).to(device)
    released = pull[system.free] * settings.unbiased
    minimise = Minimiser(
        system=system,
        pull=torch.from_numpy(released).to(device),
        accuracy=settings.accuracy,
        max_iterations=settings.max_iterations,
    )
    return Schedule(
        minimise=minimise,
        scout=minimise.scout(),
        place=RootPlacement(skeleton, system),
        targets=_targets(problem, task_values, device),
        bounds=_bounds(problem, system.free).to(device),
        trials=len(problem.usable),
        usable=torch.from_numpy(problem.usable.reshape(-1)).to(device),
        workers=torch.get_num_threads() if device.type == "cpu" else 1,
    )


def _device(name: str | torch.device) -> torch.device:
    """One that is there; InvalidInputError."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = f"{str(name)!r} cannot be used: {str(error).splitlines()[0].rstrip('.')}"
        remedy = "Use 'cpu', or 'cuda' where there is a GPU."
        raise InvalidInputError("device", reason, remedy) from error


def _batched(problem: IKProblem, settings: IKSettings) -> IKResult:
    schedule = _schedule(problem, settings)
    system, targets = schedule.minimise.system, schedule.targets
    with one_thread():
        solution = _solved(problem, schedule)
    if settings.smoothness > 0.0:
        _smooth(problem, schedule, solution, settings.smoothness)
    coordinates = system.complete(solution.coordinates, targets.scales)
    points = system.markers(coordinates, targets.scales).permute(2, 0, 1)
    return _result(
        problem,
        coordinates.T.cpu().numpy(),
        points.cpu().numpy(),
        solution.converged.cpu().numpy(),
        solution.iterations.cpu().numpy(),
    )


def _solved(problem: IKProblem, schedule: Schedule) -> Solution:
    flat = problem.start.reshape(-1, problem.start.shape[-1]).T.copy()
    start = torch.from_numpy(flat).to(schedule.usable.device)
    return schedule.from_start(start) if problem.has_start else schedule.from_default(start)


def _smooth(problem: IKProblem, schedule: Schedule, solution: Solution, smoothness: float) -> None:
    """Tie the usable frames of each trial together, in place."""
    frames = problem.shape[-1]
    for trial, usable in enumerate(problem.usable):
        chosen = torch.from_numpy(np.flatnonzero(usable) + trial * frames)
        if len(chosen) < 2:
            continue
        chosen = chosen.to(schedule.usable.device)
        start = solution.coordinates[:, chosen].T.cpu().numpy()
        unwrapped = torch.from_numpy(_unwrapped(problem.skeleton, start)).T.to(chosen.device)
        targets = schedule.targets.frames(chosen)
        system, bounds = schedule.minimise.system, schedule.bounds.frames(chosen)
        found, done = smooth(system, unwrapped, targets, bounds, smoothness)
        solution.coordinates[:, chosen] = found
        solution.converged[chosen] &= done.to(chosen.device)


def _with_estimated_scales(
    problem: IKProblem, measurements: MeasurementSet | None, settings: IKSettings
) -> IKProblem:
    """The same problem with scales that fit up to twenty of its frames."""
    schedule = _schedule(problem, settings)
    solution = _solved(problem, schedule)
    usable = np.flatnonzero(problem.usable.reshape(-1))
    chosen = usable[np.linspace(0, len(usable) - 1, min(len(usable), _STATIC_FRAMES)).astype(int)]
    frames = torch.from_numpy(chosen).to(settings.device)
    estimator = ScaleEstimator(
        system=schedule.minimise.system,
        bounds=schedule.bounds,
        slots=scale_slots(problem.skeleton, measurements),
    )
    targets = schedule.targets.frames(frames)
    scales, _ = estimator.estimate(solution.coordinates[:, frames], targets)
    return replace(problem, scales=np.repeat(scales[None], len(problem.usable), axis=0))


def _pull(skeleton: Skeleton, regularization: float, free: IntArray) -> FloatArray:
    """[Q] weights of the pull towards the default pose."""
    half_range = np.ptp(skeleton.coordinate_ranges, axis=1) / 2
    pulled = np.zeros(len(skeleton.coordinates), dtype=bool)
    pulled[free] = (skeleton.coordinate_rotational & (half_range > 0.0))[free]
    if skeleton.root_coordinates:
        pulled[np.asarray(skeleton.index_of("coordinate", skeleton.root_coordinates))] = False
    # A range of many turns says nothing: pull as for one turn.
    reach = np.clip(half_range, 1e-3, np.pi)
    return np.where(pulled, regularization / reach**2, 0.0)


def _bounds(problem: IKProblem, free: IntArray) -> Bounds:
    """[F], or [trials * T, F] where the trials' scales matter."""
    trials, frames = problem.usable.shape
    bounds = coordinate_bounds(problem.skeleton, free, problem.scales)
    if bounds.low.ndim == 1:
        return bounds
    return bounds.frames(torch.arange(trials).repeat_interleave(frames))


def _targets(problem: IKProblem, task_values: FloatArray, device: torch.device) -> Targets:
    trials, frames = problem.usable.shape
    markers = torch.from_numpy(problem.markers).to(device).flatten(0, 1)
    seen = torch.isfinite(markers[..., 0])
    weights = torch.from_numpy(problem.weights).to(device) * seen
    # A frame without markers is never solved; one avoids 0 / 0.
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-300)
    values = torch.from_numpy(np.tile(task_values, (trials, 1))).to(device)
    scales = None
    if problem.scales is not None:
        scales = torch.from_numpy(problem.scales).to(device).permute(1, 2, 0)
        scales = scales if trials == 1 else scales.repeat_interleave(frames, -1)
    return Targets(
        torch.nan_to_num(markers).permute(1, 2, 0).contiguous(),
        weights.T.contiguous(),
        values.T.contiguous(),
        scales,
    )


def _model_file(skeleton: Skeleton, model_path: str | Path | None) -> Path:
    if model_path is not None:
        return Path(model_path)
    if skeleton.name == Skeleton.full_body().name:
        return full_body_model_path()
    raise InvalidInputError(
        "solver 'opensim'",
        f"needs the .osim file of skeleton {skeleton.name!r}",
        "Pass model_path, or use solver='batched', which needs none.",
    )


def _by_opensim(
    problem: IKProblem,
    model_path: Path,
    locked: Sequence[str],
    times: FloatArray | None,
    accuracy: float,
) -> IKResult:
    found = []
    for trial, positions in enumerate(problem.markers):
        found.append(
            solve_with_opensim(
                model_path,
                problem.skeleton.markers,
                positions,
                problem.weights,
                problem.tasks,
                times,
                accuracy=accuracy,
                initial=problem.start[trial, 0] if problem.has_start else None,
                locked=locked,
                scales=None if problem.scales is None else problem.scales[trial],
            )
        )
    solved = np.concatenate([solution.solved for solution in found])
    return _result(
        problem,
        np.concatenate([solution.coordinates for solution in found]),
        np.concatenate([solution.marker_positions for solution in found]),
        solved,
        np.zeros(len(solved), dtype=np.int64),
    )


def _result(
    problem: IKProblem,
    coordinates: FloatArray,
    points: FloatArray,
    converged: BoolArray,
    iterations: IntArray,
) -> IKResult:
    skeleton, shape = problem.skeleton, problem.shape
    trials, frames = problem.usable.shape
    # Frames that could not be solved repeat the last one that was (the first, at the start).
    last = np.where(problem.usable, np.arange(frames), -1)
    last = np.maximum.accumulate(last, axis=1)
    first = np.where(problem.usable.any(1), problem.usable.argmax(1), 0)[:, None]
    source = (np.where(last < 0, first, last) + frames * np.arange(trials)[:, None]).reshape(-1)
    coordinates, points = coordinates[source], points[source]
    coordinates = _unwrapped(skeleton, coordinates.reshape(trials, frames, -1))
    low, high = skeleton.coordinate_ranges.T
    outside = (coordinates < low - 1e-6) | (coordinates > high + 1e-6)
    converged = converged.reshape(trials, frames) & problem.usable
    converged &= ~(outside & skeleton.coordinate_clamped & ~problem.locked).any(-1)
    error = np.linalg.norm(points - problem.markers.reshape(points.shape), axis=-1)
    scales = problem.scales
    return IKResult(
        coordinate_names=skeleton.coordinates,
        coordinates=coordinates.reshape(*shape, -1),
        marker_names=skeleton.markers,
        marker_positions=points.reshape(*shape, -1, 3),
        marker_error=error.reshape(*shape, -1),
        solved=problem.usable.reshape(shape),
        converged=converged.reshape(shape),
        iterations=iterations.reshape(shape),
        outside_range=outside.reshape(*shape, -1),
        scales=None if scales is None else scales.reshape(*shape[:-1], *scales.shape[1:]),
    )


def _unwrapped(skeleton: Skeleton, coordinates: FloatArray) -> FloatArray:
    """Root angles [..., T, Q] without jumps of whole turns, where no range forbids."""
    for name in skeleton.root_coordinates[:3]:
        index = skeleton.index_of("coordinate", name)
        if not skeleton.coordinate_rotational[index]:
            continue
        smooth_track = np.unwrap(coordinates[..., index], axis=-1)
        low, high = skeleton.coordinate_ranges[index]
        allowed = ((smooth_track >= low) & (smooth_track <= high)).all(-1, keepdims=True)
        if not skeleton.coordinate_clamped[index]:
            allowed = np.ones_like(allowed)
        coordinates[..., index] = np.where(allowed, smooth_track, coordinates[..., index])
    return coordinates
