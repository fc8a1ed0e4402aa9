"""Marker sets: the shipped ones, computed markers, and markers on an OpenSim model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerSet, MarkerTrajectories
from d3ke.kinematics.registration import mirror_name, mirrored_mean
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton, full_body_model_path


@pytest.mark.parametrize("name", ["smplh", "anny"])
def test_shipped_sets_fit_the_built_in_model(name):
    markers, skeleton = MarkerSet.builtin(name), Skeleton.full_body()
    skeleton.with_markers(markers.names, markers.bodies, markers.locations)
    assert set(PredictedSet.full_body().marker_loss_weights) <= set(markers.names)
    for pairs in MeasurementSet.full_body().marker_pairs.values():
        assert {marker for pair in pairs for marker in pair} <= set(markers.names)
    assert set(markers.reparent.values()) <= set(skeleton.bodies)


@pytest.mark.parametrize("name", ["smplh", "anny"])
def test_shipped_sets_are_mirror_images(name):
    markers = MarkerSet.builtin(name)
    # Six decimals are kept in the file.
    np.testing.assert_allclose(
        markers.locations, mirrored_mean(markers.names, markers.locations), atol=2e-6
    )
    for marker in markers.names:
        index, other = markers.index(marker), markers.index(mirror_name(marker, markers.names))
        assert markers.ik_weights[index] == markers.ik_weights[other]
        assert markers.fixed[index] == markers.fixed[other]


def test_both_sets_use_the_same_names_and_bodies():
    smplh, anny = MarkerSet.builtin("smplh"), MarkerSet.builtin("anny")
    assert smplh.names == anny.names
    assert smplh.bodies == anny.bodies
    assert smplh.reparent == anny.reparent


def test_reference_weights_and_places():
    markers = MarkerSet.builtin("smplh")
    assert markers.ik_weights[markers.index("RKNE")] == 20.0
    assert markers.ik_weights[markers.index("RSHOULDER")] == 0.0
    assert markers.body_after_scaling("RKNE") == "tibia_r"
    assert markers.body_after_scaling("RASI") == "pelvis"


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(UnknownNameError, match="anny"):
        MarkerSet.builtin("any")
    with pytest.raises(UnknownNameError, match="RKNE"):
        MarkerSet.builtin("anny").index("RKNEE")


def test_save_and_load(tmp_path):
    markers = MarkerSet.builtin("anny")
    markers.save(tmp_path / "m.json")
    loaded = MarkerSet.load(tmp_path / "m.json")
    np.testing.assert_array_equal(loaded.locations, markers.locations)
    assert loaded.midpoints == markers.midpoints
    assert loaded.ground_projections == markers.ground_projections
    (tmp_path / "bad.json").write_text('{"version": 1}')
    with pytest.raises(InvalidInputError, match=r"bad\.json"):
        MarkerSet.load(tmp_path / "bad.json")


def test_contradictory_sets_are_refused():
    markers = MarkerSet.builtin("anny")
    with pytest.raises(InvalidInputError, match="finite"):
        replace(markers, locations=np.full_like(markers.locations, np.nan))
    with pytest.raises(InvalidInputError, match="ik_weights"):
        replace(markers, ik_weights=np.ones(3))
    with pytest.raises(UnknownNameError, match="Nobody"):
        replace(markers, reparent={"Nobody": "tibia_r"})


def test_computed_markers():
    markers = MarkerSet.builtin("anny")
    positions = np.random.default_rng(0).normal(size=(2, 4, 3))
    measured = MarkerTrajectories(
        names=("RKNE", "RKNI", "RHEE", "RASI"),
        positions=positions,
        times=np.arange(2.0),
        rate_hz=1.0,
    )
    complete = markers.complete(measured, floor_height=-0.5)
    assert complete.names == markers.names
    np.testing.assert_allclose(complete.marker("Virtual_RKJC"), positions[:, :2].mean(axis=1))
    heel = complete.marker("Virtual_Ground_RHEE")
    np.testing.assert_allclose(heel[:, [0, 2]], positions[:, 2][:, [0, 2]])
    np.testing.assert_allclose(heel[:, 1], -0.5)
    assert np.isnan(complete.marker("MASI")).all(), "LASI is missing, so the midpoint is too"
    moving = markers.complete(measured)
    assert np.isnan(moving.marker("Virtual_Ground_RHEE")).all()


def test_apply_to_model_leaves_exactly_these_markers(tmp_path):
    markers = MarkerSet.builtin("anny")
    markers.apply_to_model(full_body_model_path(), tmp_path / "m.osim")
    skeleton = Skeleton.from_osim(tmp_path / "m.osim")
    assert skeleton.markers == markers.names
    np.testing.assert_allclose(skeleton.marker_locations, markers.locations, atol=1e-9)
    assert not list(tmp_path.glob("*.log")), "OpenSim left a log file"


def test_unreadable_models_and_unknown_bodies_are_named(tmp_path):
    markers = MarkerSet.builtin("anny")
    (tmp_path / "bad.osim").write_text("<not a model")
    for name in ("bad.osim", "missing.osim"):
        with pytest.raises(InvalidInputError, match=name):
            markers.apply_to_model(tmp_path / name, tmp_path / "out.osim")
    foreign = replace(markers, bodies=("tail", *markers.bodies[1:]))
    with pytest.raises(UnknownNameError, match="tail"):
        foreign.apply_to_model(full_body_model_path(), tmp_path / "out.osim")
