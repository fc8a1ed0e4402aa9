"""Levenberg-Marquardt on many frames at once, each with its own damping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from d3ke.kinematics.ik_gauss_newton import Bounds, GaussNewtonStep, gauss_newton_step
from d3ke.kinematics.ik_system import MarkerSystem, NormalEquations, Targets

FAR = 1e-4
"""Damping of a start that may be anywhere, in the Hessian's unit (m^2 per rad^2 or m^2)."""
NEAR = 1e-7
"""Of a start beside the optimum."""
_LEAST_DAMPING = 1e-9
_HONEST_DAMPING = 1e-7
_FIRM_DAMPING = 1e-7
"""At least this much after a step that did not help."""
_SCOUT_ACCURACY = 0.02
_CPU_BATCH = 256
_ROOM = 1 / 8
"""Share of a batch that is refilled at once."""
_MAX_STEP = 0.5
"""Largest change of a coordinate in one step, rad or m: far steps end in other local minima."""
_NEAR_SHARE = 3e-4
"""Where a step promises no more than this share of the cost, the next has Newton's Hessian."""
_NOTHING = 1e-14
"""m^2: nobody minds a tenth of a micrometre."""


class Solution(NamedTuple):
    """Of B frames."""

    coordinates: Tensor
    """[Q, B] rad or m; coupled coordinates are not set (`MarkerSystem.complete`)."""
    cost: Tensor
    """[B] m^2, with the pull towards the default pose."""
    converged: Tensor
    """[B] True where a Gauss-Newton step with next to no damping promises to lower the cost by
    less than the share `accuracy`."""
    iterations: Tensor
    """[B]"""

    @classmethod
    def none(cls, coordinates: Tensor) -> Solution:
        """Coordinates [Q, B] that nobody has looked at, at an infinite cost."""
        count, device = coordinates.shape[1], coordinates.device
        return cls(
            coordinates.clone(),
            torch.full_like(coordinates[0], torch.inf),
            torch.zeros(count, dtype=torch.bool, device=device),
            torch.zeros(count, dtype=torch.int64, device=device),
        )


@dataclass(frozen=True, kw_only=True)
class Minimiser:
    """Finds the optimum of every frame.

    No more frames are worked on at once than a processor's cache holds; where one is done the
    next takes its place, so that a few that take long do not leave the processor idle.
    """

    system: MarkerSystem
    pull: Tensor
    """[F] the part of the coordinate tasks' weights that shall only choose among equal fits, or 0:
    see `_last_step`."""
    accuracy: float
    max_iterations: int
    honest_damping: float = _HONEST_DAMPING
    """Under more damping than this a small decrease does not count as convergence."""

    def __call__(
        self, start: Tensor, targets: Targets, bounds: Bounds, damping: Tensor
    ) -> Solution:
        """From `start` [Q, B] rad or m, with damping [B] (`FAR` or `NEAR`) at first."""
        free = torch.from_numpy(self.system.free).to(start.device)
        inside = start.clone()
        inside[free] = bounds.clamp(start[free].T).T
        solution, count = Solution.none(inside), start.shape[1]
        size = _CPU_BATCH if start.device.type == "cpu" else count
        waiting = torch.arange(count, device=start.device)
        work = _Work(waiting[:size], inside[:, :size], damping[:size])
        waiting = waiting[size:]
        while len(work.frames):
            work.evaluate(self.system, targets)
            done = self._advance(work, free, targets, bounds, solution)
            work.keep(~done)
            room = size - len(work.frames)
            if len(waiting) and room >= _ROOM * size:
                fresh, waiting = waiting[:room], waiting[room:]
                work.join(_Work(fresh, inside[:, fresh], damping[fresh]))
        return solution

    def briefly(self, iterations: int) -> Minimiser:
        """One that leaves what takes more steps."""
        return replace(self, max_iterations=min(iterations, self.max_iterations))

    def scout(self) -> Minimiser:
        """One that goes only so far as to see whether a start leads somewhere better."""
        none = torch.zeros_like(self.pull)
        return replace(self, accuracy=_SCOUT_ACCURACY, honest_damping=torch.inf, pull=none)

    def _advance(
        self, work: _Work, free: Tensor, targets: Targets, bounds: Bounds, solution: Solution
    ) -> Tensor:
        """One step of every frame; [b] True for those that are done, which go to `solution`."""
        equations, damping = work.equations, work.damping
        bounds = bounds.frames(work.frames)
        now = work.best[free].T
        step = gauss_newton_step(now, equations.gradient, equations.hessian, damping, bounds)
        enough = self.accuracy * equations.cost
        stopped = work.iterations >= self.max_iterations
        small = step.decrease.abs() <= enough + _NOTHING
        converged = small & (damping <= self.honest_damping) & ~stopped
        share = _MAX_STEP / step.change.abs().amax(1).clamp_min(_MAX_STEP)
        work.trial = work.best.clone()
        work.trial[free] = bounds.clamp(now + step.change * share.unsqueeze(-1)).T
        near = (share == 1.0) & (step.decrease < _NEAR_SHARE * equations.cost)
        work.curvature = near.to(work.curvature.dtype)
        # Where there is no step, the cost stays and the damping grows.
        work.foretold = torch.where(step.decrease.isnan(), torch.inf, step.decrease)
        work.foretold[(share < 1.0) | small] = torch.nan
        work.iterations += (~stopped).long()
        rows = converged.nonzero().flatten()
        if len(rows):
            work.best[:, rows] = self._last_step(work, free, rows, step, targets, bounds)
        done = converged | stopped
        if done.any():
            work.store(done, converged, solution)
        return done

    def _last_step(
        self,
        work: _Work,
        free: Tensor,
        rows: Tensor,
        step: GaussNewtonStep,
        targets: Targets,
        bounds: Bounds,
    ) -> Tensor:
        """Coordinates [Q, len(rows)] after the last step of frames that have converged.

        The pull towards the default pose moves what markers hold loosely. So its centre moves to
        where it has let the frame come (iterated Tikhonov regularisation): what the markers say
        anything about follows them, and what they leave open stays.
        """
        equations = NormalEquations(*(part[rows] for part in work.equations))
        aims, best = targets.frames(work.frames[rows]), work.best[:, rows]
        now, change = best[free].T, step.change[rows]
        away = now - aims.task_values[free].T
        if self.pull.any():
            least = torch.full_like(equations.cost, _LEAST_DAMPING)
            gradient = equations.gradient - self.pull * (away + change)
            bounds = bounds.frames(rows)
            change = gauss_newton_step(now, gradient, equations.hessian, least, bounds).change
        trial = best.clone()
        trial[free] = (now + change).T
        before = equations.cost - (self.pull * away.square()).sum(1)
        after = self.system.cost(trial, aims) - (self.pull * (away + change).square()).sum(1)
        harmless = after <= before + self.accuracy * equations.cost + _NOTHING
        return torch.where(harmless, trial, best)


