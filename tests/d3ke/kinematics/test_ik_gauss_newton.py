"""A Gauss-Newton step within bounds against the same step worked out one frame at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from d3ke.kinematics.ik_gauss_newton import Bounds, gauss_newton_step

FRAMES, COORDINATES = 40, 7
DAMPING = 1e-3


@pytest.fixture(scope="module")
def problem():
    """Coordinates, gradients and Hessians of frames of which many meet bounds."""
    generator = np.random.default_rng(0)
    jacobian = generator.normal(size=(FRAMES, 3 * COORDINATES, COORDINATES))
    hessian = np.einsum("bij,bik->bjk", jacobian, jacobian) / (3 * COORDINATES)
    now = generator.uniform(-1.0, 1.0, (FRAMES, COORDINATES))
    now[::3, 2] = 1.0  # at its bound already
    gradient = generator.normal(size=(FRAMES, COORDINATES))
    return now, gradient, hessian


def by_hand(now, gradient, hessian, low, high, passes):
    """What meets a bound is put there and the rest solved again, so many times."""
    held = ((now <= low) & (gradient > 0)) | ((now >= high) & (gradient < 0))
    stopped, given = np.zeros(len(now), dtype=bool), np.zeros(len(now))
    damped = hessian + DAMPING * np.eye(len(now))
    for _ in range(passes + 1):
        free = ~held & ~stopped
        change = np.where(stopped, given, 0.0)
        right = -gradient - damped @ change
        change[free] = np.linalg.solve(damped[np.ix_(free, free)], right[free])
        crossed = (now + change < low) | (now + change > high)
        crossed &= free
        given = np.where(crossed, np.clip(now + change, low, high) - now, given)
        stopped |= crossed
        if not crossed.any():
            break
    return np.clip(now + change, low, high) - now


@pytest.mark.parametrize("each", [False, True], ids=["shared bounds", "bounds of each frame"])
def test_a_step_stops_at_bounds_and_the_others_know(problem, each):
    now, gradient, hessian = problem
    high = np.ones((FRAMES, COORDINATES))
    if each:
        high[1::2, 2:] = np.inf
    low = -high
    given = torch.tensor(now), torch.tensor(gradient), torch.tensor(hessian).tril()
    sides = (low, high) if each else (low[0], high[0])
    bounds = Bounds(*(torch.tensor(side) for side in sides))
    damping = torch.full((FRAMES,), DAMPING, dtype=torch.float64)
    found = gauss_newton_step(*given, damping, bounds)
    assert (found.change.numpy() + now <= high + 1e-15).all()
    stops = 0
    for frame in range(FRAMES):
        parts = now[frame], gradient[frame], hessian[frame], low[frame], high[frame]
        expected = by_hand(*parts, passes=2)
        np.testing.assert_allclose(found.change[frame], expected, atol=1e-12)
        stops += int((np.abs(now[frame] + expected) == 1.0).sum())
        model = 2.0 * gradient[frame] @ expected + expected @ hessian[frame] @ expected
        assert float(found.decrease[frame]) == pytest.approx(-model, abs=1e-12)
    assert stops > 10  # else nothing is shown
    # The Hessian is as it was.
    np.testing.assert_array_equal(given[2].numpy(), np.tril(hessian))


def test_no_step_where_the_hessian_is_not_positive(problem):
    now, gradient, hessian = (part[:2].copy() for part in problem)
    hessian[1] -= 5.0 * np.eye(COORDINATES)
    free = torch.full((COORDINATES,), torch.inf, dtype=torch.float64)
    given = torch.tensor(now), torch.tensor(gradient), torch.tensor(hessian).tril()
    damping = torch.full((2,), DAMPING, dtype=torch.float64)
    found = gauss_newton_step(*given, damping, Bounds(-free, free))
    assert found.change[0].abs().max() > 0.0
    assert found.change[1].eq(0.0).all()
    assert found.decrease.isnan().tolist() == [False, True]
