"""What OpenSim's inverse kinematics minimises: where the optimum of small models lies."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from real_trials import TRIALS, is_available, opensim_reference, real_trial

from d3ke.errors import InvalidInputError, KinematicsError, UnknownNameError
from d3ke.kinematics import read_mot, read_trc
from d3ke.kinematics.ik_opensim import solve_with_opensim
from d3ke.kinematics.ik_tasks import CoordinateTask, read_ik_setup
from d3ke.kinematics.opensim_library import load_opensim
from d3ke.skeleton import SkeletalModelLayer

SHARED = Path(__file__).parents[4] / "shared" / "opensim-models"
NAMES = ("A", "B", "C", "D")
SEEN = {"A": 0.0, "B": 1.0, "C": 0.4, "D": 0.8}
"""Where on the x axis each marker is measured; A, B and C sit on body 0, D on body 1."""
WEIGHTS = {"A": 1.0, "B": 3.0, "C": 2.0, "D": 4.0}


def two_sliders(path, change=lambda model, first, second: None):
    """Bodies 0 and 1 that slide along x by x0 and x1, range -1 to 1 m; `change` edits them."""
    opensim = load_opensim()
    model = opensim.Model()
    model.setName("two_sliders")
    parts = []
    for number in range(2):
        body = opensim.Body(f"b{number}", 1.0, opensim.Vec3(0), opensim.Inertia(1, 1, 1))
        zero = opensim.Vec3(0)
        joint = opensim.SliderJoint(f"j{number}", model.getGround(), zero, zero, body, zero, zero)
        coordinate = joint.updCoordinate()
        coordinate.setName(f"x{number}")
        coordinate.setRangeMin(-1.0)
        coordinate.setRangeMax(1.0)
        coordinate.setDefaultClamped(False)
        model.addBody(body)
        model.addJoint(joint)
        parts += [body, joint]
    for name in NAMES:
        marker = opensim.Marker(name, parts[2 if name == "D" else 0], opensim.Vec3(0))
        model.addMarker(marker)
        parts.append(marker)
    model.finalizeConnections()
    change(model, model.getCoordinateSet().get(0), model.getCoordinateSet().get(1))
    model.finalizeConnections()
    model.printToXML(str(path))
    return path


def measured(*frames):
    """[T, 4, 3] from the markers' x, frame by frame; a lacking name is a missing marker."""
    positions = np.zeros((len(frames), len(NAMES), 3))
    positions[:, :, 0] = [[frame.get(name, np.nan) for name in NAMES] for frame in frames]
    return positions


def solve(path, *frames, tasks=(), weights=WEIGHTS, accuracy=1e-8, **options):
    tasks = [CoordinateTask(name=n, weight=w, value=v) for n, w, v in tasks]
    row = np.array([weights[name] for name in NAMES])
    return solve_with_opensim(
        path, NAMES, measured(*(frames or (SEEN,))), row, tasks, accuracy=accuracy, **options
    )


def couple(model, function):
    """x1 = function(x0)."""
    opensim = load_opensim()
    coupler = opensim.CoordinateCouplerConstraint()
    coupler.setName("coupler")
    drivers = opensim.ArrayStr()
    drivers.append("x0")
    coupler.setIndependentCoordinateNames(drivers)
    coupler.setDependentCoordinateName("x1")
    coupler.setFunction(function)
    model.addConstraint(coupler)


@pytest.fixture
def sliders(tmp_path):
    return two_sliders(tmp_path / "sliders.osim")


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("task_weight", [0.2, 5.0])
def test_markers_are_a_weighted_mean_and_tasks_are_added_as_they_are(sliders, factor, task_weight):
    weights = {name: factor * weight for name, weight in WEIGHTS.items()}
    found = solve(sliders, weights=weights, tasks=[("x0", task_weight, -0.3), ("x1", 1.0, 0.0)])
    # sum w (x0 - seen)^2 / 10 + c (x0 + 0.3)^2, and the same for x1 with D alone.
    x0 = ((3.0 * 1.0 + 2.0 * 0.4) / 10.0 - 0.3 * task_weight) / (0.6 + task_weight)
    x1 = 0.4 * 0.8 / (0.4 + 1.0)
    np.testing.assert_allclose(found.coordinates[0], [x0, x1], atol=1e-7)


