"""Measurement factors to body scales and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton

SKELETON = Skeleton.full_body()
MEASUREMENTS = MeasurementSet.full_body()


def test_every_marker_is_in_the_model() -> None:
    MEASUREMENTS.check_markers(SKELETON)
    fewer = SKELETON.with_markers(["C7"], ["head_neck"], np.zeros((1, 3)))
    with pytest.raises(UnknownNameError, match="marker"):
        MEASUREMENTS.check_markers(fewer)


def test_every_predicted_body_axis_has_a_measurement() -> None:
    slots = MEASUREMENTS.slots(SKELETON)
    unscaled = {body for body, row in zip(SKELETON.bodies, slots, strict=True) if (row < 0).any()}
    assert unscaled == {"lunate", "lunate_l"}


def test_no_two_measurements_are_between_the_same_markers() -> None:
    pairs = [frozenset(map(frozenset, p)) for p in MEASUREMENTS.marker_pairs.values()]
    assert len(set(pairs)) == len(pairs) == 41


@pytest.mark.parametrize(
    ("body", "axis", "expected"),
    [
        ("tibia_r", 1, {"RKJC", "RAJC"}),
        ("femur_l", 1, {"LHIPJ", "LKJC"}),
        ("humerus", 1, {"RSHOULDER", "RELC"}),
        ("radius_l", 1, {"LELC", "LWRIST"}),
        ("pelvis", 2, {"LHIPJ", "RHIPJ"}),
        ("thorax", 2, {"LSHOULDER", "RSHOULDER"}),
        ("scapula_l", 2, {"LSHOULDER", "RSHOULDER"}),
        ("clavicle", 2, {"LSHOULDER", "RSHOULDER"}),
    ],
)
def test_limbs_and_trunk_are_measured_between_joint_centres(
    body: str, axis: int, expected: set[str]
) -> None:
    slot = MEASUREMENTS.slots(SKELETON)[SKELETON.index_of("body", body), axis]
    (pair,) = MEASUREMENTS.marker_pairs[MEASUREMENTS.names[slot]]
    assert set(pair) == expected


def test_factors_to_scales_and_back() -> None:
    factors = torch.linspace(0.8, 1.2, len(MEASUREMENTS.names), dtype=torch.float64)
    batch = torch.stack([factors, factors.flip(0)])
    scales = MEASUREMENTS.body_scales(batch, SKELETON)
    assert scales.shape == (2, len(SKELETON.bodies), 3)
    tibia = SKELETON.index_of("body", "tibia_r")
    assert scales[0, tibia, 1] == factors[MEASUREMENTS.names.index("tibiaY")]
    assert torch.equal(scales[:, SKELETON.index_of("body", "lunate")], torch.ones(2, 3).double())
    for row in range(2):
        found = MEASUREMENTS.factors_from_body_scales(scales[row].numpy(), SKELETON)
        assert found == pytest.approx(batch[row].numpy(), abs=1e-12)


def test_a_later_measurement_overrides_an_earlier_one() -> None:
    measurements = MeasurementSet(
        marker_pairs={"a": (("RKNE", "RANK"),), "b": (("RHEE", "RTOE"),)},
        body_axes={"a": (("tibia_r", "xy"),), "b": (("tibia_r", "yz"),)},
    )
    row = measurements.slots(SKELETON)[SKELETON.index_of("body", "tibia_r")]
    assert row.tolist() == [0, 1, 1]


def test_gradient_reaches_every_factor() -> None:
    factors = torch.ones(len(MEASUREMENTS.names), requires_grad=True)
    MEASUREMENTS.body_scales(factors, SKELETON).sum().backward()
    assert factors.grad is not None
    assert (factors.grad >= 1).all()


def test_bad_axes_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'xw'"):
        MeasurementSet(marker_pairs={"a": ()}, body_axes={"a": (("tibia_r", "xw"),)})
    with pytest.raises(InvalidInputError, match="differ in names"):
        MeasurementSet(marker_pairs={"a": ()}, body_axes={})
    for kind in (MeasurementSet, PredictedSet):
        (tmp_path / "other.json").write_text('{"format": "other"}')
        with pytest.raises(InvalidInputError, match="other"):
            kind.load(tmp_path / "other.json")
        with pytest.raises(InvalidInputError, match="absent"):
            kind.load(tmp_path / "absent.json")


def test_json_round_trip(tmp_path: Path) -> None:
    MEASUREMENTS.save(tmp_path / "measurements.json")
    assert MeasurementSet.load(tmp_path / "measurements.json") == MEASUREMENTS
    PredictedSet.full_body().save(tmp_path / "predicted.json")
    assert PredictedSet.load(tmp_path / "predicted.json") == PredictedSet.full_body()
