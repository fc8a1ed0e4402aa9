"""Levenberg-Marquardt on many frames at once, each with its own damping."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from d3ke.kinematics.ik_gauss_newton import Bounds, gauss_newton_step
from d3ke.kinematics.ik_system import MarkerSystem, NormalEquations, Targets

_DAMPING = 1e-4
"""At the start, in the Hessian's unit (m^2 per rad^2 or m^2)."""
_LEAST_DAMPING = 1e-9
_HONEST_DAMPING = 1e-7
"""Under more damping than this a small decrease says nothing about the optimum."""
_FIRM_DAMPING = 1e-7
"""At least this much after a step that did not help."""
_CPU_BATCH = 256
_MAX_STEP = 0.35
"""Largest change of a coordinate in one step, rad or m: far steps end in other local minima."""
_NOTHING = 1e-14
"""m^2: nobody minds a tenth of a micrometre."""


class Solution(NamedTuple):
    """Of B frames."""

    coordinates: Tensor
    """[Q, B] rad or m; coupled coordinates are not set (`MarkerSystem.complete`)."""
    cost: Tensor
    """[B] m^2."""
    converged: Tensor
    """[B] True where a Gauss-Newton step with next to no damping promises to lower the cost by
    less than the share `accuracy`."""
    iterations: Tensor
    """[B]"""


def minimise(
    system: MarkerSystem,
    start: Tensor,
    targets: Targets,
    bounds: Bounds,
    *,
    accuracy: float,
    max_iterations: int,
) -> Solution:
    """The optimum of every frame, from `start` [Q, B] rad or m."""
    free = torch.from_numpy(system.free).to(start.device)
    result = start.clone()
    result[free] = bounds.clamp(start[free].T).T
    count = start.shape[1]
    state = _State.begin(system, free, result, targets)
    cost = state.equations.cost.clone()
    converged = torch.zeros(count, dtype=torch.bool, device=start.device)
    iterations = torch.zeros(count, dtype=torch.int64, device=start.device)
    for _ in range(max_iterations):
        iterations[state.frames] += (~state.converged).long()
        state.advance(bounds, accuracy)
        finished = float(state.converged.double().mean())
        if finished > 0.25:
            state.store(result, cost, converged)
            if finished == 1.0:
                break
            state = state.unfinished()
    state.store(result, cost, converged)
    return Solution(result, cost, converged, iterations)


class _State:
    """Frames that are still being worked on."""

    def __init__(
        self,
        system: MarkerSystem,
        free: Tensor,
        frames: Tensor,
        coordinates: Tensor,
        targets: Targets,
        equations: NormalEquations,
        damping: Tensor,
    ) -> None:
        self.system, self.free, self.frames = system, free, frames
        self.coordinates, self.targets = coordinates, targets
        self.equations, self.damping = equations, damping
        self.converged = torch.zeros_like(frames, dtype=torch.bool)

    @classmethod
    def begin(
        cls, system: MarkerSystem, free: Tensor, coordinates: Tensor, targets: Targets
    ) -> _State:
        frames = torch.arange(coordinates.shape[1], device=coordinates.device)
        damping = torch.full_like(coordinates[0], _DAMPING)
        equations = system(coordinates, targets)
        return cls(system, free, frames, coordinates.clone(), targets, equations, damping)

    def unfinished(self) -> _State:
        """Without the frames that have converged."""
        left = (~self.converged).nonzero().flatten()
        return _State(
            self.system,
            self.free,
            self.frames[left],
            self.coordinates[:, left],
            self.targets.frames(left),
            NormalEquations(*(part[left] for part in self.equations)),
            self.damping[left],
        )

    def store(self, coordinates: Tensor, cost: Tensor, converged: Tensor) -> None:
        """Write this state into arrays of all frames."""
        coordinates[:, self.frames] = self.coordinates
        cost[self.frames] = self.equations.cost
        converged[self.frames] = self.converged

    def advance(self, bounds: Bounds, accuracy: float) -> None:
        """One step of every frame, in batches that stay in the processor's cache."""
        size = _CPU_BATCH if self.frames.device.type == "cpu" else len(self.frames)
        for first in range(0, len(self.frames), size):
            self._advance(slice(first, first + size), bounds, accuracy)

    def _advance(self, part: slice, bounds: Bounds, accuracy: float) -> None:
        equations = NormalEquations(*(whole[part] for whole in self.equations))
        coordinates, damping = self.coordinates[:, part], self.damping[part]
        cost, done = equations.cost, self.converged[part]
        now = coordinates[self.free].T
        step = gauss_newton_step(now, equations.gradient, equations.hessian, damping, bounds)
        share = _MAX_STEP / step.change.abs().amax(1).clamp_min(_MAX_STEP)
        trial = coordinates.clone()
        trial[self.free] = bounds.clamp(now + step.change * share.unsqueeze(-1)).T
        new = self.system(trial, self.targets.frames(part))
        better = ~done & (new.cost <= cost + 1e-13 * cost + _NOTHING)
        small = step.decrease.abs() <= accuracy * cost + _NOTHING
        finished = ~done & small & (damping <= _HONEST_DAMPING)
        gain = (cost - new.cost) / step.decrease.clamp_min(_NOTHING)
        gain = torch.where((share < 1.0) | small, 1.0, gain)
        self.damping[part] = _damped(damping, better, gain)
        self.converged[part] |= finished
        self.coordinates[:, part] = torch.where(better, trial, coordinates)
        accepted = better.nonzero().flatten()
        for old, fresh in zip(equations, new, strict=True):
            old[accepted] = fresh[accepted]


def _damped(damping: Tensor, better: Tensor, gain: Tensor) -> Tensor:
    """Less damping where the model foretold the cost well, more where it did not."""
    factor = torch.where(gain > 0.75, 0.05, torch.where(gain > 0.25, 0.5, 2.0))
    eased = (damping * factor).clamp_min(_LEAST_DAMPING)
    return torch.where(better, eased, (damping * 10.0).clamp_min(_FIRM_DAMPING))
