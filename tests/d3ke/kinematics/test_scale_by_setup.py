"""OpenSim's ScaleTool by a setup: the published example exactly, and what goes wrong by name."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import D3KEError, InvalidInputError, KinematicsError, UnknownNameError
from d3ke.kinematics import (
    MarkerSet,
    MarkerTrajectories,
    ScaledSubject,
    inverse_kinematics,
    read_ik_setup,
    read_mot,
    read_trc,
    write_mot,
)
from d3ke.kinematics.opensim_library import load_opensim
from d3ke.kinematics.scale_by_setup import scale_by_setup
from d3ke.kinematics.scale_setup import ManualScale, ScaleSetup, read_scale_setup
from d3ke.kinematics.scale_tool import read_scales
from d3ke.kinematics.setup_sets import (
    marker_set_from,
    markers_of,
    measurements_of_bodies,
    measurements_of_setups,
    model_with_markers,
)
from d3ke.kinematics.subject_model import adopt_model, scale_by_estimate
from d3ke.skeleton import MeasurementSet, Skeleton

GAIT = Path(__file__).parents[4] / "shared" / "opensim-models" / "gait2354"
REFERENCE_MODEL = GAIT / "reference_subject01_simbody.osim"
pytestmark = pytest.mark.skipif(not GAIT.is_dir(), reason="../shared/opensim-models is not here")


@dataclass(frozen=True, kw_only=True)
class Example:
    """OpenSim's Gait2354 example."""

    setup: ScaleSetup
    static: MarkerTrajectories
    skeleton: Skeleton
    marker_set: MarkerSet
    measurements: MeasurementSet
    model: Path
    folder: Path

    def scale(self, **changes) -> ScaledSubject:
        arguments = {
            "setup": self.setup,
            "static": self.static,
            "skeleton": self.skeleton,
            "marker_set": self.marker_set,
            "measurements": self.measurements,
            "output_path": self.folder / "scaled.osim",
        } | changes
        return scale_by_setup(arguments.pop("setup"), **arguments)


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    folder = tmp_path_factory.mktemp("gait2354")
    setup = read_scale_setup(GAIT / "subject01_Setup_Scale.xml")
    assert setup.model_file is not None
    marker_set = marker_set_from(
        markers_of(model_with_markers(setup.model_file, setup.marker_set_file)),
        scaling_weights=setup.placer.marker_weights,
        ik_weights=read_ik_setup(GAIT / "subject01_Setup_IK.xml").marker_weights,
    )
    marker_set.apply_to_model(setup.model_file, folder / "model.osim")
    skeleton = Skeleton.from_osim(folder / "model.osim")
    return Example(
        setup=setup,
        static=read_trc(GAIT / "subject01_static.trc"),
        skeleton=skeleton,
        marker_set=marker_set,
        measurements=measurements_of_setups([setup], skeleton.bodies),
        model=folder / "model.osim",
        folder=folder,
    )


@pytest.fixture(scope="module")
def scaled(example: Example) -> ScaledSubject:
    return example.scale()


def reference_scales(skeleton: Skeleton) -> np.ndarray:
    found = read_scales(GAIT / "reference_scaleSet_applied.xml")
    return np.array([found[body] for body in skeleton.bodies])


def test_scale_factors_are_the_published_ones(example, scaled):
    """The gate of 1e-3 (measured: equal to all digits of the file)."""
    expected = reference_scales(example.skeleton)
    np.testing.assert_allclose(scaled.body_scales, expected, atol=1e-6)
    assert scaled.body_names == example.skeleton.bodies
    by_name = dict(zip(example.measurements.names, scaled.measurement_factors, strict=True))
    assert by_name["shank"] == pytest.approx(1.11398)
    assert by_name["manual_femur_r"] == pytest.approx(1.14724)
    # What networks predict represents the scaled body exactly.
    import torch

    factors = torch.from_numpy(scaled.measurement_factors)
    again = example.measurements.body_scales(factors, example.skeleton).numpy()
    np.testing.assert_allclose(again, scaled.body_scales, atol=1e-12)


TASK_OFF = (
    r'(<IKMarkerTask name="R.ASIS">.*?<apply>) true',
    r"\1 false",
)
FROM_FILE = (
    r"<value_type> manual_value(.*)<coordinate_file> </coordinate_file>",
    r"<value_type> from_file\1<coordinate_file>pose.mot</coordinate_file>",
)


