"""One damped Gauss-Newton step within bounds, for many small systems at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_HELD = 1e12
"""Added to the diagonal of a coordinate that must not move."""
_AT_BOUND = 1e-12
"""rad or m: sums round."""
_BOUND_PASSES = 2
"""How often a step may meet more bounds."""


class Bounds(NamedTuple):
    """Of the F free coordinates; infinite where not clamped."""

    low: Tensor
    """[F], or [B, F] where frames differ, rad or m."""
    high: Tensor

    def frames(self, index: Tensor | slice) -> Bounds:
        """Those of some frames."""
        return self if self.low.ndim == 1 else Bounds(self.low[index], self.high[index])

    def to(self, device: torch.device) -> Bounds:
        """The same on a device."""
        return Bounds(self.low.to(device), self.high.to(device))

    def clamp(self, values: Tensor) -> Tensor:
        """Values [..., F] within the bounds."""
        return torch.minimum(torch.maximum(values, self.low), self.high)

    def held(self, values: Tensor, gradient: Tensor) -> Tensor:
        """Where a bound keeps values [..., F] from following their negative gradient."""
        below, above = values <= self.low + _AT_BOUND, values >= self.high - _AT_BOUND
        return (below & (gradient > 0)) | (above & (gradient < 0))


class GaussNewtonStep(NamedTuple):
    """Of B frames."""

    change: Tensor
    """[B, F] rad or m; stays within the bounds."""
    decrease: Tensor
    """[B] m^2: how much lower the quadratic model's cost is there; NaN where there is no step."""


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
    lower, usable = _factor(hessian, damping, held)
    change = _solve(lower, -gradient.unsqueeze(-1)).squeeze(-1)
    change = torch.where(usable & ~held, change, 0.0)
    stopped = torch.zeros_like(held)
    for _ in range(_BOUND_PASSES):
        there = now + change
        crossed = ((there < bounds.low) | (there > bounds.high)) & ~stopped
        crossing = crossed.any(1).nonzero().flatten()
        if not len(crossing):
            break
        # What meets its bound stops there, and the others step knowing so.
        stopped |= crossed
        wanted = bounds.clamp(there) - now
        given = lower[crossing], change[crossing], stopped[crossing], wanted[crossing]
        change[crossing] = torch.where(held[crossing], 0.0, _with_stops(*given))
    inside = bounds.clamp(now + change) - now
    along, length = (gradient * inside).sum(1), damping * inside.square().sum(1)
    # (H + damping) change = -gradient, but for frames that met a bound.
    decrease = length - along
    bounded = stopped.any(1).nonzero().flatten()
    if len(bounded):
        # H + damping = L L'; what is held does not move.
        curvature = (lower[bounded].mT @ inside[bounded].unsqueeze(-1)).square().sum((1, 2))
        decrease[bounded] = length[bounded] - 2.0 * along[bounded] - curvature
    return GaussNewtonStep(inside, torch.where(usable.squeeze(1), decrease, torch.nan))


def _factor(hessian: Tensor, damping: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factor [B, F, F], lower, of the damped Hessian, and whether [B, 1] there is one."""
    diagonal = hessian.diagonal(dim1=-2, dim2=-1)
    undamped = diagonal.clone()
    diagonal += damping.unsqueeze(-1) + _HELD * held
    # LAPACK counts along columns: to it, our lower triangle is an upper one.
    upper, failed = torch.linalg.cholesky_ex(hessian.mT, upper=True)
    diagonal.copy_(undamped)
    # A direction that nothing sees can round to a negative pivot.
    return upper.mT, (failed == 0).unsqueeze(-1)


def _solve(lower: Tensor, right: Tensor) -> Tensor:
    """(L L')^-1 times [B, F, K]."""
    half = torch.linalg.solve_triangular(lower, right, upper=False)
    return torch.linalg.solve_triangular(lower.mT, half, upper=True)


def _with_stops(lower: Tensor, change: Tensor, stopped: Tensor, wanted: Tensor) -> Tensor:
    """Steps [B, F] in which the coordinates `stopped` change as `wanted`, and the others make the
    best of it: `change` plus the columns of the inverse Hessian of those stopped, as much of each
    as it takes."""
    most = int(stopped.sum(1).max())
    is_stop, index = stopped.to(change.dtype).topk(most, dim=1)
    missing = is_stop * (wanted - change).gather(1, index)
    units = torch.zeros_like(lower[:, :most])
    units.scatter_(2, index.unsqueeze(-1), is_stop.unsqueeze(-1))
    half = torch.linalg.solve_triangular(lower, units.mT, upper=False)
    # Where a frame has fewer stops than another, ones on the diagonal.
    among = half.mT @ half + torch.diag_embed(1.0 - is_stop)
    amounts = torch.linalg.solve(among, missing.unsqueeze(-1))
    more = torch.linalg.solve_triangular(lower.mT, half @ amounts, upper=True)
    return torch.where(stopped, wanted, change + more.squeeze(-1))