def test_a_missing_markers_weight_does_not_count(sliders):
    partly = {name: place for name, place in SEEN.items() if name != "B"}
    found = solve(sliders, SEEN, partly, SEEN, tasks=[("x0", 1.0, 0.0)])
    whole, without = 0.38 / 1.6, (2.0 * 0.4 / 7.0) / (3.0 / 7.0 + 1.0)
    np.testing.assert_allclose(found.coordinates[:, 0], [whole, without, whole], atol=1e-7)


def test_a_task_can_change_from_frame_to_frame(sliders):
    values = np.array([0.3, -0.2, 0.1])
    found = solve(sliders, SEEN, SEEN, SEEN, tasks=[("x1", 1e6, values)])
    np.testing.assert_allclose(found.coordinates[:, 1], values, atol=1e-5)


def test_a_task_without_a_value_means_the_models_default(tmp_path):
    path = two_sliders(tmp_path / "m.osim", lambda _, a, b: b.setDefaultValue(0.25))
    for initial in (None, np.array([0.0, -0.5])):
        found = solve(path, tasks=[("x1", 1e6, None)], initial=initial)
        np.testing.assert_allclose(found.coordinates[0, 1], 0.25, atol=1e-5)


@pytest.mark.parametrize(("clamped", "expected"), [(True, 1.0), (False, 2.0)])
def test_only_clamped_coordinates_are_bounded(tmp_path, clamped, expected):
    path = two_sliders(tmp_path / "m.osim", lambda _, a, b: b.setDefaultClamped(clamped))
    found = solve(path, SEEN, SEEN | {"D": 2.0}, SEEN)
    np.testing.assert_allclose(found.coordinates[:, 1], [0.8, expected, 0.8], atol=1e-6)


def test_locked_coordinates_keep_their_start(tmp_path):
    def lock(_, first, second):
        second.setDefaultValue(0.3)
        second.setDefaultLocked(True)

    path = two_sliders(tmp_path / "m.osim", lock)
    found = solve(path, SEEN, SEEN, tasks=[("x1", 10.0, 0.0)])
    np.testing.assert_allclose(found.coordinates[:, 1], 0.3, atol=1e-12)
    found = solve(path, initial=np.array([0.1, -0.7]), locked=["x0"])
    np.testing.assert_allclose(found.coordinates[0], [0.1, -0.7], atol=1e-12)


def test_prescribed_coordinates_follow_time(tmp_path):
    def prescribe(_, first, second):
        second.setPrescribedFunction(load_opensim().LinearFunction(0.1, 0.4))
        second.setDefaultIsPrescribed(True)

    path = two_sliders(tmp_path / "m.osim", prescribe)
    found = solve(path, SEEN, SEEN, times=np.array([1.0, 3.0]))
    np.testing.assert_allclose(found.coordinates[:, 1], [0.5, 0.7], atol=1e-12)


def test_couplers_hold_and_the_optimum_is_along_them(tmp_path):
    path = two_sliders(
        tmp_path / "m.osim", lambda m, a, b: couple(m, load_opensim().LinearFunction(2.0, 0.1))
    )
    x0 = (3.8 + 4.0 * 2.0 * (0.8 - 0.1)) / (6.0 + 4.0 * 4.0)
    found = solve(path)
    np.testing.assert_allclose(found.coordinates[0], [x0, 2.0 * x0 + 0.1], atol=1e-7)
    # A task on the dependent coordinate acts through the coupler.
    x0 = (3.8 + 8.0 * 0.7 + 10.0 * 2.0 * (0.0 - 0.1)) / (22.0 + 10.0 * 4.0)
    found = solve(path, tasks=[("x1", 1.0, 0.0)])
    np.testing.assert_allclose(found.coordinates[0], [x0, 2.0 * x0 + 0.1], atol=1e-7)


def test_the_range_of_a_coupled_coordinate_bounds_its_driver(tmp_path):
    def change(model, first, second):
        couple(model, load_opensim().LinearFunction(2.0, 0.1))
        second.setDefaultClamped(True)

    path = two_sliders(tmp_path / "m.osim", change)
    far = dict.fromkeys(NAMES, 2.0)
    found = solve(path, far, accuracy=1e-5)
    np.testing.assert_allclose(found.coordinates[0], [0.45, 1.0], atol=1e-4)


def test_scales_multiply_offsets(tmp_path):
    def move(model, first, second):
        model.getMarkerSet().get("D").set_location(load_opensim().Vec3(0.2, 0.0, 0.0))

    path = two_sliders(tmp_path / "m.osim", move)
    scales = np.array([[1.0, 1.0, 1.0], [1.5, 2.0, 3.0]])
    assert solve(path).coordinates[0, 1] == pytest.approx(0.6)
    assert solve(path, scales=scales).coordinates[0, 1] == pytest.approx(0.5)


