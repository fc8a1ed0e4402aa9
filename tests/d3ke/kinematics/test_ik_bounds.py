"""Ranges of free coordinates, also those that a coupled coordinate's range implies."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from d3ke.kinematics.ik_bounds import coordinate_bounds
from d3ke.skeleton import Skeleton

sys.path.append(str(Path(__file__).parents[1] / "skeleton"))
from osim_models import SmallModel, functions, linear, linear_of

GRID = np.linspace(-1.4, 1.7, 31001)
"""The driver's whole range, rad."""
STEP = GRID[1] - GRID[0]


def skeleton_with(folder, couplers, *, clamped=(), ranges=None, defaults=None):
    """Coordinates a, b and c about the axes of one joint; couplers: dependent -> drivers, f."""
    model = SmallModel(base_joint=None)
    model.joint("WeldJoint", "base_joint", model.model.getGround(), model.base)
    joint = model.custom_joint({slot: (linear(1.0), [name]) for slot, name in enumerate("abc")})
    for dependent, (drivers, function) in couplers.items():
        model.coupler(dependent, drivers, function)
    for index in range(3):
        coordinate = joint.upd_coordinates(index)
        name = coordinate.getName()
        coordinate.setDefaultClamped(name in clamped)
        low, high = (ranges or {}).get(name, (-1.4, 1.7))
        coordinate.setRangeMin(low)
        coordinate.setRangeMax(high)
        coordinate.setDefaultValue((defaults or {}).get(name, 0.0))
    model.model.finalizeConnections()
    path = folder / "small.osim"
    # Without OpenSim's assembly, which would move the defaults.
    model.model.printToXML(str(path))
    return Skeleton.from_osim(path)


def bounds_of(skeleton, name):
    free = [q for q, n in enumerate(skeleton.coordinates) if n not in skeleton.coupled]
    low, high = coordinate_bounds(skeleton, np.array(free))
    place = free.index(skeleton.index_of("coordinate", name))
    return float(low[place]), float(high[place])


def brute_force(skeleton, driver):
    """The stretch of the driver's range around its default in which clamped ones keep theirs."""
    values = np.tile(skeleton.coordinate_defaults, (len(GRID), 1))
    column = skeleton.index_of("coordinate", driver)
    values[:, column] = GRID
    for _ in skeleton.couplers:  # as often as the longest chain could be
        for coupler in skeleton.couplers:
            values[:, coupler.dependent] = coupler.function(values)
    low, high = skeleton.coordinate_ranges.T
    inside = ((values >= low) & (values <= high) | ~skeleton.coordinate_clamped).all(1)
    middle = int(np.argmin(np.abs(GRID - skeleton.coordinate_defaults[column])))
    assert inside[middle]
    assert not inside.all()  # else the case would show nothing
    below, above = np.flatnonzero(~inside[:middle]), np.flatnonzero(~inside[middle:])
    first = below[-1] + 1 if len(below) else 0
    last = middle + above[0] - 1 if len(above) else len(GRID) - 1
    return GRID[first], GRID[last]


def test_only_clamped_coordinates_have_bounds(tmp_path):
    skeleton = skeleton_with(tmp_path, {}, clamped="b", ranges={"b": (-0.2, 0.3)})
    assert bounds_of(skeleton, "a") == (-np.inf, np.inf)
    assert bounds_of(skeleton, "b") == pytest.approx((-0.2, 0.3))


FUNCTIONS = {
    "rising line": (linear(2.0, 0.1), (-0.5, 1.0)),
    "falling line": (linear(-3.0, 0.1), (-0.5, 1.0)),
    # -0.03 at -0.6, 0.07 at -0.1, -0.04 at 0.9, 0.09 at 1.5: its default is in the middle hill.
    "SimmSpline": (functions()["SimmSpline"], (0.0, 0.2)),
    "PiecewiseLinearFunction": (functions()["PiecewiseLinearFunction"], (0.0, 0.2)),
    "one-sided": (functions()["SimmSpline"], (-1.0, 0.085)),
}


