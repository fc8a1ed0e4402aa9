"""In which order the frames of trials are solved, and from where each starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from d3ke.kinematics.ik_gauss_newton import Bounds
from d3ke.kinematics.ik_levenberg_marquardt import Solution, minimise
from d3ke.kinematics.ik_start import RootPlacement
from d3ke.kinematics.ik_system import MarkerSystem, Targets

_STRIDE = 8
"""Every so many frames start from the default pose; those between start from their solutions."""
_POOL = 2048
"""Frames held in memory at once (a Hessian each)."""
_SMALLEST = 64
"""Fewer frames are not worth a thread."""
_SUSPECT = 1.5
"""A frame whose cost is so much higher than a neighbour's may sit in another local minimum."""
_SCOUTING = 4
"""Every so many anchors try a second start whether they fit well or not."""
_REPAIRS = 3


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Solves frames [trials * T], trial after trial."""

    system: MarkerSystem
    place: RootPlacement
    targets: Targets
    bounds: Bounds
    trials: int
    usable: Tensor
    """[trials * T] True where enough markers are measured."""
    accuracy: float
    max_iterations: int
    workers: int
    """Threads that each solve a part of the frames."""

    def from_default(self, default: Tensor) -> Solution:
        """From the default pose [Q, B]: anchors first, then what lies between, then repairs.

        A second start of the anchors, see `_start_again`, finds what the default pose misses.
        """
        frames = self.usable.nonzero().flatten()
        solution = _unsolved(default)
        is_anchor = self._anchors(frames)
        anchors, between = frames[is_anchor], frames[~is_anchor]
        self._solve(solution, anchors, self._placed(default[:, anchors], anchors))
        self._start_again(solution, anchors, self._middle(default))
        if len(between):
            start = self._interpolated(solution.coordinates, anchors, between)
            self._solve(solution, between, self._placed(start, between))
        for _ in range(_REPAIRS):
            if not self._repair(solution, frames):
                break
        return solution

    def from_start(self, start: Tensor) -> Solution:
        """From given coordinates [Q, B]."""
        frames = self.usable.nonzero().flatten()
        solution = _unsolved(start)
        self._solve(solution, frames, start[:, frames])
        return solution

    def _anchors(self, frames: Tensor) -> Tensor:
        """[len(frames)] every so many usable frames of a trial, and its first and last."""
        trial = frames // (len(self.usable) // self.trials)
        changes = torch.ones_like(trial, dtype=torch.bool)
        changes[1:] = trial[1:] != trial[:-1]
        first = torch.where(changes, torch.arange(len(frames), device=frames.device), 0)
        within = torch.arange(len(frames), device=frames.device) - first.cummax(0).values
        ends = torch.ones_like(changes)
        ends[:-1] = changes[1:]
        return (within % _STRIDE == 0) | ends

    def _start_again(self, solution: Solution, anchors: Tensor, start: Tensor) -> None:
        """Takes the solution from another start where it is far better.

        From a straight arm, the solver may meet a hand held to the head with an elbow stopped at
        hyperextension and a forearm turned round, and repairs do not reach far into such frames.
        Some anchors and all that fit badly try it first; the others do where one of these gains.
        """
        cost = solution.cost[anchors]
        scouts = cost > _SUSPECT * cost.median()
        scouts[::_SCOUTING] = True
        for chosen in (anchors[scouts], anchors[~scouts]):
            other = _unsolved(start)
            self._solve(other, chosen, self._placed(start[:, chosen], chosen))
            gained = chosen[_SUSPECT * other.cost[chosen] < solution.cost[chosen]]
            _adopt(solution, other, gained)
            if not len(gained):
                return

    def _middle(self, default: Tensor) -> Tensor:
        """Coordinates [Q, B] in the middle of their bounds; those without bounds by default."""
        low, high = (bound.to(default.dtype) for bound in self.bounds)
        bounded = torch.isfinite(low) & torch.isfinite(high)
        free = torch.as_tensor(self.system.free, device=default.device)
        middle = default.clone()
        middle[free[bounded]] = ((low + high) / 2)[bounded].unsqueeze(1)
        return middle

    def _placed(self, coordinates: Tensor, frames: Tensor) -> Tensor:
        return self.place(coordinates, self.targets.frames(frames))

    def _interpolated(self, coordinates: Tensor, anchors: Tensor, frames: Tensor) -> Tensor:
        """Linear in time between the anchors before and after; both are of the frame's trial."""
        after = torch.searchsorted(anchors, frames).clamp(1, len(anchors) - 1)
        early, late = anchors[after - 1], anchors[after]
        share = (frames - early) / (late - early)
        return torch.lerp(coordinates[:, early], coordinates[:, late], share.to(coordinates.dtype))

    def _solve(self, solution: Solution, frames: Tensor, start: Tensor) -> None:
        """Minimise from `start`, and keep what is better than `solution` in place."""
        size = min(_POOL, max(_SMALLEST, -(-len(frames) // self.workers)))
        parts = torch.arange(len(frames), device=frames.device).split(size)

        def work(part: Tensor) -> Solution:
            return minimise(
                self.system,
                start[:, part],
                self.targets.frames(frames[part]),
                self.bounds,
                accuracy=self.accuracy,
                max_iterations=self.max_iterations,
            )

        for part, found in zip(parts, in_threads(work, parts, self.workers), strict=True):
            chosen = frames[part]
            solution.iterations[chosen] += found.iterations
            better = found.cost < solution.cost[chosen]
            kept = chosen[better]
            solution.coordinates[:, kept] = found.coordinates[:, better]
            solution.cost[kept] = found.cost[better]
            solution.converged[kept] = found.converged[better]

    def _repair(self, solution: Solution, frames: Tensor) -> bool:
        """Start suspect frames again from the better one of their neighbours."""
        per_trial = len(self.usable) // self.trials
        best = torch.full_like(solution.cost, torch.inf)
        source = torch.arange(len(best), device=best.device)
        for shift in (-1, 1):
            neighbour = (frames + shift).clamp(0, len(best) - 1)
            same = (neighbour // per_trial == frames // per_trial) & (neighbour != frames)
            cost = torch.where(same, solution.cost[neighbour], torch.inf)
            closer = cost < best[frames]
            source[frames] = torch.where(closer, neighbour, source[frames])
            best[frames] = torch.minimum(best[frames], cost)
        suspect = frames[solution.cost[frames] > _SUSPECT * best[frames]]
        if not len(suspect):
            return False
        before = solution.cost[suspect].clone()
        start = self._placed(solution.coordinates[:, source[suspect]], suspect)
        self._solve(solution, suspect, start)
        return bool((solution.cost[suspect] < 0.99 * before).any())


def _unsolved(coordinates: Tensor) -> Solution:
    count = coordinates.shape[1]
    return Solution(
        coordinates.clone(),
        torch.full_like(coordinates[0], torch.inf),
        torch.zeros(count, dtype=torch.bool, device=coordinates.device),
        torch.zeros(count, dtype=torch.int64, device=coordinates.device),
    )


def _adopt(solution: Solution, other: Solution, frames: Tensor) -> None:
    """Take these frames of another solution, in place."""
    solution.coordinates[:, frames] = other.coordinates[:, frames]
    solution.cost[frames] = other.cost[frames]
    solution.converged[frames] = other.converged[frames]
    solution.iterations[frames] += other.iterations[frames]


Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> list[Result]:
    """work(item) of each item, without gradients, on threads of one processor each.

    PyTorch factorises a batch of matrices on one processor whatever its thread count, so that
    frames, not operations, have to be shared out.
    """
    if workers == 1 or len(items) == 1:
        return [work(item) for item in items]
    threads = torch.get_num_threads()

    def alone(item: Item) -> Result:
        torch.set_num_threads(1)
        # Whether gradients are kept is a matter of the thread.
        with torch.no_grad():
            return work(item)

    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(alone, items))
    finally:
        torch.set_num_threads(threads)
