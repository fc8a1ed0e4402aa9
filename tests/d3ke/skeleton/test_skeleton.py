"""The skeleton as data: files, names, markers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from osim_models import SmallModel, functions, linear

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.skeleton import SkeletalModelLayer, Skeleton

SKELETON = Skeleton.full_body()


def test_json_round_trip_is_exact(tmp_path: Path) -> None:
    SKELETON.save(tmp_path / "skeleton.json")
    loaded = Skeleton.load(tmp_path / "skeleton.json")
    assert loaded.to_json() == SKELETON.to_json()
    assert loaded.content_hash() == SKELETON.content_hash()


def test_json_round_trip_keeps_splines_and_couplers(tmp_path: Path) -> None:
    model = SmallModel()
    spline = functions()["SimmSpline"]
    model.custom_joint({0: (linear(1.0), ["a"]), 3: (spline, ["a"]), 1: (linear(1.0), ["b"])})
    model.coupler("b", ["a"], spline)
    skeleton = Skeleton.from_osim(model.save(tmp_path))
    skeleton.save(tmp_path / "skeleton.json")
    loaded = Skeleton.load(tmp_path / "skeleton.json")
    q = torch.linspace(-2, 2, len(skeleton.coordinates), dtype=torch.float64)
    before, after = SkeletalModelLayer(skeleton)(q), SkeletalModelLayer(loaded)(q)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": 99}, "version 99"), ({"format": "other"}, "other")],
)
def test_another_version_or_format_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "skeleton.json"
    path.write_text(json.dumps(SKELETON.to_json() | change))
    with pytest.raises(InvalidInputError, match=message):
        Skeleton.load(path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "skeleton.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"skeleton\.json"):
        Skeleton.load(tmp_path / "skeleton.json")


def test_index_of_names() -> None:
    assert SKELETON.bodies[SKELETON.index_of("body", "tibia_l")] == "tibia_l"
    names = ("RKNE", "LKNE")
    assert [SKELETON.markers[i] for i in SKELETON.index_of("marker", names)] == list(names)
    with pytest.raises(UnknownNameError, match="knee_angle_r"):
        SKELETON.index_of("coordinate", "knee_angel_r")


def test_with_markers_moves_only_markers() -> None:
    location = np.array([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0]])
    changed = SKELETON.with_markers(["a", "b"], ["tibia_r", "ground"], location)
    assert np.array_equal(changed.marker_locations, location)
    q = torch.zeros(len(SKELETON.coordinates), dtype=torch.float64)
    pose = SkeletalModelLayer(changed)(q)
    assert torch.equal(pose.markers[1], torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    assert torch.equal(pose.joint_centers, SkeletalModelLayer(SKELETON)(q).joint_centers)
    assert changed.content_hash() != SKELETON.content_hash()
    with pytest.raises(UnknownNameError, match="tibia_r"):
        SKELETON.with_markers(["a"], ["tibia"], location[:1])


def test_arrays_cannot_be_changed_and_survive_pickling() -> None:
    with pytest.raises(ValueError, match="read-only"):
        SKELETON.axes[0, 0, 0] = 2.0
    copy = pickle.loads(pickle.dumps(SKELETON))
    assert copy.content_hash() == SKELETON.content_hash()


def test_inconsistent_fields_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "skeleton.json"
    data = SKELETON.to_json()
    path.write_text(json.dumps(data | {"marker_bodies": data["marker_bodies"][1:]}))
    with pytest.raises(InvalidInputError, match="marker_bodies has 90 rows, expected 91"):
        Skeleton.load(path)
    path.write_text(json.dumps(data | {"markers": ["C7", *data["markers"][:-1]]}))
    with pytest.raises(InvalidInputError, match="twice"):
        Skeleton.load(path)
    del data["axes"]
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidInputError, match="axes"):
        Skeleton.load(path)
