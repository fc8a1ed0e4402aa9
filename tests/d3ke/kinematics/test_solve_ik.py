"""Inverse kinematics of whole trials: exact poses, recorded walks, honest flags, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ik_cases import (
    DEGREE,
    FULL_BODY,
    WEAK,
    check_couplers,
    check_ranges,
    markers_at,
    random_poses,
    solve_sliders,
    solve_walk,
    some_scales,
    walk,
)
from real_trials import opensim_reference
from test_ik_opensim import NAMES, SEEN, couple, two_sliders

from d3ke.kinematics.ik_tasks import CoordinateTask
from d3ke.kinematics.opensim_library import load_opensim
from d3ke.kinematics.solve_ik import solve_ik
from d3ke.skeleton import Skeleton

# Exact poses of the built-in model.


@pytest.mark.parametrize("scaled", [False, True])
def test_exact_markers_of_random_poses_are_recovered(scaled):
    scales = some_scales() if scaled else None
    markers = markers_at(FULL_BODY, random_poses(24, share=0.35), scales)
    # So little regularization leaves flat valleys: one of them takes some 120 steps.
    found = solve_ik(FULL_BODY, markers, scales=scales, regularization=WEAK, max_iterations=400)
    assert found.converged.all()
    assert found.solved.all()
    assert found.marker_error.max() < 1e-4
    np.testing.assert_allclose(found.marker_positions, markers, atol=1e-4)
    # What is reported belongs together.
    complete = markers_at(FULL_BODY, found.coordinates, scales)
    np.testing.assert_allclose(found.marker_positions, complete, atol=1e-12)
    check_couplers(FULL_BODY, found.coordinates)
    check_ranges(FULL_BODY, found.coordinates)
    assert not found.outside_range.any()


@pytest.mark.parametrize("turn", [np.pi, -2.0])
def test_a_person_facing_away_from_the_default_pose(turn):
    poses = random_poses(4, share=0.2)
    poses[:, FULL_BODY.index_of("coordinate", "pelvis_rotation")] = turn
    found = solve_ik(FULL_BODY, markers_at(FULL_BODY, poses))
    assert found.converged.all()
    assert found.marker_error.max() < 5e-4


@pytest.mark.parametrize("name", ["built-in", "gait2354"])
def test_the_heading_has_no_jumps(name):
    """A person who turns around twice."""
    skeleton = FULL_BODY if name == "built-in" else walk("gait2354", 60, 62).skeleton
    poses = np.tile(skeleton.coordinate_defaults, (40, 1))
    heading = skeleton.index_of("coordinate", "pelvis_rotation")
    poses[:, heading] = np.linspace(0.0, 4 * np.pi, 40)
    found = solve_ik(skeleton, markers_at(skeleton, poses)).coordinates[:, heading]
    np.testing.assert_allclose(np.diff(found), 4 * np.pi / 39, atol=DEGREE)


# Recorded walks.


def check_against_opensim(trial, accuracy):
    found, reference = solve_walk(trial), opensim_reference(trial, accuracy)
    assert found.converged.all()
    rotational = trial.skeleton.coordinate_rotational
    unit = np.where(rotational, DEGREE, 1e-3)  # degrees and mm
    away = (found.coordinates - reference.coordinates) / unit
    rmse, largest = np.sqrt(np.square(away).mean(0)), np.abs(away).max(0)
    names = np.array(trial.skeleton.coordinates)
    beyond = (rmse > np.where(rotational, 0.5, 1.0)) | (largest > np.where(rotational, 2.5, 2.0))
    assert names[beyond].tolist() == []
    ours, theirs = map(trial.weighted_rms, (found.marker_error, reference.marker_error))
    assert ours < theirs + 1e-4
    check_couplers(trial.skeleton, found.coordinates)
    check_ranges(trial.skeleton, found.coordinates)


def test_the_gait2354_walk_is_opensims():
    check_against_opensim(walk("gait2354", 0, None), accuracy=1e-5)


@pytest.mark.slow  # OpenSim takes a third of a second a frame at this accuracy
def test_the_rajagopal_walk_is_opensims():
    # At 1e-5 OpenSim stops short: its forearms are up to 28 degrees from its own optimum.
    trial = walk("rajagopal", 60, 84)
    check_against_opensim(trial, accuracy=1e-9)
    # The markers hold a forearm's turn so loosely that a pull which is not taken back moves it.
    pulled, free = solve_walk(trial, unbiased=False), solve_walk(trial, regularization=0.0)
    forearm = trial.skeleton.index_of("coordinate", "pro_sup_l")
    moved = np.abs(pulled.coordinates - free.coordinates).max(0)
    assert moved.argmax() == forearm
    assert moved[forearm] > DEGREE
    released = np.abs(solve_walk(trial).coordinates - free.coordinates).max(0)
    assert released.max() < 0.1 * moved[forearm]


def test_opensims_solver_gives_the_same_result():
    trial = walk("gait2354", 60, 63)
    ours = solve_walk(trial)
    theirs = solve_walk(
        trial, solver="opensim", model_path=trial.model_path, times=trial.times, accuracy=1e-7
    )
    np.testing.assert_allclose(ours.coordinates, theirs.coordinates, atol=0.2 * DEGREE)
    for field in ("marker_positions", "marker_error"):
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), atol=1e-3)
    assert theirs.solved.all()
    assert theirs.converged.all()
    for field, value in vars(ours).items():
        assert type(getattr(theirs, field)) is type(value), field
        assert np.shape(getattr(theirs, field)) == np.shape(value), field
        assert np.asarray(getattr(theirs, field)).dtype == np.asarray(value).dtype, field


@pytest.mark.parametrize("solver", ["batched", "opensim"])
def test_opensim_knows_the_file_of_the_built_in_model(solver):
    skeleton = FULL_BODY
    pose = skeleton.coordinate_defaults[None].copy()
    knee = skeleton.index_of("coordinate", "knee_angle_r")
    pose[:, knee] = skeleton.coordinate_ranges[knee].mean() / 2
    found = solve_ik(skeleton, markers_at(skeleton, pose), solver=solver)
    # OpenSim stops within 2 mm of exact markers at its tool's accuracy.
    assert found.marker_error.max() < (3e-3 if solver == "opensim" else 1e-3)


# Missing markers and weights.


def test_missing_markers_are_flagged_and_leave_no_nan():
    trial = walk("gait2354", 60, 70)
    positions = trial.positions.copy()
    positions[[0, 3, 4]] = np.nan  # nothing measured; also the first frame
    positions[6, 2:] = np.nan  # all but two markers
    positions[8, 5] = np.nan
    positions[9, 7, 1] = np.nan  # a marker without its height is no marker
    whole, found = solve_walk(trial), solve_walk(trial, positions)
    lost = np.isin(np.arange(10), [0, 3, 4, 6])
    assert found.solved.tolist() == (~lost).tolist()
    assert found.converged.tolist() == (~lost).tolist()
    for field in ("coordinates", "marker_positions"):
        values = getattr(found, field)
        assert np.isfinite(values).all()
        for frame, shown in ((0, 1), (3, 2), (4, 2), (6, 5)):
            np.testing.assert_array_equal(values[frame], values[shown])
    missing = np.isnan(positions).any(-1)
    np.testing.assert_array_equal(np.isnan(found.marker_error), missing)
    seen = [1, 2, 5, 7]
    np.testing.assert_allclose(found.coordinates[seen], whole.coordinates[seen], atol=0.05 * DEGREE)
    assert np.abs(found.coordinates[8:] - whole.coordinates[8:]).max() < 3 * DEGREE


def test_the_rms_error_is_of_measured_markers_in_solved_frames():
    trial = walk("gait2354", 60, 63)
    positions = trial.positions.copy()
    positions[1, 2:] = np.nan  # not solved: its two markers do not count
    positions[2, 5] = np.nan
    found = solve_walk(trial, positions)
    squared = np.square(found.marker_error[[0, 2]])
    assert found.rms_error() == pytest.approx(np.sqrt(np.nanmean(squared)))
    shares = np.where(np.isfinite(squared), trial.weights, 0.0)
    expected = np.sqrt(np.average(np.nan_to_num(squared), weights=shares))
    assert found.rms_error(trial.weights) == pytest.approx(expected)


def test_a_marker_without_weight_counts_as_little_as_one_not_measured():
    trial = walk("gait2354", 60, 64)
    dropped = [3, 11]
    weights, positions = trial.weights.copy(), trial.positions.copy()
    weights[dropped], positions[:, dropped] = 0.0, np.nan
    kept = np.setdiff1d(np.arange(len(weights)), dropped)
    names = [trial.marker_names[i] for i in kept]
    unweighted = solve_walk(trial, weights=weights)
    missing = solve_walk(trial, positions)
    absent = solve_walk(
        trial, trial.positions[:, kept], weights=trial.weights[kept], marker_names=names
    )
    assert np.isfinite(unweighted.marker_error).all()
    for other in (missing, absent):
        np.testing.assert_allclose(other.coordinates, unweighted.coordinates, atol=1e-4)
    assert absent.marker_names == tuple(names)
    assert absent.marker_error.shape == (4, len(names))


def test_weights_by_name_are_weights_and_only_their_ratios_count():
    trial = walk("gait2354", 60, 64)
    some = {name: 0.5 + i for i, name in enumerate(trial.marker_names[:20])}
    row = np.array([some.get(name, 0.0) for name in trial.marker_names])
    expected = solve_walk(trial, weights=row).coordinates
    assert np.abs(expected - solve_walk(trial).coordinates).max() > DEGREE  # else nothing is shown
    for weights in (some, 10.0 * row):
        found = solve_walk(trial, weights=weights).coordinates
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_marker_names_in_another_order():
    trial = walk("gait2354", 60, 64)
    order = np.random.default_rng(0).permutation(len(trial.marker_names))
    whole = Skeleton.from_osim(trial.model_path)  # with its own markers, more and in its order
    found = solve_ik(
        whole,
        trial.positions[:, order],
        trial.weights[order],
        marker_names=[trial.marker_names[i] for i in order],
        coordinate_tasks=trial.coordinate_tasks,
    )
    expected = solve_walk(trial)
    assert found.marker_names == tuple(trial.marker_names[i] for i in order)
    np.testing.assert_allclose(found.coordinates, expected.coordinates, atol=1e-5)
    np.testing.assert_allclose(found.marker_error, expected.marker_error[:, order], atol=1e-6)


def test_a_tensor_is_as_good_as_an_array():
    trial = walk("gait2354", 60, 63)
    tensor = torch.tensor(trial.positions, requires_grad=True)
    found = solve_walk(trial, tensor)
    assert isinstance(found.coordinates, np.ndarray)
    np.testing.assert_array_equal(found.coordinates, solve_walk(trial).coordinates)
    single = solve_walk(trial, tensor.float())
    np.testing.assert_allclose(single.coordinates, found.coordinates, atol=1e-4)


# Tasks, locks, ranges and couplers: two bodies that slide, whose optimum is known.


BOTH_SOLVERS = pytest.mark.parametrize("solver", ["batched", "opensim"])


@BOTH_SOLVERS
def test_tasks_pull_on_a_weighted_mean(solver, tmp_path):
    path = two_sliders(tmp_path / "m.osim")
    values = np.array([-0.3, 0.2])
    found = solve_sliders(path, SEEN, SEEN, solver=solver, tasks=[("x0", 0.5, values)])
    # sum w (x0 - seen)^2 / 10 + (x0 - value)^2 / 2 for A, B and C; D alone decides x1.
    expected = (3.8 / 10.0 + 0.5 * values) / (0.6 + 0.5)
    np.testing.assert_allclose(found.coordinates[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(found.coordinates[:, 1], 0.8, atol=1e-5)
    assert found.converged.all()


@BOTH_SOLVERS
@pytest.mark.parametrize(("clamped", "expected"), [(True, 1.0), (False, 2.0)])
def test_only_clamped_coordinates_stay_in_their_ranges(solver, clamped, expected, tmp_path):
    path = two_sliders(tmp_path / "m.osim", lambda _, a, b: b.setDefaultClamped(clamped))
    found = solve_sliders(path, SEEN, SEEN | {"D": 2.0}, solver=solver)
    np.testing.assert_allclose(found.coordinates[:, 1], [0.8, expected], atol=1e-5)
    assert found.converged.all()
    assert found.outside_range.tolist() == [[False, False], [False, not clamped]]


@BOTH_SOLVERS
def test_the_range_of_a_coupled_coordinate_holds(solver, tmp_path):
    def change(model, first, second):
        couple(model, load_opensim().LinearFunction(2.0, 0.1))
        second.setDefaultClamped(True)

    path = two_sliders(tmp_path / "m.osim", change)
    found = solve_sliders(path, SEEN, dict.fromkeys(NAMES, 2.0), solver=solver)
    x0 = (3.8 + 4.0 * 2.0 * (0.8 - 0.1)) / (6.0 + 4.0 * 4.0)
    np.testing.assert_allclose(found.coordinates[:, 0], [x0, 0.45], atol=1e-4)
    np.testing.assert_allclose(found.coordinates[:, 1], 2.0 * found.coordinates[:, 0] + 0.1)


@BOTH_SOLVERS
def test_locked_coordinates_keep_their_value(solver, tmp_path):
    def lock(_, first, second):
        second.setDefaultValue(0.3)
        second.setDefaultLocked(True)

    path = two_sliders(tmp_path / "m.osim", lock)
    found = solve_sliders(path, SEEN, SEEN, solver=solver, tasks=[("x1", 10.0, 0.0)])
    np.testing.assert_allclose(found.coordinates[:, 1], 0.3, atol=1e-12)
    np.testing.assert_allclose(found.coordinates[:, 0], 3.8 / 6.0, atol=1e-5)
    path = two_sliders(tmp_path / "n.osim")
    start = np.array([0.1, -0.7])
    found = solve_sliders(path, solver=solver, initial=start, locked=["x1"])
    assert found.coordinates[0, 1] == pytest.approx(-0.7, abs=1e-12)
    assert found.coordinates[0, 0] == pytest.approx(3.8 / 6.0, abs=1e-5)


def test_locked_coordinates_of_a_walk_keep_their_value():
    trial = walk("gait2354", 60, 64)
    start = trial.skeleton.coordinate_defaults.copy()
    index = trial.skeleton.index_of("coordinate", "knee_angle_r")
    start[index] = -0.4
    found = solve_walk(trial, locked=["knee_angle_r"], initial=start)
    np.testing.assert_array_equal(found.coordinates[:, index], -0.4)
    assert found.converged.all()


def test_a_heavy_task_wins_over_the_markers():
    trial = walk("gait2354", 60, 64)
    values = np.linspace(-0.5, -0.2, 4)
    task = CoordinateTask(name="knee_angle_r", weight=1e3, value=values)
    found = solve_walk(trial, coordinate_tasks=[task])
    index = trial.skeleton.index_of("coordinate", "knee_angle_r")
    np.testing.assert_allclose(found.coordinates[:, index], values, atol=1e-3)
    assert found.converged.all()
