"""In which order the frames of trials are solved, and from where each starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from d3ke.kinematics.ik_gauss_newton import Bounds
from d3ke.kinematics.ik_levenberg_marquardt import FAR, NEAR, Minimiser, Solution
from d3ke.kinematics.ik_start import RootPlacement
from d3ke.kinematics.ik_system import Targets

_STRIDE = 16
"""Every so many frames start from the default pose; those between start from their solutions."""
_POOL = 2048
"""Frames a GPU holds in memory at once (a Hessian each)."""
_SMALLEST = 64
"""Fewer frames are not worth a thread."""
_SUSPECT = 1.5
"""A frame whose cost is so much higher than a neighbour's may sit in another local minimum."""
_SCOUTING = 4
"""Every so many anchors try a second start whether they fit well or not."""
_REPAIRS = 3
_FAR_STEPS, _NEAR_STEPS = 16, 4
"""So many do for nearly all frames, at first, that start far from and near their optimum."""
_NOTHING = 1e-14
"""m^2: how far costs round."""
_CLOSE = 1.0
"""rad or m: frames of which a coordinate is further apart are not interpolated but placed."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Solves frames [trials * T], trial after trial."""

    minimise: Minimiser
    scout: Minimiser
    """Of another start: only as far as to see whether it is better."""
    place: RootPlacement
    targets: Targets
    bounds: Bounds
    trials: int
    usable: Tensor
    """[trials * T] True where enough markers are measured."""
    workers: int
    """Threads that each solve a part of the frames."""

    def from_default(self, default: Tensor) -> Solution:
        """From the default pose [Q, B]: anchors first, then what lies halfway between those that
        are solved, again and again, then repairs.

        A second start of the anchors, see `_start_again`, finds what the default pose misses.
        """
        frames = self.usable.nonzero().flatten()
        solution = Solution.none(default)
        place, is_end = self._places(frames)
        solved = is_end | (place % _STRIDE == 0)
        anchors = frames[solved]
        brief = self.minimise.briefly(_FAR_STEPS)
        self._solve(solution, anchors, self._placed(default[:, anchors], anchors), FAR, brief)
        self._start_again(solution, anchors, self._middle(default))
        gap = _STRIDE
        while gap > 1:
            gap //= 2
            is_next = ~solved & (place % gap == 0)
            if is_next.any():
                self._solve_between(solution, frames[solved], frames[is_next])
            solved = solved | is_next
        # What takes longer than others goes on together, so that the others need not wait.
        left = frames[~solution.converged[frames]]
        self._solve(solution, left, solution.coordinates[:, left], NEAR)
        for _ in range(_REPAIRS):
            if not self._repair(solution, frames):
                break
        return solution

    def from_start(self, start: Tensor) -> Solution:
        """From given coordinates [Q, B]."""
        frames = self.usable.nonzero().flatten()
        solution = Solution.none(start)
        self._solve(solution, frames, start[:, frames], NEAR)
        return solution

    def _places(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Of usable frames: the how manieth each is of its trial, and whether the first or last."""
        trial, count = frames // (len(self.usable) // self.trials), len(frames)
        number = torch.arange(count, device=frames.device)
        changes = torch.ones_like(trial, dtype=torch.bool)
        changes[1:] = trial[1:] != trial[:-1]
        is_end = changes.clone()
        is_end[:-1] |= changes[1:]
        is_end[-1:] = True
        return number - torch.where(changes, number, 0).cummax(0).values, is_end

    def _start_again(self, solution: Solution, anchors: Tensor, start: Tensor) -> None:
        """Takes the solution from another start where it is far better.

        From a straight arm, the solver may meet a hand held to the head with an elbow stopped at
        hyperextension and a forearm turned round, and repairs do not reach far into such frames.
        Some anchors and all that fit badly try it first, then those around one that gains by it.
        """
        cost = solution.cost[anchors]
        scouts = cost > _SUSPECT * cost.median()
        scouts[::_SCOUTING] = True
        gained = self._gained(solution, anchors[scouts], start)
        if len(gained):
            place = torch.searchsorted(anchors, gained)
            number = torch.arange(len(anchors), device=anchors.device)
            around = (number.unsqueeze(1) - place).abs().amin(1) < _SCOUTING
            self._gained(solution, anchors[around & ~scouts], start)

    def _gained(self, solution: Solution, frames: Tensor, start: Tensor) -> Tensor:
        """The frames for which a start is far better; they are solved from there."""
        other = Solution.none(start)
        placed = self._placed(start[:, frames], frames)
        self._solve(other, frames, placed, FAR, self.scout)
        solution.iterations[frames] += other.iterations[frames]
        gained = frames[_SUSPECT * other.cost[frames] < solution.cost[frames]]
        self._solve(solution, gained, other.coordinates[:, gained], FAR)
        return gained

    def _middle(self, default: Tensor) -> Tensor:
        """Coordinates [Q, B] in the middle of their bounds; those without bounds by default."""
        free = torch.as_tensor(self.minimise.system.free, device=default.device)
        between = (self.bounds.low + self.bounds.high) / 2
        middle = default.clone()
        middle[free] = torch.where(between.isfinite(), between, default[free].T).T
        return middle

    def _placed(self, coordinates: Tensor, frames: Tensor) -> Tensor:
        return self.place(coordinates, self.targets.frames(frames))

    def _solve_between(self, solution: Solution, solved: Tensor, frames: Tensor) -> None:
        """Solve frames from what their solved neighbours, of the same trial, make likely."""
        per_trial = len(self.usable) // self.trials
        start, is_close = _interpolated(solution.coordinates, solved, frames, per_trial)
        far = (~is_close).nonzero().flatten()
        if len(far):
            start[:, far] = self._placed(start[:, far], frames[far])
        brief = self.minimise.briefly(_NEAR_STEPS)
        self._solve(solution, frames, start, torch.where(is_close, NEAR, FAR), brief)

    def _solve(
        self,
        solution: Solution,
        frames: Tensor,
        start: Tensor,
        damping: Tensor | float,
        minimise: Minimiser | None = None,
    ) -> None:
        """Minimise from `start`, and keep what is better than `solution` in place."""
        minimise, count = minimise or self.minimise, len(frames)
        if not count:
            return
        first = torch.as_tensor(damping, dtype=start.dtype, device=start.device).expand(count)
        if frames.device.type == "cpu":
            # Every so many frames to each thread: what is hard comes in a row.
            shares = max(1, min(self.workers, count // _SMALLEST))
            parts = [torch.arange(share, count, shares) for share in range(shares)]
        else:
            parts = list(torch.arange(count, device=frames.device).split(_POOL))

        def work(part: Tensor) -> Solution:
            chosen = frames[part]
            wanted = self.targets.frames(chosen), self.bounds.frames(chosen)
            return minimise(start[:, part], *wanted, first[part])

        for part, found in zip(parts, in_threads(work, parts, self.workers), strict=True):
            chosen = frames[part]
            solution.iterations[chosen] += found.iterations
            before = solution.cost[chosen]
            better = found.cost < before
            # What goes on from where it was cut off may find that it was there.
            better |= found.converged & (found.cost <= before + 1e-9 * before + _NOTHING)
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
        self._solve(solution, suspect, start, FAR)
        return bool((solution.cost[suspect] < 0.99 * before).any())


def _interpolated(
    coordinates: Tensor, solved: Tensor, frames: Tensor, per_trial: int
) -> tuple[Tensor, Tensor]:
    """Coordinates [Q, len(frames)] between those of solved frames, and whether these are close.

    By the cubic through the two before and the two after where all four are equally far apart in
    time, else by a line.
    """
    after = torch.searchsorted(solved, frames).clamp(1, len(solved) - 1)
    early, late = solved[after - 1], solved[after]
    share = ((frames - early) / (late - early)).to(coordinates.dtype)
    first, last = coordinates[:, early], coordinates[:, late]
    line = torch.lerp(first, last, share)
    before = solved[(after - 2).clamp_min(0)]
    beyond = solved[(after + 1).clamp_max(len(solved) - 1)]
    even = (early - before == late - early) & (beyond - late == late - early)
    even &= before // per_trial == beyond // per_trial
    bend = coordinates[:, before] - first - last + coordinates[:, beyond]
    skew = coordinates[:, beyond] - 3 * last + 3 * first - coordinates[:, before]
    # Newton's form about the middle interval: the second and third differences.
    rest = share * (share - 1)
    curve = line + rest * (bend / 4 + (share - 0.5) * skew / 6)
    close = (last - first).abs().amax(0) < _CLOSE
    even &= close & (bend.abs().amax(0) < _CLOSE)
    return torch.where(even, curve, line), close


Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> list[Result]:
    """work(item) of each item, without gradients, on threads of one processor each.

    PyTorch factorises a batch of matrices on one processor whatever its thread count, so that
    frames, not operations, have to be shared out.
    """
    if workers == 1 or len(items) == 1:
        return [work(item) for item in items]

    def alone(item: Item) -> Result:
        # Whether gradients are kept is a matter of the thread, too.
        with one_thread(), torch.no_grad():
            return work(item)

    with one_thread(), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(alone, items))


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch's operations on the calling thread alone: its helpers would keep processors busy
    waiting for their next share, while threads of ours want them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
