"""How well the labels made from Anny bodies fit: the gate of the embedded data set."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from d3ke.kinematics import MarkerSet, inverse_kinematics, scale_subject
from d3ke.skeleton import MeasurementSet, Skeleton, full_body_model_path
from d3ke_platform.sources.anny_body import AnnyBody, sample_phenotype
from d3ke_platform.sources.anny_markers import static_markers, virtual_markers
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.key_poses import CHANNELS, FINE_CHANNELS
from d3ke_platform.sources.motions import (
    MotionStyle,
    make_motion,
    sample_motion_style,
    segment_rotations,
)

MOVEMENTS = ("squat", "throw", "march", "side_bend")
SUBJECTS = 4


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """(subject, movement, knee angle of the driver [T] rad, result) of people and movements that
    the registration has not seen."""
    body, rng = AnnyBody(), np.random.default_rng(777)
    people = [sample_phenotype(rng, body) for _ in range(SUBJECTS)]
    return [
        (subject, *trial)
        for subject, person in enumerate(people)
        for trial in _subject_trials(body, person, subject, tmp_path_factory.mktemp("subject"))
    ]


def _subject_trials(body, person, subject, folder):
    markers = MarkerSet.builtin("anny")
    scaled = scale_subject(
        model_path=full_body_model_path(),
        marker_set=markers,
        measurements=MeasurementSet.full_body(),
        static=static_markers(body, person),
        mass_kg=body.mass(person),
        output_path=folder / "subject.osim",
    )
    rng = np.random.default_rng(5 + subject)
    style = sample_motion_style(rng)
    for movement in MOVEMENTS:
        motion = make_motion(movement, rate_hz=10.0, seconds=1.5, style=style, rng=rng)
        moved = body.pose(person, motion.segment_rotations, motion.root_position)
        result = inverse_kinematics(
            model_path=scaled.model_path,
            trajectories=virtual_markers(body, moved),
            weights=dict(zip(markers.names, markers.ik_weights, strict=True)),
        )
        knee = Rotation.from_matrix(motion.segment_rotations["knee_r"]).as_euler("ZXY")[:, 0]
        yield movement, knee, result


@pytest.mark.slow
def test_markers_fit_within_a_centimetre(trials):
    used = MarkerSet.builtin("anny").ik_weights > 0.0
    for subject in range(SUBJECTS):
        errors = np.concatenate([t[3].marker_error[:, used] for t in trials if t[0] == subject])
        assert np.sqrt(np.mean(errors**2)) < 0.010
        assert np.mean(errors > 0.020) < 0.07
        assert errors.max() < 0.045


@pytest.mark.slow
def test_knee_follows_the_driver(trials):
    """Up to each body's own offset: the model's knee is at zero with the shank a degree off."""
    for subject in range(SUBJECTS):
        offsets = np.rad2deg(
            np.concatenate([_angle(t[3], "knee_angle_r") - t[2] for t in trials if t[0] == subject])
        )
        assert abs(offsets.mean()) < 3.0
        assert np.abs(offsets - offsets.mean()).mean() < 1.0


@pytest.mark.slow
def test_angles_are_smooth_and_in_range(trials):
    skeleton = Skeleton.full_body()
    low, high = skeleton.coordinate_ranges.T
    steady = ["hip_rotation_r", "pelvis_tilt", "L5_S1_FE", "knee_angle_y_r"]
    for _, movement, _, result in trials:
        assert (result.coordinates >= low - 1e-6).all()
        assert (result.coordinates <= high + 1e-6).all()
        for name in steady:
            jerk = np.diff(_angle(result, name), n=2)
            assert np.rad2deg(np.abs(jerk)).max() < 15.0, (movement, name)
        for name in skeleton.root_coordinates[:3]:
            assert np.abs(_angle(result, name)).max() < np.pi / 2, (movement, name)


@pytest.fixture(scope="module")
def scaled_person(tmp_path_factory):
    """Body, shape and scaled model."""
    body, person = AnnyBody(), Phenotype(gender=0.2, height=0.45)
    scaled = scale_subject(
        model_path=full_body_model_path(),
        marker_set=MarkerSet.builtin("anny"),
        measurements=MeasurementSet.full_body(),
        static=static_markers(body, person),
        mass_kg=70.0,
        output_path=tmp_path_factory.mktemp("person") / "subject.osim",
    )
    return body, person, scaled.model_path


def _solved(body, model_path, moved):
    markers = MarkerSet.builtin("anny")
    return inverse_kinematics(
        model_path=model_path,
        trajectories=virtual_markers(body, moved),
        weights=dict(zip(markers.names, markers.ik_weights, strict=True)),
    )


@pytest.mark.slow
def test_pronation_is_found_and_moves_nothing_else(scaled_person):
    """The forearm twists about the ulna, as the model's does; the wrist's markers tell."""
    body, person, model_path = scaled_person
    twist = np.linspace(-40.0, 60.0, 15)
    angles = {name: np.zeros((15, 3)) for name in (*CHANNELS, *FINE_CHANNELS)}
    angles["shoulder_r"][:] = (10.0, 20.0, 0.0)
    angles["elbow_r"][:] = np.stack([np.full(15, 60.0), twist, np.zeros(15)], axis=1)
    moved = body.pose(person, segment_rotations(angles), np.zeros((15, 3)), grounding="frame")
    result = _solved(body, model_path, moved)
    slope, _ = np.polyfit(twist, np.rad2deg(_angle(result, "pro_sup")), 1)
    assert 0.85 < slope < 1.25
    for name in ("shoulder_rot", "elv_angle", "elbow_flexion", "elbow_x"):
        assert np.ptp(np.rad2deg(_angle(result, name))) < 5.0, name


@pytest.mark.slow
@pytest.mark.parametrize("movement", ["scratch_head", "take_picture"])
def test_strongly_bent_elbows_are_found(scaled_person, movement):
    """From a straight arm the solver may end with the elbow hyperextended, hands 20 cm off."""
    body, person, model_path = scaled_person
    motion = make_motion(
        movement,
        rate_hz=20.0,
        seconds=2.5,
        style=MotionStyle(),
        rng=np.random.default_rng(1),
        fine=True,
    )
    moved = body.pose(person, motion.segment_rotations, motion.root_position, grounding="frame")
    result = _solved(body, model_path, moved)
    used = MarkerSet.builtin("anny").ik_weights > 0.0
    assert result.marker_error[:, used].max() < 0.05
    elbow = np.maximum(_angle(result, "elbow_flexion"), _angle(result, "elbow_flexion_l"))
    assert np.rad2deg(elbow.max()) > 80.0
    assert np.rad2deg(elbow.min()) > -5.0


def _angle(result, name):
    return result.coordinates[:, result.coordinate_names.index(name)]
