"""Where frames between solved ones start."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from d3ke.kinematics.ik_schedule import _interpolated


def curve(times):
    """[2, T] cubics in time, slow enough to count as close."""
    t = 0.02 * torch.as_tensor(times, dtype=torch.float64)
    return torch.stack([t**3 - t**2, 0.5 - 2.0 * t + 0.3 * t**3])


@pytest.mark.parametrize("trials", [1, 2])
def test_a_cubic_between_even_neighbours_a_line_elsewhere(trials):
    per_trial = 24
    within = torch.arange(per_trial)
    coordinates = curve(within).repeat(1, trials)
    start = per_trial * (trials - 1)
    offsets = per_trial * torch.arange(trials)[:, None]
    solved = (torch.arange(0, 24, 4) + offsets).flatten()
    middle = torch.tensor([6, 10, 14]) + start
    found, is_close = _interpolated(coordinates, solved, middle, per_trial)
    assert is_close.all()
    np.testing.assert_allclose(found, curve(middle - start), atol=1e-12)
    # The first and the last gap have no neighbour beyond, whatever the trial before ends with.
    edge = torch.tensor([2, 18]) + start
    found, _ = _interpolated(coordinates, solved, edge, per_trial)
    line = (curve(edge - start - 2) + curve(edge - start + 2)) / 2
    np.testing.assert_allclose(found, line, atol=1e-12)
    assert (found - curve(edge - start)).abs().max() > 1e-3


def test_neighbours_across_a_gap_make_a_line():
    coordinates = curve(torch.arange(40))
    solved = torch.tensor([0, 4, 8, 30, 34])
    found, _ = _interpolated(coordinates, solved, torch.tensor([6, 15]), 40)
    share = 7 / 22
    np.testing.assert_allclose(found[:, 0], (curve(4) + curve(8))[:, None][:, 0] / 2, atol=1e-12)
    np.testing.assert_allclose(found[:, 1], (1 - share) * curve(8) + share * curve(30), atol=1e-12)


def test_frames_that_differ_much_are_not_close():
    coordinates = torch.tensor([[0.0, 0.1, 0.2, 3.0, 6.0]], dtype=torch.float64)
    found, is_close = _interpolated(coordinates, torch.tensor([0, 2, 4]), torch.tensor([1, 3]), 5)
    assert is_close.tolist() == [True, False]
    np.testing.assert_allclose(found, [[0.1, 3.1]])
