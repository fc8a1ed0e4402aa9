"""Inverse kinematics of whole trials: exact poses, recorded walks, honest flags, bad input."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from real_trials import TRIALS, is_available, opensim_reference, real_trial
from scipy.optimize import least_squares
from test_ik_opensim import NAMES, SEEN, WEIGHTS, couple, measured, two_sliders

from d3ke.errors import (
    InvalidInputError,
    KinematicsError,
    UnknownNameError,
    UnsupportedModelError,
)
from d3ke.kinematics.ik_tasks import CoordinateTask
from d3ke.kinematics.opensim_library import load_opensim
from d3ke.kinematics.solve_ik import solve_ik
from d3ke.skeleton import SkeletalModelLayer, Skeleton

FULL_BODY = Skeleton.full_body()
DEGREE = np.deg2rad(1.0)
WEAK = 1e-9
"""m^2: the usual pull towards the default pose moves exact markers by tenths of a millimetre."""


@cache
def walk(name, first, last, step=1):
    """Frames of a recorded walk."""
    if not is_available(name):
        pytest.skip(f"the recording {name} is not there")
    return real_trial(name, slice(first, last, step))


def solve_walk(trial, positions=None, **options):
    """With the recording's own weights and tasks unless `options` say otherwise."""
    positions = trial.positions if positions is None else positions
    settings = {"weights": trial.weights, "coordinate_tasks": trial.coordinate_tasks} | options
    return solve_ik(trial.skeleton, positions, **settings)


def markers_at(skeleton, coordinates, scales=None):
    """[T, M, 3] exact markers."""
    scales = None if scales is None else torch.tensor(scales)
    return SkeletalModelLayer(skeleton)(torch.tensor(coordinates), scales).markers.numpy()


def random_poses(count, share, seed=0):
    """[T, Q] of the built-in model: a share of every range about the default pose, the root
    anywhere."""
    generator = np.random.default_rng(seed)
    low, high = FULL_BODY.coordinate_ranges.T
    rest = FULL_BODY.coordinate_defaults
    drawn = generator.uniform(
        rest + share * (low - rest), rest + share * (high - rest), (count, len(rest))
    )
    drawn = np.where(FULL_BODY.coordinate_locked, rest, drawn)
    # Tilt, list, rotation, x, y, z.
    reach = np.array([1.0, 1.0, np.pi, 2.0, 2.0, 2.0])
    root = FULL_BODY.index_of("coordinate", FULL_BODY.root_coordinates)
    drawn[:, root] = generator.uniform(-reach, reach, (count, 6))
    return drawn


