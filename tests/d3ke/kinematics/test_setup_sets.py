"""Marker sets and measurements of data sets, from setups of OpenSim users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import InvalidInputError
from d3ke.kinematics.scale_setup import (
    ManualScale,
    ModelScalerSetup,
    ScaleMeasurement,
    ScaleSetup,
)
from d3ke.kinematics.setup_sets import (
    PlacedMarker,
    marker_set_from,
    markers_of,
    measurements_of_axes,
    measurements_of_bodies,
    measurements_of_scales,
    measurements_of_setups,
    model_with_markers,
)

GAIT = Path(__file__).parents[4] / "shared" / "opensim-models" / "gait2354"
BODIES = ("pelvis", "femur_r", "femur_l", "tibia_r", "tibia_l")
THIGH = ScaleMeasurement(
    name="thigh",
    marker_pairs=(("HIP", "KNEE"),),
    body_axes=(("femur_r", "xyz"), ("femur_l", "xyz"), ("patella_r", "xyz")),
)
PELVIS = ScaleMeasurement(
    name="pelvis", marker_pairs=(("A", "B"),), body_axes=(("pelvis", "z"), ("femur_l", "y"))
)


def setup(*measurements, manual=(), order=("measurements", "manualScale")):
    scaler = ModelScalerSetup(order=order, measurements=measurements, manual_scales=manual)
    return ScaleSetup(scaler=scaler)


def test_later_measurements_and_manual_factors_take_over():
    shank = ManualScale(body="tibia_r", factors=(1.1, 1.2, 1.1))
    found = measurements_of_setups([setup(THIGH, PELVIS, manual=(shank,))], BODIES)
    assert found.body_axes == {
        "thigh": (("femur_r", "xyz"), ("femur_l", "xz")),
        "pelvis": (("pelvis", "z"), ("femur_l", "y")),
        "manual_tibia_r": (("tibia_r", "xz"),),
        "manual_tibia_r_y": (("tibia_r", "y"),),
    }
    assert found.marker_pairs["thigh"] == (("HIP", "KNEE"),)
    assert found.marker_pairs["manual_tibia_r"] == ()
    assert not found.measured
    only_manual = setup(THIGH, manual=(shank,), order=("manualScale",))
    assert set(measurements_of_setups([only_manual], BODIES).names) == {
        "manual_tibia_r",
        "manual_tibia_r_y",
    }


def test_factors_are_split_where_subjects_setups_differ():
    other = replace(THIGH, body_axes=(("femur_r", "xyz"),))
    found = measurements_of_setups([setup(THIGH), setup(other)], BODIES)
    assert found.body_axes == {
        "thigh": (("femur_r", "xyz"),),
        "thigh_femur_l": (("femur_l", "xyz"),),
    }


def test_bodies_share_a_factor_with_their_other_side():
    found = measurements_of_bodies(BODIES)
    assert found.names == ("pelvis", "femur", "tibia")
    assert found.body_axes["femur"] == (("femur_r", "xyz"), ("femur_l", "xyz"))
    assert measurements_of_bodies(("hand_r", "torso")).names == ("hand_r", "torso")


def test_scaled_models_need_as_many_factors_as_they_have():
    one = np.ones((5, 3))
    one[1:3] = 1.2
    two = one.copy()
    two[3, 1] = 0.9  # only the right tibia, only along y
    found = measurements_of_scales([one, two], BODIES)
    assert found.body_axes["femur"] == (("femur_r", "xyz"), ("femur_l", "xyz"))
    assert (("tibia_r", "y"),) in found.body_axes.values()
    assert (("tibia_r", "xz"), ("tibia_l", "xyz")) in found.body_axes.values()
    assert len(measurements_of_axes(BODIES).names) == 15


def test_weights_come_from_the_setups():
    markers = {
        name: PlacedMarker("pelvis", np.array([0.1, 0.0, 0.0]), fixed)
        for name, fixed in (("A", True), ("B", False))
    }
    found = marker_set_from(markers, scaling_weights={"A": 3.0}, ik_weights={"B": 2.0, "C": 1.0})
    assert found.scaling_weights.tolist() == [3.0, 0.0]
    assert found.ik_weights.tolist() == [0.0, 2.0]
    assert found.fixed.tolist() == [True, False]
    assert marker_set_from(markers).ik_weights.tolist() == [1.0, 1.0]
    with pytest.raises(InvalidInputError, match="no markers on its bodies"):
        marker_set_from({})


@pytest.mark.skipif(not GAIT.is_dir(), reason="../shared/opensim-models is not here")
def test_a_marker_set_file_is_put_on_as_the_scale_tool_does():
    model_file = GAIT / "reference_subject01_simbody.osim"
    own = markers_of(model_with_markers(model_file))
    put = markers_of(model_with_markers(model_file, GAIT / "gait2354_Scale_MarkerSet.xml"))
    assert put.keys() == own.keys()
    np.testing.assert_allclose(put["Sternum"].location, [0.07, 0.3, 0.0])
    assert not np.allclose(own["Sternum"].location, [0.07, 0.3, 0.0])
    assert put["R.Knee.Lat"].body == "femur_r"
    with pytest.raises(InvalidInputError, match=r"none\.xml: there is no such marker set"):
        model_with_markers(model_file, GAIT / "none.xml")
