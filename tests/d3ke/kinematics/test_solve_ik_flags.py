"""What solve_ik claims: which frames converged, many trials at once, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ik_cases import (
    DEGREE,
    FULL_BODY,
    WEAK,
    markers_at,
    random_poses,
    solve_sliders,
    solve_walk,
    some_scales,
    walk,
)
from real_trials import TRIALS
from scipy.optimize import least_squares
from test_ik_opensim import NAMES, SEEN, couple, measured, two_sliders

from d3ke.errors import (
    InvalidInputError,
    KinematicsError,
    UnknownNameError,
    UnsupportedModelError,
)
from d3ke.kinematics import ik_levenberg_marquardt
from d3ke.kinematics.ik_tasks import CoordinateTask
from d3ke.kinematics.opensim_library import load_opensim
from d3ke.kinematics.solve_ik import solve_ik
from d3ke.skeleton import SkeletalModelLayer, Skeleton

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


def test_frames_do_not_depend_on_which_are_worked_on_together(monkeypatch):
    trial = walk("gait2354", 60, 100)
    whole = solve_walk(trial)
    monkeypatch.setattr(ik_levenberg_marquardt, "_CPU_BATCH", 5)
    few = solve_walk(trial)
    assert few.converged.all()
    np.testing.assert_array_equal(few.iterations, whole.iterations)
    np.testing.assert_allclose(few.coordinates, whole.coordinates, atol=1e-9)


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
