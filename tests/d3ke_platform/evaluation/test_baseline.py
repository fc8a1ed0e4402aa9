from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from d3ke.errors import InvalidInputError
from d3ke_platform.evaluation.baseline import mean_baseline


def make(n: int = 4):
    turns = np.radians([80.0, 100.0, -10.0, 10.0])[:n]
    return mean_baseline(
        coordinates=np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0], [100.0, 1.0]])[:n],
        coordinate_mask=np.array([[1, 0], [1, 0], [1, 0], [0, 0]], dtype=bool)[:n],
        factors=np.array([[0.9], [1.1], [0.9], [1.1]])[:n],
        root_rotation=Rotation.from_rotvec(turns[:, None] * [0, 1, 0]).as_matrix(),
        cameras=np.array(["side", "side", "front", "front"], dtype=object)[:n],
    )


def test_masked_frames_do_not_count():
    assert make().mean.coordinates[0] == pytest.approx(2.0)


def test_a_coordinate_that_is_always_masked_keeps_its_mean():
    assert make().mean.coordinates[1] == pytest.approx(1.0)


def test_orientation_is_by_camera():
    side = make().estimate("side", 3)
    front = make().estimate("front", 3)
    assert side.root_rotation.shape == (3, 3, 3)
    assert Rotation.from_matrix(side.root_rotation[0]).magnitude() == pytest.approx(np.pi / 2)
    np.testing.assert_allclose(front.root_rotation[0], np.eye(3), atol=1e-12)


def test_an_unknown_camera_gets_the_mean_of_all():
    turn = Rotation.from_matrix(make().estimate("above", 1).root_rotation[0]).magnitude()
    assert turn == pytest.approx(np.radians(45), abs=0.02)


def test_no_frames_is_an_error():
    with pytest.raises(InvalidInputError, match="training split"):
        make(0)