def test_frames_with_too_few_markers_repeat_the_pose_before(sliders):
    few, other = {"A": 0.7, "B": 0.7}, dict.fromkeys(NAMES, -0.5)
    found = solve(sliders, few, SEEN, few, {}, other)
    assert found.solved.tolist() == [False, True, False, False, True]
    assert found.coordinates[4, 0] == pytest.approx(-0.5)
    for row in (0, 2, 3):
        np.testing.assert_array_equal(found.coordinates[row], found.coordinates[1])
    np.testing.assert_allclose(found.marker_positions[4, :, 0], -0.5, atol=1e-7)


def test_what_it_refuses(sliders, tmp_path):
    with pytest.raises(KinematicsError, match="no frame has 3"):
        solve(sliders, {"A": 0.0})
    with pytest.raises(UnknownNameError, match="coordinate 'y'"):
        solve(sliders, tasks=[("y", 1.0, 0.0)])
    with pytest.raises(UnknownNameError, match="coordinate 'y'"):
        solve(sliders, locked=["y"])
    with pytest.raises(UnknownNameError, match="marker 'E'"):
        solve_with_opensim(sliders, ("E", "A", "B"), np.zeros((1, 3, 3)), np.ones(3))
    with pytest.raises(InvalidInputError, match=r"shape \(2,\) for 1 frames"):
        solve(sliders, tasks=[("x0", 1.0, np.zeros(2))])
    with pytest.raises(InvalidInputError, match=r"scales are not \(2, 3\)"):
        solve(sliders, scales=np.ones((3, 3)))
    with pytest.raises(InvalidInputError, match="times are not 2 increasing"):
        solve(sliders, SEEN, SEEN, times=np.array([1.0, 1.0]))
    clamped = two_sliders(tmp_path / "m.osim", lambda _, a, b: b.setDefaultClamped(True))
    with pytest.raises(InvalidInputError, match="initial x1 is 3, outside its range -1 to 1"):
        solve(clamped, initial=np.array([0.0, 3.0]))
    free = two_sliders(
        tmp_path / "f.osim", lambda _, a, b: a.set_is_free_to_satisfy_constraints(True)
    )
    with pytest.raises(InvalidInputError, match="free to satisfy constraints"):
        solve(free, tasks=[("x0", 1.0, 0.0)])


def test_agrees_with_the_tool_run_from_its_setup_file(tmp_path):
    folder = SHARED / "gait2354"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    model, trial = folder / "reference_subject01_simbody.osim", folder / "subject01_walk1.trc"
    setup = tmp_path / "setup.xml"
    tree = ElementTree.parse(folder / "subject01_Setup_IK.xml")
    changes = {"model_file": model, "marker_file": trial, "time_range": "0.4 0.48"}
    for tag, value in changes.items():
        next(tree.iter(tag)).text = str(value)
    next(tree.iter("output_motion_file")).text = "tool.mot"
    tree.write(setup)
    tool = load_opensim().InverseKinematicsTool(str(setup))
    tool.setResultsDir(str(tmp_path))
    assert tool.run()
    theirs = read_mot(tmp_path / "tool.mot")

    tasks, measured = read_ik_setup(setup), read_trc(trial)
    names = [name for name in measured.names if tasks.marker_weights.get(name)]
    chosen = measured.reordered(names)
    frames = tasks.frames(chosen.times)
    ours = solve_with_opensim(
        model,
        names,
        chosen.positions[frames],
        tasks.weights(names),
        tasks.at(chosen.times[frames]),
        chosen.times[frames],
        accuracy=tasks.accuracy,
    )
    assert frames.sum() == len(theirs.values) >= 4
    np.testing.assert_allclose(ours.coordinates, theirs.values, atol=np.deg2rad(0.1))


@pytest.mark.parametrize("name", TRIALS)
def test_recorded_walks_fit_their_models(name):
    if not is_available(name):
        pytest.skip(f"the recording {name} is not there")
    trial = real_trial(name, frames=slice(60, 65))
    found = opensim_reference(trial)
    assert 0.005 < trial.weighted_rms(found.marker_error) < 0.015
    pose = SkeletalModelLayer(trial.skeleton)(torch.from_numpy(found.coordinates))
    np.testing.assert_allclose(pose.markers.numpy(), found.marker_positions, atol=1e-5)
