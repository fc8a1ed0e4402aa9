"""Inverse kinematics of motions with a known answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import KinematicsError, UnknownNameError
from d3ke.kinematics import inverse_kinematics, read_ik_setup, read_mot, read_trc
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


def solve(scaled, measured, person, **settings):
    weights = dict(zip(person.marker_set.names, person.marker_set.ik_weights, strict=True))
    return inverse_kinematics(
        model_path=scaled.model_path, trajectories=measured, weights=weights, **settings
    )


@pytest.fixture(scope="module")
def solved(person, scaled):
    """The motion's true coordinates, measured markers and solution (RKNE missing in frame 2,
    everything missing in frame 4)."""
    truth = motion(person)
    measured = person.markers(truth)
    measured.positions[2, measured.names.index("RKNE")] = np.nan
    measured.positions[4] = np.nan
    result = solve(scaled, measured, person)
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
    assert result.rms_error(np.sign(person.marker_set.ik_weights)) < 0.002
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


def test_does_not_depend_on_the_frames_before(person, scaled, solved):
    _, measured, result = solved
    last = replace(measured, positions=measured.positions[-1:], times=measured.times[-1:])
    alone = solve(scaled, last, person)
    np.testing.assert_allclose(
        np.rad2deg(alone.coordinates[0]), np.rad2deg(result.coordinates[-1]), atol=0.5
    )


def test_opensims_solver_gives_the_same(person, scaled, solved):
    """What markers determine; a spine's levels are one valley, in which OpenSim stops anywhere."""
    _, measured, result = solved
    theirs = solve(scaled, measured, person, solver="opensim")
    assert theirs.coordinate_names == result.coordinate_names
    for name in MOVED:
        column = result.coordinate_names.index(name)
        difference = np.rad2deg(theirs.coordinates[:, column] - result.coordinates[:, column])
        assert np.abs(difference).max() < 2.5, name
    used = np.sign(person.marker_set.ik_weights)
    assert result.rms_error(used) < theirs.rms_error(used) + 1e-4


def test_a_trial_without_markers_is_refused(person, scaled):
    measured = person.markers(motion(person, 2))
    measured.positions[:, 2:] = np.nan
    with pytest.raises(KinematicsError, match="no frame has 3"):
        solve(scaled, measured, person)


def test_a_model_without_the_markers_is_refused(person, scaled):
    measured = person.markers(motion(person, 1))
    with pytest.raises(UnknownNameError, match="Horn"):
        inverse_kinematics(
            model_path=scaled.model_path, trajectories=measured, weights={"Horn": 1.0, "C7": 1.0}
        )


def test_agrees_with_opensims_tool_on_its_own_example():
    folder = SHARED / "gait2354"
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    model = folder / "reference_subject01_simbody.osim"
    skeleton = Skeleton.from_osim(model)
    trial, setup = (
        read_trc(folder / "subject01_walk1.trc"),
        read_ik_setup(folder / "subject01_Setup_IK.xml"),
    )
    chosen = setup.frames(trial.times)
    trial = replace(trial, positions=trial.positions[chosen], times=trial.times[chosen])
    names = [name for name in trial.names if name in skeleton.markers]
    result = inverse_kinematics(
        model_path=model,
        trajectories=trial,
        weights={name: setup.marker_weights.get(name, 0.0) for name in names},
        coordinate_tasks=setup.at(trial.times),
    )
    reference = read_mot(folder / "reference_subject01_walk1_ik.mot")
    np.testing.assert_allclose(trial.times, reference.times, atol=1e-3)
    for column, name in enumerate(result.coordinate_names):
        turns = skeleton.coordinate_rotational[column]
        theirs = reference.values[:, reference.names.index(name)]
        error = float(np.sqrt(np.mean((result.coordinates[:, column] - theirs) ** 2)))
        assert error < (np.deg2rad(0.1) if turns else 1e-3), (name, error)
