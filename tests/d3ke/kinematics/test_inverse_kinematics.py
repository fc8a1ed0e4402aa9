"""Inverse kinematics of motions with a known answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import InvalidInputError, KinematicsError
from d3ke.kinematics import read_mot, read_trc
from d3ke.kinematics.inverse_kinematics import opensim_inverse_kinematics, solve_markers
from d3ke.kinematics.marker_solver import MarkerSolver
from d3ke.kinematics.opensim_library import load_model
from d3ke.skeleton import Skeleton

SHARED = Path(__file__).parents[4] / "shared" / "opensim-models"
MOVED = {
    "hip_flexion_r": 0.9,
    "knee_angle_r": -1.4,
    "ankle_angle_r": 0.2,
    "elbow_flexion": 1.2,
    "elbow_flexion_l": 0.8,
    "shoulder_elv": -0.6,
    "hip_adduction_l": -0.3,
    "pelvis_rotation": 2.6,
}
"""Change from the default pose at the end of the motion, rad."""


def motion(person, frames=6):
    """From the default pose to MOVED, smoothly, facing away: [T, Q]."""
    coordinates = np.tile(person.skeleton.coordinate_defaults, (frames, 1))
    share = np.linspace(0.2, 1.0, frames)
    for name, change in MOVED.items():
        coordinates[:, person.skeleton.index_of("coordinate", name)] += share * change
    return coordinates


@pytest.fixture(scope="module")
def solved(person, scaled):
    """The motion's true coordinates, measured markers and solution (RKNE missing in frame 2,
    everything missing in frame 4)."""
    truth = motion(person)
    measured = person.markers(truth)
    measured.positions[2, measured.names.index("RKNE")] = np.nan
    measured.positions[4] = np.nan
    result = opensim_inverse_kinematics(
        model_path=scaled.model_path, trajectories=measured, marker_set=person.marker_set
    )
    return truth, measured, result


def test_finds_the_angles(person, solved):
    truth, _, result = solved
    assert result.coordinate_names == person.skeleton.coordinates
    for name in MOVED:
        column = person.skeleton.index_of("coordinate", name)
        error = np.rad2deg(result.coordinates[:, column] - truth[:, column])[result.solved]
        # The foot is scaled by distances over bodies of which some are not scaled.
        assert np.abs(error).max() < 2.5, (name, error)


def test_fits_the_markers_and_reports_gaps(person, solved):
    _, measured, result = solved
    assert result.rms_error(person.marker_set) < 0.002
    gaps = np.isnan(result.marker_error)
    assert gaps[2, result.marker_names.index("RKNE")]
    assert not gaps[3].any()
    assert result.solved.tolist() == [True, True, True, True, False, True]
    np.testing.assert_array_equal(result.coordinates[4], result.coordinates[3])
    distance = np.linalg.norm(result.marker_positions - measured.positions, axis=2)
    np.testing.assert_allclose(result.marker_error, distance)


def test_layer_and_opensim_agree_on_the_solution(scaled, solved):
    import torch

    from d3ke.skeleton import SkeletalModelLayer

    result = solved[2]
    pose = SkeletalModelLayer(Skeleton.from_osim(scaled.model_path))(
        torch.from_numpy(result.coordinates)
    )
    np.testing.assert_allclose(pose.markers.numpy(), result.marker_positions, atol=1e-6)


def test_couplers_hold_exactly(person, solved):
    result = solved[2]
    columns = {name: i for i, name in enumerate(result.coordinate_names)}
    for side in ("", "_l"):
        np.testing.assert_allclose(
            result.coordinates[:, columns[f"shoulder1_r2{side}"]],
            -result.coordinates[:, columns[f"elv_angle{side}"]],
            atol=1e-9,
        )


def test_jacobian_against_finite_differences(person, scaled):
    model = load_model(scaled.model_path)
    state = model.initSystem()
    names = [name for name in person.marker_set.names if name.startswith("R")]
    solver = MarkerSolver(model, state, names, np.ones(len(names)))
    space = solver._space
    free = space.read(state) + np.random.default_rng(0).uniform(-0.1, 0.1, len(space.defaults))
    free = np.clip(free, *space.bounds)

    def points(values):
        solver._set(values)
        return solver._points()

    solver._set(free)
    exact = solver._jacobian(solver._points()) @ space.derivative(free)
    for column in range(len(free)):
        step = np.zeros(len(free))
        step[column] = 1e-6
        numeric = (points(free + step) - points(free - step)) / 2e-6
        np.testing.assert_allclose(exact[:, :, column], numeric, atol=1e-6)


def test_does_not_depend_on_the_frames_before(person, scaled, solved):
    _, measured, result = solved
    last = replace(measured, positions=measured.positions[-1:], times=measured.times[-1:])
    alone = opensim_inverse_kinematics(
        model_path=scaled.model_path, trajectories=last, marker_set=person.marker_set
    )
    np.testing.assert_allclose(
        np.rad2deg(alone.coordinates[0]), np.rad2deg(result.coordinates[-1]), atol=0.5
    )


def test_a_trial_without_markers_is_refused(person, scaled):
    measured = person.markers(motion(person, 2))
    measured.positions[:, 2:] = np.nan
    with pytest.raises(KinematicsError, match="no frame has 3"):
        opensim_inverse_kinematics(
            model_path=scaled.model_path, trajectories=measured, marker_set=person.marker_set
        )


def test_a_model_without_the_markers_is_refused(person, scaled):
    measured = person.markers(motion(person, 1))
    model = load_model(scaled.model_path)
    strange = replace(measured, names=("Horn", *measured.names[1:]))
    with pytest.raises(InvalidInputError, match="Horn"):
        solve_markers(model, strange, np.ones(len(strange.names)), what="trial")


def test_agrees_with_opensims_tool_on_its_own_example():
    folder = SHARED / "gait2354"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    trial, reference = _gait_trial(folder)
    model = load_model(folder / "reference_subject01_simbody.osim")
    present = [marker.getName() for marker in model.getMarkerSet()]
    names = tuple(name for name in trial.names if name in present)
    for name in ("subtalar_angle_r", "subtalar_angle_l", "mtp_angle_r", "mtp_angle_l"):
        model.getCoordinateSet().get(name).setDefaultLocked(True)
    result = solve_markers(model, trial.reordered(names), _gait_weights(folder, names), what="gait")
    for name in ("hip_flexion_r", "knee_angle_r", "ankle_angle_r", "pelvis_tilt"):
        ours = result.coordinates[:, result.coordinate_names.index(name)]
        theirs = reference.values[: len(ours), reference.names.index(name)]
        assert np.rad2deg(np.abs(ours - theirs)).max() < 0.5, name


def _gait_trial(folder):
    trial, reference = read_trc(folder / "subject01_walk1.trc"), None
    reference = read_mot(folder / "reference_subject01_walk1_ik.mot")
    first = int(np.searchsorted(trial.times, reference.times[0] - 1e-6))
    window = slice(first, first + 10)
    chosen = replace(trial, positions=trial.positions[window], times=trial.times[window])
    return chosen, reference


def _gait_weights(folder, names):
    from xml.etree import ElementTree

    tasks = ElementTree.parse(folder / "subject01_Setup_IK.xml").iter("IKMarkerTask")
    weights = {
        task.get("name"): float(task.findtext("weight"))
        for task in tasks
        if task.findtext("apply").strip() == "true"
    }
    return np.array([weights.get(name, 0.0) for name in names])