@pytest.mark.parametrize(
    "change",
    [
        ("", ""),
        TASK_OFF,
        FROM_FILE,
    ],
    ids=["as it is", "task off", "pose from file"],
)
def test_the_model_is_what_opensim_itself_makes_of_the_users_file(tmp_path, example, change):
    for file in GAIT.glob("*"):
        shutil.copyfile(file, tmp_path / file.name)
    names, pose = example.skeleton.coordinates, np.zeros((9, len(example.skeleton.coordinates)))
    pose[:, names.index("lumbar_extension")] = -0.1
    rotational = np.asarray(example.skeleton.coordinate_rotational)
    write_mot(tmp_path / "pose.mot", names, pose, np.linspace(0.0, 5.0, 9), rotational)
    file = tmp_path / "subject01_Setup_Scale.xml"
    text, count = re.subn(*change, file.read_text(), count=1, flags=re.DOTALL)
    assert count == 1
    file.write_text(text)
    assert load_opensim().ScaleTool(str(file)).run()
    theirs = Skeleton.from_osim(tmp_path / "subject01_simbody.osim")
    setup = read_scale_setup(file)
    scaled = example.scale(
        setup=setup, measurements=measurements_of_setups([setup], example.skeleton.bodies)
    )
    ours = Skeleton.from_osim(scaled.model_path)
    assert ours.markers == theirs.markers
    np.testing.assert_allclose(ours.marker_locations, theirs.marker_locations, atol=1e-7)
    np.testing.assert_allclose(ours.parent_offset_maps, theirs.parent_offset_maps, atol=1e-9)
    assert scaled.static_marker_rms_m < 1e-5  # the placer moved every marker onto its measurement


def test_angles_on_the_published_model_are_the_published_ones():
    """The gate of 0.1 degrees (measured: 0.036). The published motion belongs to the published
    model: OpenSim 4.6 places its markers elsewhere and is 2.9 degrees off on its own model."""
    tasks = read_ik_setup(GAIT / "subject01_Setup_IK.xml")
    trial, expected = read_trc(GAIT / "subject01_walk1.trc"), read_mot(GAIT / MOTION)
    frames = tasks.frames(trial.times)
    trial = replace(trial, positions=trial.positions[frames], times=trial.times[frames])
    result = inverse_kinematics(
        model_path=REFERENCE_MODEL,
        trajectories=trial,
        weights=tasks.marker_weights,
        coordinate_tasks=tasks.at(trial.times),
    )
    order = [result.coordinate_names.index(name) for name in expected.names]
    error = np.sqrt(np.mean((result.coordinates[:, order] - expected.values) ** 2, axis=0))
    lengths = np.array([name.endswith(("_tx", "_ty", "_tz")) for name in expected.names])
    assert np.rad2deg(error[~lengths]).max() < 0.1
    assert error[lengths].max() < 1e-4
    np.testing.assert_allclose(trial.times, expected.times, atol=1e-3)


MOTION = "reference_subject01_walk1_ik.mot"


def renamed(static: MarkerTrajectories, old: str, new: str) -> MarkerTrajectories:
    return replace(static, names=tuple(new if n == old else n for n in static.names))


def with_gap(static: MarkerTrajectories) -> MarkerTrajectories:
    positions = static.positions.copy()
    positions[70, static.names.index("R.Heel")] = np.nan
    return replace(static, positions=positions)


@pytest.mark.parametrize(
    ("damage", "error", "reason"),
    [
        (
            lambda s: renamed(s, "Top.Head", "TopHead"),
            KinematicsError,
            r"'torso': needs marker 'Top\.Head', which the static trial lacks; it has TopHead",
        ),
        (with_gap, KinematicsError, r"'foot': needs marker 'R\.Heel', which has gaps in 1 of the"),
        (
            lambda s: replace(s, times=s.times + 100.0),
            InvalidInputError,
            r"time range 1 to 2 s lies outside the static trial's 100",
        ),
        (
            lambda s: replace(s, positions=s.positions * 1e3),
            KinematicsError,
            r"scales body '\w+' by .*units mixed up",
        ),
    ],
)
def test_static_trials_that_cannot_scale_are_refused_by_name(example, damage, error, reason):
    with pytest.raises(error, match=reason):
        example.scale(static=damage(example.static))


def changed_scaler(setup: ScaleSetup, **changes) -> ScaleSetup:
    return replace(setup, scaler=replace(setup.scaler, **changes))


def misspelt_body(setup: ScaleSetup) -> ScaleSetup:
    scale = ManualScale(body="femur_R", factors=(1.0, 1.0, 1.0))
    return changed_scaler(setup, manual_scales=(scale,))


