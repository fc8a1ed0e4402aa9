"""Inverse kinematics of a trial as one problem: frames tied to their neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from d3ke.kinematics.ik_gauss_newton import Bounds
from d3ke.kinematics.ik_system import MarkerSystem, NormalEquations, Targets

_HELD = 1e12
_ROUNDS = 20
_ENOUGH = 1e-7
"""Share of the cost below which a round's decrease ends the search."""


def smooth(
    system: MarkerSystem,
    start: Tensor,
    targets: Targets,
    bounds: Bounds,
    stiffness: float,
) -> tuple[Tensor, Tensor]:
    """Coordinates [Q, T] that minimise the frames' costs + stiffness * sum |q_t - q_(t-1)|^2.

    Gauss-Newton steps of all T frames at once: their normal equations are block tridiagonal, with
    -stiffness * I beside the diagonal.

    Args:
        start: [Q, T] rad or m, root angles without jumps of whole turns.
        stiffness: m^2 per rad^2 or m^2.

    Returns:
        coordinates, and whether the search ended at an optimum [] (bool).
    """
    free = torch.from_numpy(system.free).to(start.device)
    now = start.clone()
    now[free] = bounds.clamp(now[free].T).T
    equations = system(now, targets)
    total = _total(equations, now[free].T, stiffness)
    damping = 1e-9
    for _ in range(_ROUNDS):
        step = _step(equations, now[free].T, stiffness, damping, bounds)
        trial = now.clone()
        trial[free] = bounds.clamp(now[free].T + step).T
        new = system(trial, targets)
        fresh = _total(new, trial[free].T, stiffness)
        if fresh <= total:
            done = bool(total - fresh <= _ENOUGH * total)
            now, equations, total, damping = trial, new, fresh, max(damping / 10, 1e-10)
            if done:
                return now, torch.tensor(True)
        else:
            damping *= 100
    return now, torch.tensor(False)


def _total(equations: NormalEquations, free: Tensor, stiffness: float) -> Tensor:
    return equations.cost.sum() + stiffness * free.diff(dim=0).square().sum()


def _step(
    equations: NormalEquations, free: Tensor, stiffness: float, damping: float, bounds: Bounds
) -> Tensor:
    """[T, F] by block elimination forwards and substitution backwards."""
    count = len(free)
    change = free.diff(dim=0)
    gradient = equations.gradient.clone()
    gradient[1:] += stiffness * change
    gradient[:-1] -= stiffness * change
    held = bounds.held(free, gradient)
    neighbours = torch.full_like(gradient[:, :1], 2.0)
    neighbours[[0, -1]] -= 1.0
    below = equations.hessian.tril(-1)
    hessian = below + below.mT
    diagonal = equations.hessian.diagonal(dim1=-2, dim2=-1)
    hessian += torch.diag_embed(diagonal + stiffness * neighbours + damping + _HELD * held)
    eye = torch.eye(free.shape[1], dtype=free.dtype, device=free.device)
    inverses: list[Tensor] = []
    sides: list[Tensor] = []
    for frame in range(count):
        block, side = hessian[frame], -gradient[frame]
        if frame:
            block = block - stiffness**2 * inverses[-1]
            side = side + stiffness * (inverses[-1] @ sides[-1])
        inverses.append(torch.cholesky_solve(eye, torch.linalg.cholesky(block)))
        sides.append(side)
    steps = [inverses[-1] @ sides[-1]]
    for frame in range(count - 2, -1, -1):
        steps.append(inverses[frame] @ (sides[frame] + stiffness * steps[-1]))
    return torch.where(held, 0.0, torch.stack(steps[::-1]))
