"""One damped Gauss-Newton step within bounds, for many small systems at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_HELD = 1e12
"""Added to the diagonal of a coordinate that must not move."""
_BOUND_PASSES = 3
"""How often a step may meet more bounds."""


class Bounds(NamedTuple):
    """Of the F free coordinates; infinite where not clamped."""

    low: Tensor
    """[F] rad or m."""
    high: Tensor

    def to(self, device: torch.device) -> Bounds:
        """The same on a device."""
        return Bounds(self.low.to(device), self.high.to(device))

    def clamp(self, values: Tensor) -> Tensor:
        """Values [..., F] within the bounds."""
        return torch.minimum(torch.maximum(values, self.low), self.high)

    def held(self, values: Tensor, gradient: Tensor) -> Tensor:
        """Where a bound keeps values [..., F] from following their negative gradient."""
        return ((values <= self.low) & (gradient > 0)) | ((values >= self.high) & (gradient < 0))


class GaussNewtonStep(NamedTuple):
    """Of B frames."""

    change: Tensor
    """[B, F] rad or m; stays within the bounds."""
    decrease: Tensor
    """[B] m^2: how much lower the quadratic model's cost is there."""


def gauss_newton_step(
    now: Tensor, gradient: Tensor, hessian: Tensor, damping: Tensor, bounds: Bounds
) -> GaussNewtonStep:
    """The minimum of the damped quadratic model, at coordinates `now` [B, F].

    Args:
        gradient: [B, F] half the cost's.
        hessian: [B, F, F] half the cost's, lower triangle, zero above; changed and restored.
        damping: [B] added to the Hessian's diagonal.
    """
    held = bounds.held(now, gradient)
    change = _solve(gradient, hessian, damping, held)
    stopped = torch.zeros_like(held)
    for _ in range(_BOUND_PASSES):
        there = now + change
        inside = bounds.clamp(there) - now
        crossed = ((there < bounds.low) | (there > bounds.high)) & ~stopped
        crossing = crossed.any(1).nonzero().flatten()
        if not len(crossing):
            break
        # What meets its bound stops there, and the others step knowing so.
        stopped |= crossed
        chosen, halted = hessian[crossing], stopped[crossing]
        given = torch.where(halted, inside[crossing], 0.0)
        push = gradient[crossing] + _times(chosen, given)
        rest = _solve(push, chosen, damping[crossing], held[crossing] | halted)
        change[crossing] = given + rest
    inside = bounds.clamp(now + change) - now
    along = (gradient * inside).sum(1)
    # (H + damping) change = -gradient, but for frames that met a bound.
    decrease = damping * inside.square().sum(1) - along
    bounded = stopped.any(1).nonzero().flatten()
    if len(bounded):
        met = inside[bounded]
        curvature = (met * _times(hessian[bounded], met)).sum(1)
        decrease[bounded] = -2 * along[bounded] - curvature
    return GaussNewtonStep(inside, decrease)


def _times(lower: Tensor, vector: Tensor) -> Tensor:
    """Symmetric matrices given by their lower triangles [B, F, F] (zero above) times [B, F]."""
    column = vector.unsqueeze(-1)
    product = (lower @ column + lower.mT @ column).squeeze(-1)
    return product - lower.diagonal(dim1=-2, dim2=-1) * vector


def _solve(gradient: Tensor, hessian: Tensor, damping: Tensor, held: Tensor) -> Tensor:
    """Step [B, F]; zero for coordinates that are held."""
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    undamped = diagonal.clone()
    diagonal += damping.unsqueeze(-1) + _HELD * held
    factor, _ = torch.linalg.cholesky_ex(hessian)
    diagonal.copy_(undamped)
    step = -torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
    # A direction that nothing sees can round to a negative pivot: no step, and more damping.
    usable = torch.isfinite(step).all(1, keepdim=True) & ~held
    return torch.where(usable, step, 0.0)
