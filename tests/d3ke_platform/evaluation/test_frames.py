from __future__ import annotations

import numpy as np

from d3ke_platform.evaluation.frames import speed


def test_speed_uses_the_real_time_steps():
    values = np.array([[[0.0, 0.0]], [[3.0, 4.0]], [[3.0, 4.0]], [[0.0, 4.0]]])
    result = speed(values, np.array([0.0, 0.1, 0.2, 0.5]))
    np.testing.assert_allclose(result[:3, 0], [50.0, 0.0, 10.0])
    assert np.isnan(result[3, 0])


def test_speed_ignores_doubled_times():
    result = speed(np.arange(3.0).reshape(3, 1, 1), np.array([0.0, 0.0, 0.1]))
    assert np.isnan(result[0, 0])
    np.testing.assert_allclose(result[1, 0], 10.0)


def test_speed_of_one_frame_is_unknown():
    assert np.isnan(speed(np.zeros((1, 2, 3)), np.zeros(1))).all()
