"""Scale factors of a subject from a static trial, together with its pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from d3ke.arrays import FloatArray, IntArray
from d3ke.kinematics.ik_gauss_newton import Bounds
from d3ke.kinematics.ik_system import MarkerSystem, Targets
from d3ke.skeleton import MeasurementSet, Skeleton

_MARKER_SPREAD = 0.003
"""m, how far a marker is expected from its place on a scaled model."""
_FACTOR_SPREAD = 0.1
"""How far a body's factor is expected from the body's overall size. With the marker spread it
decides how much a few markers may say, and about bodies that no marker measures."""
_ROUNDS = 60
_ENOUGH = 1e-6


def scale_slots(skeleton: Skeleton, measurements: MeasurementSet | None) -> IntArray:
    """[N, 3] index of the factor of each body axis, -1 = not scaled: those of the measurements, or
    one factor per body."""
    if measurements is not None:
        slots = np.asarray(measurements.slots(skeleton))
        # Measurements that later ones override scale nothing.
        used = np.unique(slots[slots >= 0])
        return np.where(slots >= 0, np.searchsorted(used, slots), -1)
    return np.repeat(np.arange(len(skeleton.bodies))[:, None], 3, axis=1)


@dataclass(frozen=True, kw_only=True)
class ScaleEstimator:
    """Gauss-Newton on the factors [G] and the poses [Q, T] of a few static frames at once.

    Marker positions are linear in the factors; the poses are eliminated from the normal equations
    (Schur complement), so that the rest is a system of G unknowns whatever the frames.
    """

    system: MarkerSystem
    bounds: Bounds
    slots: IntArray
    """[N, 3]; see `scale_slots`."""

    def estimate(self, start: Tensor, targets: Targets) -> tuple[FloatArray, Tensor]:
        """Scales [N, 3] and coordinates [Q, T], from start [Q, T] rad or m.

        First one factor for the whole body, then all, held near it as far as the spreads say.
        """
        whole = np.where(self.slots >= 0, 0, -1)
        size, coordinates = self._solve(whole, torch.ones(1).to(start), None, start, targets)
        count = int(self.slots.max()) + 1
        factors, coordinates = self._solve(
            self.slots, size.expand(count).clone(), float(size), coordinates, targets
        )
        return _scales(self.slots, factors)[..., 0].cpu().numpy(), coordinates

    def _solve(
        self,
        slots: IntArray,
        factors: Tensor,
        size: float | None,
        coordinates: Tensor,
        targets: Targets,
    ) -> tuple[Tensor, Tensor]:
        free = torch.from_numpy(self.system.free).to(coordinates.device)
        expected = (_MARKER_SPREAD / _FACTOR_SPREAD) ** 2 / len(targets.markers)
        prior = 0.0 if size is None else expected * coordinates.shape[1]
        damping = 1e-6

        def cost(f: Tensor, q: Tensor) -> Tensor:
            equations = self.system(q, targets._replace(scales=_scales(slots, f)))
            away = f - (f if size is None else size)
            return equations.cost.sum() + prior * away.square().sum()

        total = cost(factors, coordinates)
        for _ in range(_ROUNDS):
            step, poses = self._step(slots, factors, size, prior, coordinates, targets, damping)
            new_factors = (factors + step).clamp(0.2, 5.0)
            trial = coordinates.clone()
            trial[free] = self.bounds.clamp(coordinates[free].T + poses.clamp(-0.35, 0.35)).T
            fresh = cost(new_factors, trial)
            if fresh <= total:
                done = bool(total - fresh <= _ENOUGH * total)
                factors, coordinates, total = new_factors, trial, fresh
                damping = max(damping / 10, 1e-9)
                if done:
                    break
            else:
                damping *= 10
        return factors, coordinates

    def _step(
        self,
        slots: IntArray,
        factors: Tensor,
        size: float | None,
        prior: float,
        coordinates: Tensor,
        targets: Targets,
        damping: float,
    ) -> tuple[Tensor, Tensor]:
        """Changes of the factors [G] and of the free coordinates [T, F]."""
        scales = _scales(slots, factors)
        equations = self.system(coordinates, targets._replace(scales=scales))
        moves = self._marker_moves(slots, len(factors), coordinates)
        pulled = targets.marker_weights.unsqueeze(1) * moves
        cross = self._cross(coordinates, scales, pulled)
        residuals = self.system.markers(coordinates, scales) - targets.markers
        gradient = (pulled * residuals).sum((1, 2, 3))
        if size is not None:
            gradient = gradient + prior * (factors - size)
        now = coordinates[torch.from_numpy(self.system.free).to(coordinates.device)].T
        pushed = equations.gradient
        held = ((now <= self.bounds.low) & (pushed > 0)) | (
            (now >= self.bounds.high) & (pushed < 0)
        )
        hessian = equations.hessian + torch.diag_embed(damping + 1e12 * held)
        factor = torch.linalg.cholesky(hessian)
        solved = torch.cholesky_solve(cross, factor)
        normal = torch.einsum("gmit,hmit->gh", pulled, moves)
        eye = torch.eye(len(factors)).to(normal)
        schur = normal + (prior + damping) * eye - torch.einsum("tfg,tfh->gh", cross, solved)
        side = -gradient + torch.einsum("tfg,tf->g", solved, pushed)
        step = torch.linalg.lstsq(schur, side).solution
        rest = pushed + cross @ step
        return step, -torch.cholesky_solve(rest.unsqueeze(-1), factor).squeeze(-1)

    def _marker_moves(self, slots: IntArray, count: int, coordinates: Tensor) -> Tensor:
        """[G, M, 3, T] m by which a unit of each factor moves the markers: exact, as positions
        are linear in the scales."""
        nothing = torch.zeros(count).to(coordinates)
        none = self.system.markers(coordinates, _scales(slots, nothing, unscaled=0.0))
        moves = []
        for one in torch.eye(count).to(coordinates):
            moves.append(self.system.markers(coordinates, _scales(slots, one, unscaled=0.0)) - none)
        return torch.stack(moves)

    def _cross(self, coordinates: Tensor, scales: Tensor, pulled: Tensor) -> Tensor:
        """J' W dp/ds [T, F, G] by one backward pass per factor, batched."""
        free = torch.from_numpy(self.system.free).to(coordinates.device)
        with torch.enable_grad():
            leaf = coordinates.clone().requires_grad_()
            points = self.system.markers(leaf, scales)
            (found,) = torch.autograd.grad(points, leaf, pulled, is_grads_batched=True)
        return found[:, free].permute(2, 1, 0)


def _scales(slots: IntArray, factors: Tensor, unscaled: float = 1.0) -> Tensor:
    """[N, 3, 1] from factors [G]; `unscaled` where no factor applies."""
    padded = torch.cat([factors, factors.new_full((1,), unscaled)])
    return padded[torch.from_numpy(slots).to(factors.device)].unsqueeze(-1)