def misspelt_marker(setup: ScaleSetup) -> ScaleSetup:
    first, *rest = setup.scaler.measurements
    return changed_scaler(
        setup, measurements=(replace(first, marker_pairs=(("V.Sacral", "Top.Heed"),)), *rest)
    )


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (misspelt_body, UnknownNameError, r"'femur_R'.*Did you mean 'femur_r'"),
        (misspelt_marker, UnknownNameError, r"measurement 'torso' 'Top\.Heed'.*'Top\.Head'"),
        (lambda s: replace(s, mass_kg=-1.0), InvalidInputError, r"mass of the person is -1 kg"),
        (lambda s: replace(s, model_file=Path("none.osim")), InvalidInputError, r"none\.osim"),
        (
            lambda s: replace(s, marker_set_file=Path("none.xml")),
            InvalidInputError,
            r"none\.xml: there is no such marker set file",
        ),
        (
            lambda s: replace(s, placer=replace(s.placer, marker_weights={"Sternum": 1.0})),
            InvalidInputError,
            r"fewer than three of its weighted markers \(Sternum\)",
        ),
    ],
)
def test_setups_that_do_not_fit_the_model_are_refused_by_name(example, change, error, reason):
    with pytest.raises(error, match=reason):
        example.scale(setup=change(example.setup))


def test_each_step_can_be_left_out(example):
    bare = changed_scaler(example.setup, apply=False)
    placed = example.scale(setup=bare)
    np.testing.assert_array_equal(placed.body_scales, np.ones((len(example.skeleton.bodies), 3)))
    unplaced = replace(example.setup, placer=replace(example.setup.placer, apply=False))
    model = Skeleton.from_osim(example.scale(setup=unplaced).model_path)
    knee = model.index_of("marker", "R.Knee.Lat")
    generic = example.skeleton.marker_locations[knee]
    np.testing.assert_allclose(model.marker_locations[knee], 1.14724 * generic, atol=1e-6)


def test_markers_that_the_static_trial_lacks_come_back_at_their_scaled_places(example):
    less = example.static.reordered([n for n in example.static.names if n != "R.Thigh.Front"])
    model = Skeleton.from_osim(example.scale(static=less).model_path)
    place = model.marker_locations[model.index_of("marker", "R.Thigh.Front")]
    generic = example.skeleton
    expected = 1.14724 * generic.marker_locations[generic.index_of("marker", "R.Thigh.Front")]
    np.testing.assert_allclose(place, expected, atol=1e-6)


def test_another_trial_may_be_measured_in(example):
    wider = replace(example.static, positions=example.static.positions * 1.1)
    scaled = example.scale(measured=wider)
    torso = scaled.body_names.index("torso")
    np.testing.assert_allclose(scaled.body_scales[torso], 1.1 * 1.07972, rtol=1e-4)


def test_a_model_scaled_before_gives_its_factors(example):
    adopted = adopt_model(
        scaled_path=REFERENCE_MODEL,
        generic_path=example.model,
        skeleton=example.skeleton,
        marker_set=example.marker_set,
        measurements=example.measurements,
        static=example.static,
        output_path=example.folder / "adopted.osim",
    )
    np.testing.assert_allclose(adopted.body_scales, reference_scales(example.skeleton), atol=1e-3)
    assert adopted.static_marker_rms_m < 1e-3
    assert Skeleton.from_osim(adopted.model_path).markers


def test_a_person_without_a_setup_is_scaled_by_estimate(example):
    """The person is the model itself, 8 % larger, facing elsewhere: the factors are known."""
    from d3ke.kinematics.marker_checks import ModelMarkers

    turned = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    points = 1.08 * ModelMarkers.of(example.skeleton).positions @ turned.T + [1.0, 0.0, 2.0]
    static = MarkerTrajectories(
        names=example.skeleton.markers,
        positions=np.repeat(points[None], 3, axis=0),
        times=np.arange(3) / 60.0,
        rate_hz=60.0,
    )
    bodies = measurements_of_bodies(example.skeleton.bodies)
    arguments = {
        "model_path": example.model,
        "skeleton": example.skeleton,
        "marker_set": example.marker_set,
        "measurements": bodies,
        "mass_kg": 70.0,
        "output_path": example.folder / "estimated.osim",
    }
    found = scale_by_estimate(static=static, **arguments)
    assert dict(zip(bodies.names, found.measurement_factors, strict=True)) == pytest.approx(
        dict.fromkeys(bodies.names, 1.08), abs=0.01
    )
    assert found.static_marker_rms_m < 1e-3
    few = static.reordered(example.skeleton.markers[:4])
    with pytest.raises(D3KEError, match="4 weighted markers of the model, 6 are needed"):
        scale_by_estimate(static=few, **arguments)
