"""Which axis is up: told by people who stand."""

from __future__ import annotations

import numpy as np
import pytest

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke_platform.calibration import UP_AXES, ground_from_world
from d3ke_platform.sources.ground_axes import settle_up_axis, up_axis_of


def trunks(direction: FloatArray, spread: float = 0.2) -> FloatArray:
    rng = np.random.default_rng(0)
    return direction + rng.normal(0.0, spread, (40, 3))


@pytest.mark.parametrize("axis", UP_AXES)
def test_the_axis_is_found_and_turned_upright(axis: str) -> None:
    in_world = ground_from_world(axis).T @ np.array([0.0, 0.5, 0.0])
    assert up_axis_of(trunks(in_world, 0.1)) == axis
    rotation = ground_from_world(axis)
    np.testing.assert_allclose(rotation @ in_world, [0.0, 0.5, 0.0], atol=1e-12)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_lying_and_unseen_people_do_not_tell() -> None:
    assert up_axis_of(trunks(np.array([0.35, 0.0, 0.35]), 0.05)) == ""
    assert up_axis_of(trunks(np.zeros(3))) == ""
    gaps = trunks(np.array([0.0, 0.0, 0.5]), 0.05)
    gaps[4:] = np.nan
    assert up_axis_of(gaps) == ""
    gaps[4] = [0.0, 0.0, 0.5]
    assert up_axis_of(gaps) == "z"


def test_what_is_settled() -> None:
    assert settle_up_axis("c.toml", "auto", "-y") == "-y"
    assert settle_up_axis("c.toml", "z", "z") == "z"
    assert settle_up_axis("c.toml", "z", "") == "z"  # nobody stands: the setting counts
    with pytest.raises(InvalidInputError, match=r"c\.toml.*nobody stands.*Set multicamera.up_axis"):
        settle_up_axis("c.toml", "auto", "")
    with pytest.raises(InvalidInputError) as caught:
        settle_up_axis("c.toml", "z", "-y")
    assert "Set multicamera.up_axis to '-y' or to 'auto'" in str(caught.value)
