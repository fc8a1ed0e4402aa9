"""The checks find an error where there is one, and none where there is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from d3ke.errors import InvalidInputError
from d3ke.kinematics import write_mot
from d3ke.skeleton import SkeletalModelLayer, Skeleton, full_body_model_path
from d3ke_platform.evaluation.checks import export_error_m, layer_error_m
from d3ke_platform.schema import RESULTS
from d3ke_platform.storage import write_table

ROWS = 3


@pytest.mark.parametrize("scaled", [False, True])
def test_layer_equals_opensim(scaled):
    error = layer_error_m(full_body_model_path(), Skeleton.full_body(), poses=5, scaled=scaled)
    assert error < 1e-6


def test_a_wrong_skeleton_is_found():
    skeleton = Skeleton.full_body()
    maps = np.array(skeleton.parent_offset_maps)
    maps[skeleton.index_of("joint", "knee_r")] *= 1.01
    wrong = replace(skeleton, parent_offset_maps=maps)
    assert layer_error_m(full_body_model_path(), wrong, poses=2, scaled=False) > 1e-3


@pytest.fixture
def exported(tmp_path):
    """A motion and the results it was exported from."""
    skeleton = Skeleton.full_body()
    rng = np.random.default_rng(3)
    low, high = np.clip(skeleton.coordinate_ranges, -0.5, 0.5).T
    layer = SkeletalModelLayer(skeleton).double()
    coordinates = torch.as_tensor(rng.uniform(low, high, (ROWS, len(low))))
    pose = layer(coordinates)
    values = coordinates.numpy()
    times = np.arange(ROWS) / 10
    write_mot(
        tmp_path / "motion.mot",
        skeleton.coordinates,
        values,
        times,
        np.asarray(skeleton.coordinate_rotational),
    )
    bodies, joints = len(skeleton.bodies), len(skeleton.joints)
    columns = {
        "recording_id": ["a"] * ROWS,
        "person": np.zeros(ROWS),
        "frame": np.arange(ROWS),
        "time_s": times,
        "box": np.zeros((ROWS, 4)),
        "confidence": np.ones(ROWS),
        "coordinates": values,
        "root_rotation": pose.body_rotations[:, 0].numpy(),
        "body_scales": np.ones((ROWS, bodies, 3)),
        "joint_centers": pose.joint_centers.numpy(),
        "markers": pose.markers.numpy(),
    }
    dims = {"Q": values.shape[1], "N": bodies, "J": joints, "M": len(skeleton.markers)}
    return tmp_path, skeleton, columns, dims


def test_export_matches(exported):
    folder, skeleton, columns, dims = exported
    write_table(folder / "results.parquet", RESULTS.to_arrow(columns, dims))
    error = export_error_m(
        full_body_model_path(),
        folder / "motion.mot",
        str(folder / "results.parquet"),
        skeleton.markers,
    )
    assert error < 1e-6


def test_a_shifted_marker_is_found(exported):
    folder, skeleton, columns, dims = exported
    columns["markers"] = columns["markers"].copy()
    columns["markers"][1, 4, 2] += 0.002
    write_table(folder / "results.parquet", RESULTS.to_arrow(columns, dims))
    error = export_error_m(
        full_body_model_path(),
        folder / "motion.mot",
        str(folder / "results.parquet"),
        skeleton.markers,
    )
    assert error == pytest.approx(0.002, abs=1e-6)


def test_a_missing_row_is_found(exported):
    folder, skeleton, columns, dims = exported
    shorter = {name: values[:-1] for name, values in columns.items()}
    write_table(folder / "results.parquet", RESULTS.to_arrow(shorter, dims))
    with pytest.raises(InvalidInputError, match="rows"):
        export_error_m(
            full_body_model_path(),
            folder / "motion.mot",
            str(folder / "results.parquet"),
            skeleton.markers,
        )