@pytest.mark.parametrize("driver_clamped", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_clamped_dependent_narrows_its_driver(name, driver_clamped, tmp_path):
    function, allowed = FUNCTIONS[name]
    clamped = "ab" if driver_clamped else "b"
    skeleton = skeleton_with(
        tmp_path, {"b": (["a"], function)}, clamped=clamped, ranges={"b": allowed}
    )
    low, high = brute_force(skeleton, "a")
    found = bounds_of(skeleton, "a")
    for got, expected, end in zip(found, (low, high), (-1.4, 1.7), strict=True):
        if np.isclose(expected, end, atol=STEP) and not driver_clamped:
            assert np.isinf(got)  # nothing was met within the range that the model names
        else:
            assert got == pytest.approx(expected, abs=2 * STEP)


def test_a_dependent_that_is_not_clamped_narrows_nothing(tmp_path):
    skeleton = skeleton_with(tmp_path, {"b": (["a"], linear(2.0))}, ranges={"b": (-0.1, 0.1)})
    assert bounds_of(skeleton, "a") == (-np.inf, np.inf)


def test_the_narrowest_of_several_dependents_counts(tmp_path):
    couplers = {"b": (["a"], linear(2.0)), "c": (["a"], linear(-1.0))}
    skeleton = skeleton_with(
        tmp_path, couplers, clamped="bc", ranges={"b": (-0.6, 1.0), "c": (-0.2, 0.9)}
    )
    assert bounds_of(skeleton, "a") == pytest.approx((-0.3, 0.2), abs=1e-6)


def test_a_dependent_of_two_drivers_narrows_neither(tmp_path):
    couplers = {"c": (["a", "b"], linear_of(1.0, 1.0, 0.0))}
    skeleton = skeleton_with(tmp_path, couplers, clamped="ac", ranges={"c": (-0.1, 0.1)})
    assert bounds_of(skeleton, "a") == pytest.approx((-1.4, 1.7))
    assert bounds_of(skeleton, "b") == (-np.inf, np.inf)


def test_bounds_of_the_built_in_model_keep_every_coordinate_in_range():
    skeleton = Skeleton.full_body()
    coupled = skeleton.index_of("coordinate", skeleton.coupled)
    free = np.setdiff1d(np.arange(len(skeleton.coordinates)), coupled)
    bounds = coordinate_bounds(skeleton, free)
    share = np.random.default_rng(0).integers(0, 2, (200, len(free)))  # corners
    values = np.tile(skeleton.coordinate_defaults, (200, 1))
    values[:, free] = np.where(share, bounds.high.numpy(), bounds.low.numpy())
    for coupler in skeleton.couplers:
        values[:, coupler.dependent] = coupler.function(values)
    low, high = skeleton.coordinate_ranges.T
    assert skeleton.coordinate_clamped.all()
    assert (values > low - 1e-6).all()
    assert (values < high + 1e-6).all()


def test_a_chain_of_couplers_narrows_what_drives_it(tmp_path):
    couplers = {"b": (["a"], linear(2.0)), "c": (["b"], linear(2.0))}
    skeleton = skeleton_with(tmp_path, couplers, clamped="c", ranges={"c": (-0.4, 0.4)})
    assert bounds_of(skeleton, "a") == pytest.approx((-0.1, 0.1), abs=1e-6)


def test_a_coupled_translation_that_grows_with_its_body_narrows_more(tmp_path):
    model = SmallModel()
    joint = model.joint("SliderJoint", "tip_joint", model.base, model.tip)
    slide = joint.upd_coordinates(0)
    slide.setRangeMin(-0.3)
    slide.setRangeMax(0.3)
    slide.setDefaultClamped(True)
    model.coupler(slide.getName(), ["base_joint_coord_1"], linear(0.5))
    skeleton = Skeleton.from_osim(model.save(tmp_path))
    free = skeleton.index_of("coordinate", [n for n in skeleton.coordinates if "base" in n])
    driver = 1
    scales = np.ones((5, len(skeleton.bodies), 3))
    scales[[1, 4], skeleton.index_of("body", "base"), 0] = 2.0  # along the slide, x
    scales[2, skeleton.index_of("body", "base"), 1] = 2.0  # across it
    scales[3, skeleton.index_of("body", "tip")] = 2.0
    low, high = (side.numpy() for side in coordinate_bounds(skeleton, free, scales))
    np.testing.assert_allclose(high[:, driver], [0.6, 0.3, 0.6, 0.6, 0.3], atol=1e-6)
    np.testing.assert_allclose(low[:, driver], -high[:, driver], atol=1e-6)
    unscaled = coordinate_bounds(skeleton, free)
    assert float(unscaled.high[driver]) == pytest.approx(0.6, abs=1e-6)