class _Work:
    """b frames that are being worked on."""

    def __init__(self, frames: Tensor, start: Tensor, damping: Tensor) -> None:
        self.frames = frames
        """[b] among all."""
        self.trial = start
        """[Q, b] rad or m: what is tried next."""
        self.best = start.clone()
        """[Q, b] the best so far."""
        self.cost = torch.full_like(start[0], torch.inf)
        """[b] m^2, of the best."""
        self.damping = damping
        self.foretold = torch.full_like(start[0], torch.nan)
        """[b] m^2, by how much the trial promises to lower the cost; NaN where it was cut short or
        is too little to learn from."""
        self.curvature = torch.zeros_like(damping)
        """[b] 1 where the Hessian shall be Newton's, which is of use near an optimum only."""
        self.iterations = torch.zeros_like(frames)
        self._rows = torch.zeros_like(frames)
        """[b] where in `equations` a frame is."""
        self.equations: NormalEquations

    def evaluate(self, system: MarkerSystem, targets: Targets) -> None:
        """Find out what the trials are worth; `equations` are those of the best afterwards."""
        new = system(self.trial, targets.frames(self.frames), self.curvature)
        is_first = self.cost.isinf()
        better = is_first | (new.cost <= self.cost + 1e-13 * self.cost + _NOTHING)
        gain = (self.cost - new.cost) / self.foretold.clamp_min(_NOTHING)
        gain = torch.where(self.foretold.isnan(), 1.0, gain)
        self.damping = torch.where(is_first, self.damping, _damped(self.damping, better, gain))
        worse = (~better).nonzero().flatten()
        if len(worse):
            for old, part in zip(self.equations, new, strict=True):
                part[worse] = old[self._rows[worse]]
        self.best = torch.where(better, self.trial, self.best)
        self.equations, self.cost = new, new.cost
        self._rows = torch.arange(len(self.frames), device=self.frames.device)

    def store(self, done: Tensor, converged: Tensor, solution: Solution) -> None:
        """Write the frames that are done."""
        frames = self.frames[done]
        solution.coordinates[:, frames] = self.best[:, done]
        solution.cost[frames] = self.cost[done]
        solution.converged[frames] = converged[done]
        solution.iterations[frames] = self.iterations[done]

    def keep(self, chosen: Tensor) -> None:
        """Drop the other frames."""
        for name in ("frames", "cost", "damping", "foretold", "curvature", "iterations", "_rows"):
            setattr(self, name, getattr(self, name)[chosen])
        self.trial, self.best = self.trial[:, chosen], self.best[:, chosen]

    def join(self, other: _Work) -> None:
        """Take in frames that are new."""
        for name in ("frames", "cost", "damping", "foretold", "curvature", "iterations", "_rows"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))
        self.trial = torch.cat([self.trial, other.trial], 1)
        self.best = torch.cat([self.best, other.best], 1)


def _damped(damping: Tensor, better: Tensor, gain: Tensor) -> Tensor:
    """Less damping where the model foretold the cost well, more where it did not."""
    factor = torch.where(gain > 0.75, 0.05, torch.where(gain > 0.25, 0.5, 2.0))
    eased = (damping * factor).clamp_min(_LEAST_DAMPING)
    return torch.where(better, eased, (damping * 10.0).clamp_min(_FIRM_DAMPING))
