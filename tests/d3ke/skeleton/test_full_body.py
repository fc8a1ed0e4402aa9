"""The built-in model: its content, its symmetry and the defects mended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from osim_models import SHARED

from d3ke.skeleton import (
    MeasurementSet,
    PredictedSet,
    SkeletalModelLayer,
    Skeleton,
    full_body_model_path,
)
from d3ke.skeleton import build_full_body as builder
from d3ke.skeleton.full_body_figures import JOINT_CENTER_MARKERS

SKELETON = Skeleton.full_body()
MEASUREMENTS = MeasurementSet.full_body()
PREDICTED = PredictedSet.full_body()
MIRROR = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)


def test_counts() -> None:
    assert len(SKELETON.bodies) == 58
    assert len(SKELETON.joints) == 58
    assert len(SKELETON.coordinates) == 95
    assert len(SKELETON.markers) == 91
    assert len(SKELETON.couplers) == 16
    assert len(SKELETON.ignored) == 6
    assert SKELETON.root_coordinates[:3] == ("pelvis_tilt", "pelvis_list", "pelvis_rotation")
    assert {"shoulder1_r2", "shoulder1_r2_l"} <= set(SKELETON.coupled)


def test_mirrored_coordinates_give_the_mirrored_body() -> None:
    """Fails if any offset, axis, range, marker or coupler of one side differs from the other's."""
    generator = np.random.default_rng(0)
    low, high = np.clip(SKELETON.coordinate_ranges, -2, 2).T
    values = generator.uniform(low, high, size=(10, len(low)))
    other = np.zeros_like(values)
    for name, (partner, sign) in PREDICTED.mirror_coordinates.items():
        source, target = (SKELETON.index_of("coordinate", n) for n in (name, partner))
        other[:, target] = sign * values[:, source]
    layer = SkeletalModelLayer(SKELETON)
    here, there = layer(torch.from_numpy(values)), layer(torch.from_numpy(other))
    partners = [PREDICTED.mirror_markers[name] for name in SKELETON.markers]
    mirrored = there.markers[:, SKELETON.index_of("marker", partners)] * MIRROR
    assert (here.markers - mirrored).abs().max() < 1e-9


def test_ranges_and_defaults_are_the_same_on_both_sides() -> None:
    for name, (partner, sign) in PREDICTED.mirror_coordinates.items():
        own, other = (SKELETON.index_of("coordinate", n) for n in (name, partner))
        mirrored = np.sort(sign * SKELETON.coordinate_ranges[other])
        assert SKELETON.coordinate_ranges[own] == pytest.approx(mirrored, abs=1e-9), name
        assert SKELETON.coordinate_defaults[own] == SKELETON.coordinate_defaults[other]


def test_left_ankle_is_mended() -> None:
    right, left = SKELETON.index_of("joint", ["ankle_r", "ankle_l"])
    assert SKELETON.axes[left, 0] == pytest.approx(SKELETON.axes[right, 0] * [-1, -1, 1], abs=1e-12)
    ankle = SKELETON.index_of("coordinate", "ankle_angle_l")
    assert np.degrees(SKELETON.coordinate_ranges[ankle]) == pytest.approx([-90, 60], abs=0.01)


def test_left_shoulder_has_its_coupler() -> None:
    couplers = {c.name: c for c in SKELETON.couplers}
    left = couplers["shoulder1_r2_con_l"]
    assert SKELETON.coordinates[left.function.inputs[0]] == "elv_angle_l"
    assert left.function.slopes == pytest.approx((-1.0,))


def test_joint_centre_markers_sit_in_the_joint_centres() -> None:
    pose = SkeletalModelLayer(SKELETON)(torch.from_numpy(SKELETON.coordinate_defaults.copy()))
    for marker, (joint, _) in JOINT_CENTER_MARKERS.items():
        found = pose.markers[SKELETON.index_of("marker", marker)]
        expected = pose.joint_centers[SKELETON.index_of("joint", joint)]
        assert (found - expected).norm() < 1e-9, marker


def test_the_default_pose_is_a_standing_t_pose() -> None:
    pose = SkeletalModelLayer(SKELETON)(torch.from_numpy(SKELETON.coordinate_defaults.copy()))
    place = dict(zip(SKELETON.markers, pose.markers.numpy(), strict=True))
    assert place["RFHD"][1] - place["RHEE"][1] == pytest.approx(1.6, abs=0.1)
    assert place["RWRIST"][2] - place["LWRIST"][2] == pytest.approx(1.4, abs=0.1)
    assert place["RASI"][0] > place["RPSI"][0]
    assert abs(place["RWRIST"][1] - place["RSHOULDER"][1]) < 0.05


def test_predicted_set_matches_the_paper() -> None:
    assert len(PREDICTED.coordinates) == 69
    assert len(PREDICTED.bony_landmarks) == 30
    assert len(PREDICTED.marker_loss_weights) == 65
    assert len(PREDICTED.groups["main"]) == 18
    parts = [n for group in ("legs", "arms", "trunk") for n in PREDICTED.groups[group]]
    assert sorted(parts) == sorted(PREDICTED.coordinates)
    SKELETON.index_of("coordinate", PREDICTED.coordinates)
    SKELETON.index_of("marker", list(PREDICTED.marker_loss_weights))
    assert set(PREDICTED.bony_landmarks) <= set(PREDICTED.marker_loss_weights)
    assert PREDICTED.coordinates[30] == "knee_angle_r"
    assert PREDICTED.angle_loss_weights[53] == 2.0
    weights = dict(zip(PREDICTED.coordinates, PREDICTED.angle_loss_weights, strict=True))
    for name in PREDICTED.coordinates:
        assert weights[name] == weights[PREDICTED.mirror_coordinates[name][0]], name


def test_mirror_maps_are_involutions() -> None:
    for name, (partner, sign) in PREDICTED.mirror_coordinates.items():
        assert PREDICTED.mirror_coordinates[partner] == (name, sign)
    for name, partner in PREDICTED.mirror_markers.items():
        assert PREDICTED.mirror_markers[partner] == name
    assert set(PREDICTED.mirror_markers) == set(SKELETON.markers)


def test_bone_lengths_are_those_of_a_person() -> None:
    longest = PREDICTED.body_longest_axis
    for right, left, low, high in [
        ("femur_r", "femur_l", 0.40, 0.50),
        ("tibia_r", "tibia_l", 0.35, 0.45),
        ("humerus", "humerus_l", 0.28, 0.38),
        ("radius", "radius_l", 0.22, 0.30),
    ]:
        axis, length = longest[right]
        assert axis == "y"
        assert low < length < high
        assert longest[left] == longest[right]


@pytest.mark.slow
def test_model_files_are_what_the_builder_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = SHARED / "facts"
    if not facts.exists():
        pytest.skip("the published figures are not beside the repository")
    monkeypatch.setattr(builder, "full_body_model_path", lambda: tmp_path / "full_body.osim")
    assert builder.main([str(facts)]) == 0
    for shipped in full_body_model_path().parent.iterdir():
        assert (tmp_path / shipped.name).read_text() == shipped.read_text(), shipped.name


def test_the_builder_needs_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert builder.main([]) == 2
    assert "FACTS_DIR" in capsys.readouterr().err
