"""Scaling a person whose size is known, and every way a static trial can be unusable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from d3ke.errors import InvalidInputError, KinematicsError
from d3ke.kinematics import MarkerTrajectories
from d3ke.kinematics.scaling import ScalingSettings, scale_subject
from d3ke.skeleton import Skeleton, full_body_model_path


def scale(person, tmp_path, static=None, **changes):
    arguments = {
        "model_path": full_body_model_path(),
        "marker_set": person.marker_set,
        "measurements": person.measurements,
        "static": static or person.static(),
        "mass_kg": 70.0,
        "output_path": tmp_path / "out.osim",
    }
    return scale_subject(**{**arguments, **changes})


def without(static: MarkerTrajectories, marker: str) -> MarkerTrajectories:
    positions = static.positions.copy()
    positions[:, static.names.index(marker)] = np.nan
    return replace(static, positions=positions)


def test_finds_the_size(person, scaled):
    # The model leaves a few bodies unscaled (hands), which the foot's and trunk's distances span.
    np.testing.assert_allclose(scaled.measurement_factors, 1.1, atol=0.01)
    assert scaled.body_names == person.skeleton.bodies
    expected = person.measurements.body_scales(
        torch.from_numpy(scaled.measurement_factors), person.skeleton
    )
    np.testing.assert_allclose(scaled.body_scales, expected, atol=1e-6)
    assert scaled.static_marker_rms_m < 0.002


def test_scaled_model_is_released_and_locked_as_settings_say(scaled):
    skeleton, settings = Skeleton.from_osim(scaled.model_path), ScalingSettings()
    locked = set(np.array(skeleton.coordinates)[skeleton.coordinate_locked].tolist())
    assert locked == set(settings.locked_after_scaling) == set(scaled.locked)
    couplers = {coupler.name for coupler in skeleton.couplers}
    assert not couplers & set(settings.released_couplers)
    assert "shoulder1_r2_con" in couplers


def test_reparented_markers_keep_their_place(person, scaled):
    skeleton = Skeleton.from_osim(scaled.model_path)
    for marker, body in person.marker_set.reparent.items():
        index = skeleton.index_of("marker", marker)
        assert skeleton.bodies[skeleton.marker_bodies[index]] == body


def test_mass_is_the_persons(scaled):
    from d3ke.kinematics.opensim_library import load_model

    model = load_model(scaled.model_path)
    assert model.getTotalMass(model.initSystem()) == pytest.approx(70.0, abs=0.01)


def test_no_log_file_and_no_folder_is_left(person, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scale(person, tmp_path, place_markers=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out.osim"]


def test_a_missing_marker_is_named_with_its_measurement(person, tmp_path):
    with pytest.raises(KinematicsError, match=r"'femurXZ'.*'RKNE'.*missing in the static"):
        scale(person, tmp_path, without(person.static(), "RKNE"))
    assert not (tmp_path / "out.osim").exists()


def test_a_missing_marker_that_nothing_measures_is_no_harm(person, tmp_path):
    subject = scale(person, tmp_path, without(person.static(), "RTOE"))
    assert subject.static_marker_rms_m < 0.002


def test_a_marker_the_set_lacks_is_named(person, tmp_path):
    pairs = {**person.measurements.marker_pairs, "femurY": (("RHIPJ", "TAIL"),)}
    with pytest.raises(KinematicsError, match="'TAIL'"):
        scale(person, tmp_path, measurements=replace(person.measurements, marker_pairs=pairs))


def test_an_implausible_factor_is_refused(person, tmp_path):
    static = person.static()
    in_millimetres = replace(static, positions=static.positions * 1e3)
    with pytest.raises(KinematicsError, match="factor 1.1e"):
        scale(person, tmp_path, in_millimetres)


@pytest.mark.parametrize("mass", [0.0, -3.0, float("nan")])
def test_mass_must_be_positive(person, tmp_path, mass):
    with pytest.raises(InvalidInputError, match="positive"):
        scale(person, tmp_path, mass_kg=mass)


def test_an_unreadable_model_is_named(person, tmp_path):
    with pytest.raises(InvalidInputError, match=r"gone\.osim"):
        scale(person, tmp_path, model_path=tmp_path / "gone.osim")