def some_scales(seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(0.85, 1.15, (len(FULL_BODY.bodies), 3))


def check_couplers(skeleton, coordinates):
    for coupler in skeleton.couplers:
        expected = coupler.function(coordinates)
        np.testing.assert_allclose(coordinates[..., coupler.dependent], expected, atol=1e-12)


def check_ranges(skeleton, coordinates, tolerance=1e-6):
    low, high = skeleton.coordinate_ranges.T
    inside = (coordinates > low - tolerance) & (coordinates < high + tolerance)
    clamped = skeleton.coordinate_clamped & ~skeleton.coordinate_locked
    assert inside[..., clamped].all()


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
    check_against_opensim(walk("rajagopal", 60, 84), accuracy=1e-9)


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


def solve_sliders(path, *frames, solver="batched", tasks=(), **options):
    tasks = [CoordinateTask(name=n, weight=w, value=v) for n, w, v in tasks]
    return solve_ik(
        Skeleton.from_osim(path),
        measured(*(frames or (SEEN,))),
        WEIGHTS,
        marker_names=NAMES,
        coordinate_tasks=tasks,
        solver=solver,
        model_path=path,
        accuracy=1e-8 if solver == "batched" else 1e-6,
        **options,
    )


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


# Honest flags.


def perturbed(trial, seed=0):
    """One marker in five is 10 cm off, in any direction."""
    generator = np.random.default_rng(seed)
    away = generator.normal(size=trial.positions.shape)
    away *= 0.1 / np.linalg.norm(away, axis=-1, keepdims=True)
    chosen = generator.random(trial.positions.shape[:2]) < 0.2
    return trial.positions + away * chosen[..., None]


def target(task, frame, skeleton):
    """What a task aims at in a frame."""
    if task.value is None:
        return float(skeleton.coordinate_defaults[skeleton.index_of("coordinate", task.name)])
    return float(np.broadcast_to(task.value, frame + 1)[frame])


class FrameCost:
    """The cost of one frame as scipy wants it, from the layer: no code of the solver's.

    Of the free coordinates of the frame's pose; couplers apply, there is no regularisation.
    """

    def __init__(self, trial, positions, frame):
        skeleton = trial.skeleton
        self.layer = SkeletalModelLayer(skeleton)
        coupled = skeleton.index_of("coordinate", skeleton.coupled)
        self.free = np.setdiff1d(np.flatnonzero(~skeleton.coordinate_locked), coupled)
        ranges = skeleton.coordinate_ranges
        clamped = skeleton.coordinate_clamped[:, None]
        self.bounds = np.where(clamped, ranges, [-np.inf, np.inf])[self.free].T
        self.seen = torch.tensor(positions[frame])
        self.roots = torch.tensor(np.sqrt(trial.weights / trial.weights.sum()))[:, None]
        self.tasks = [
            (skeleton.index_of("coordinate", task.name), task.weight, target(task, frame, skeleton))
            for task in trial.coordinate_tasks
        ]

    def residuals(self, free, pose):
        """[3M + tasks] m at free coordinates [F]; the others are those of `pose` [Q]."""
        whole = pose.index_copy(0, torch.tensor(self.free), free)
        markers = self.roots * (self.layer(whole[None]).markers[0] - self.seen)
        pulls = [(whole[i : i + 1] - value) * weight**0.5 for i, weight, value in self.tasks]
        return torch.cat([markers.flatten(), *pulls])

    def improvement(self, pose):
        """The share by which scipy lowers the cost from here."""
        pose = torch.tensor(pose)

        def values(free):
            return self.residuals(torch.tensor(free), pose).numpy()

        def jacobian(free):
            return torch.func.jacrev(self.residuals)(torch.tensor(free), pose).numpy()

        start = pose.numpy()[self.free]
        low, high = self.bounds
        inside = np.clip(start, low + 1e-9, high - 1e-9)
        best = least_squares(values, inside, jacobian, bounds=self.bounds, max_nfev=60)
        cost = np.square(values(start)).sum()
        return 1.0 - 2.0 * best.cost / cost


@pytest.mark.parametrize("iterations", [2, 4, 100])
@pytest.mark.parametrize("name", TRIALS)
def test_what_is_flagged_as_converged_is_a_local_optimum(name, iterations):
    trial = walk(name, 60, 100, 8)
    positions = perturbed(trial)
    found = solve_walk(trial, positions, regularization=0.0, max_iterations=iterations)
    if iterations == 2:
        assert not found.converged.any()
    if iterations == 100:
        assert found.converged.all()
    for frame in np.flatnonzero(found.converged):
        cost = FrameCost(trial, positions, frame)
        assert cost.improvement(found.coordinates[frame]) < 1e-3, f"frame {frame}"


@pytest.mark.parametrize("iterations", [0, 1])
def test_frames_that_were_stopped_early_are_not_converged(iterations):
    trial = walk("gait2354", 60, 64)
    found = solve_walk(trial, max_iterations=iterations)
    assert found.solved.all()
    assert not found.converged.any()
    assert np.isfinite(found.coordinates).all()


def test_a_clamped_coordinate_out_of_range_is_never_called_converged(tmp_path):
    """A chain of couplers: whatever bounds follow from it, the flag tells."""

    def chain(model, first, second):
        opensim = load_opensim()
        couple(model, opensim.LinearFunction(2.0, 0.0))
        body, zero = opensim.Body("b2", 1.0, opensim.Vec3(0), opensim.Inertia(1)), opensim.Vec3(0)
        joint = opensim.SliderJoint("j2", model.getGround(), zero, zero, body, zero, zero)
        joint.updCoordinate().setName("x2")
        joint.updCoordinate().setRangeMin(-1.0)
        joint.updCoordinate().setRangeMax(1.0)
        joint.updCoordinate().setDefaultClamped(True)
        model.addBody(body)
        model.addJoint(joint)
        coupler = opensim.CoordinateCouplerConstraint()
        coupler.setName("second")
        drivers = opensim.ArrayStr()
        drivers.append("x1")
        coupler.setIndependentCoordinateNames(drivers)
        coupler.setDependentCoordinateName("x2")
        coupler.setFunction(opensim.LinearFunction(2.0, 0.0))
        model.addConstraint(coupler)
        for part in (body, joint, coupler):
            part.this.disown()

    path = two_sliders(tmp_path / "m.osim", chain)
    found = solve_sliders(path, dict.fromkeys(NAMES, 0.1), dict.fromkeys(NAMES, 0.9))
    x0, x1, x2 = found.coordinates.T
    np.testing.assert_allclose(x1, 2.0 * x0)
    np.testing.assert_allclose(x2, 2.0 * x1)
    assert found.converged[0]
    assert (np.abs(x2) < 1.0 + 1e-6)[found.converged].all()
    np.testing.assert_array_equal(found.outside_range[:, 2], np.abs(x2) > 1.0 + 1e-6)


# Many trials, and other starts.


def test_many_trials_at_once_are_each_alone():
    trial = walk("gait2354", 60, 84)
    halves = trial.positions.reshape(2, 12, *trial.positions.shape[1:]).copy()
    halves[1, 4] = np.nan
    alone = [solve_walk(trial, half, coordinate_tasks=()) for half in halves]
    together = solve_walk(trial, halves, coordinate_tasks=())
    for field in ("coordinates", "marker_positions", "marker_error", "solved", "converged"):
        expected = np.stack([getattr(result, field) for result in alone])
        assert getattr(together, field).shape == expected.shape
        np.testing.assert_allclose(getattr(together, field), expected, atol=1e-6)
    assert together.iterations.shape == (2, 12)


def test_each_trial_has_its_own_scales():
    scales = np.stack([some_scales(1), some_scales(2)])
    poses = random_poses(6, share=0.3).reshape(2, 3, -1)
    markers = np.stack([markers_at(FULL_BODY, *pair) for pair in zip(poses, scales, strict=True)])
    found = solve_ik(FULL_BODY, markers, scales=scales, regularization=WEAK)
    np.testing.assert_array_equal(found.scales, scales)
    assert found.marker_error.max() < 1e-4
    exchanged = solve_ik(FULL_BODY, markers, scales=scales[::-1], regularization=WEAK)
    assert exchanged.marker_error.max() > 1e-2


def test_a_start_near_the_optimum_leads_there_sooner():
    trial = walk("gait2354", 60, 84)
    cold = solve_walk(trial)
    shaken = cold.coordinates + np.random.default_rng(0).normal(0.0, 0.01, cold.coordinates.shape)
    warm = solve_walk(trial, initial=shaken)
    assert warm.converged.all()
    np.testing.assert_allclose(warm.coordinates, cold.coordinates, atol=0.05 * DEGREE)
    assert warm.iterations.mean() < cold.iterations.mean()
    again = solve_walk(trial, initial=warm.coordinates)
    assert again.converged.all()
    assert again.iterations.mean() < warm.iterations.mean()


# Bad input.

ROW = len(FULL_BODY.coordinates)
STANDING = markers_at(FULL_BODY, FULL_BODY.coordinate_defaults[None])
ALL_BUT_ONE = {"marker_names": FULL_BODY.markers[1:]}


def bad_scales(value):
    scales = np.ones((len(FULL_BODY.bodies), 3))
    scales[FULL_BODY.index_of("body", "humerus"), 1] = value
    return scales


def task(name="knee_angle_r", weight=1.0, value=0.0):
    return {"coordinate_tasks": [CoordinateTask(name=name, weight=weight, value=value)]}


@pytest.mark.parametrize(
    ("markers", "options", "error", "message"),
    [
        (STANDING[0], {}, InvalidInputError, "markers: have shape"),
        (STANDING[..., :2], {}, InvalidInputError, "markers: have shape"),
        (STANDING[:0], {}, InvalidInputError, "markers: have shape"),
        (STANDING[:, 1:], {}, InvalidInputError, "have shape .*Pass marker_names"),
        (STANDING, ALL_BUT_ONE, InvalidInputError, "markers: have shape"),
        (STANDING[:, :3], {"marker_names": ["LANK", "RANK", "nose tip"]}, UnknownNameError, "nose"),
        (1e3 * STANDING, {}, InvalidInputError, "markers: .* m apart.*metres"),
        (STANDING, {"weights": {"nose tip": 1.0}}, UnknownNameError, "marker 'nose tip'"),
        (STANDING, {"weights": np.ones(3)}, InvalidInputError, "marker weights"),
        (STANDING, {"weights": {"LANK": -1.0}}, InvalidInputError, "marker weights"),
        (STANDING, {"weights": {"LANK": np.nan}}, InvalidInputError, "marker weights"),
        (STANDING, {"weights": {"LANK": 1.0, "RANK": 1.0}}, KinematicsError, "3 measured markers"),
        (np.nan * STANDING, {}, KinematicsError, "no frame has 3 measured markers"),
        (STANDING, {"solver": "ipopt"}, UnknownNameError, "solver 'ipopt'.*batched, opensim"),
        (STANDING, {"accuracy": -1e-4}, InvalidInputError, "accuracy: is -0.0001"),
        (STANDING, {"regularization": np.nan}, InvalidInputError, "regularization: is nan"),
        (STANDING, {"scales": bad_scales(0.0)}, InvalidInputError, "scale of body 'humerus'"),
        (STANDING, {"scales": bad_scales(-1.0)}, InvalidInputError, "scale of body 'humerus'"),
        (STANDING, {"scales": bad_scales(np.nan)}, InvalidInputError, "scale of body 'humerus'"),
        (STANDING, {"scales": np.ones(3)}, InvalidInputError, "scales: have shape"),
        (STANDING, {"initial": np.zeros(3)}, InvalidInputError, "initial coordinates"),
        (STANDING, {"initial": np.full(ROW, np.nan)}, InvalidInputError, "initial coordinates"),
        (STANDING, {"locked": ["knee"]}, UnknownNameError, "coordinate 'knee'"),
        (STANDING, {"locked": [FULL_BODY.coupled[0]]}, UnsupportedModelError, "coupler"),
        (STANDING, task(value=np.zeros(2)), InvalidInputError, r"task 'knee_angle_r': .*1 frames"),
        (STANDING, task("knee"), UnknownNameError, "coordinate 'knee'"),
    ],
)
def test_what_it_refuses(markers, options, error, message):
    with pytest.raises(error, match=message):
        solve_ik(FULL_BODY, markers, **options)


@pytest.mark.parametrize(("weight", "value"), [(-1.0, 0.0), (np.nan, 0.0), (1.0, np.nan)])
def test_a_task_that_means_nothing_cannot_be_made(weight, value):
    with pytest.raises(InvalidInputError, match="coordinate task 'knee_angle_r'"):
        task(weight=weight, value=value)


def test_opensim_needs_the_file_of_another_model(tmp_path):
    path = two_sliders(tmp_path / "m.osim")
    with pytest.raises(InvalidInputError, match="needs the .osim file of skeleton 'two_sliders'"):
        solve_ik(Skeleton.from_osim(path), measured(SEEN), solver="opensim")
