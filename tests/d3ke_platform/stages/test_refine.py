"""Refinement over time, and results in ground that fit the picture and the skeleton."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_bundle import FPS, as_estimate, random_estimates

from d3ke.camera import Camera, box_of_points, project
from d3ke.errors import InvalidInputError
from d3ke.networks import (
    Bundle,
    Estimate,
    SequenceNetwork,
    SequenceNetworkConfig,
    load_bundle,
)
from d3ke_platform.schema import RESULTS
from d3ke_platform.stages.estimate import EstimateArrays, bundle_dims
from d3ke_platform.stages.refine import Placement, SequenceRefiner, phase_rows


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera.assumed((640, 480))


def place(bundle: Bundle, columns: dict[str, Any], camera: Camera | None) -> dict[str, np.ndarray]:
    estimate = as_estimate(columns)
    return Placement(bundle, estimate.factors, camera).results(columns, estimate)


def test_phases_partition_the_rows() -> None:
    index, valid = phase_rows(8, 3)
    assert index.tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 5]]
    assert sorted(index[valid]) == list(range(8))
    index, valid = phase_rows(2, 5)
    assert valid.sum() == 2
    assert index.max() < 2


def test_faster_video_is_refined_phase_by_phase(random_bundle: Path, camera: Camera) -> None:
    refiner = SequenceRefiner(random_bundle)
    columns = random_estimates(refiner.bundle, 11, camera)
    whole = refiner.refine(columns, fps=3 * FPS)
    assert np.abs(whole.coordinates - columns["coordinates"]).max() > 1e-3
    for phase in range(3):
        part = {name: values[phase::3] for name, values in columns.items()}
        alone = refiner.refine(part, fps=FPS)
        for woven, single in zip(whole, alone, strict=True):
            np.testing.assert_allclose(woven[phase::3], single, atol=1e-5)


@pytest.mark.parametrize(("kind", "close"), [("transformer", 1e-5), ("tcn", 1e-5), ("lstm", 1e-3)])
def test_long_recordings_are_refined_in_blocks_to_the_same(
    random_bundle: Path, camera: Camera, monkeypatch: pytest.MonkeyPatch, kind: str, close: float
) -> None:
    """An LSTM forgets what is far away, but not all of it within the 36 frames it sees here."""
    refiner = SequenceRefiner(random_bundle)
    torch.manual_seed(0)
    config = SequenceNetworkConfig(
        kind=kind, window=9, width=16, heads=2, layers=1, feed_forward=16, strides=(3,)
    )
    refiner._network = SequenceNetwork(config, refiner.bundle.head).eval()
    torch.nn.init.normal_(refiner._network.output.weight, std=0.5)
    columns = random_estimates(refiner.bundle, 90, camera)
    columns["confidence"][[20, 21, 22, 50]] = 0.0
    whole = refiner.refine(columns, fps=2 * FPS)
    monkeypatch.setattr("d3ke_platform.stages.refine.BLOCK_ROWS", 14)
    for first, second in zip(whole, refiner.refine(columns, fps=2 * FPS), strict=True):
        np.testing.assert_allclose(first, second, atol=close)


def test_missing_frames_do_not_count(random_bundle: Path, camera: Camera) -> None:
    refiner = SequenceRefiner(random_bundle)
    columns = random_estimates(refiner.bundle, 7, camera)
    columns["confidence"][3] = 0.0
    changed = {**columns, "coordinates": columns["coordinates"].copy()}
    changed["coordinates"][3] *= 0.5
    first, second = (refiner.refine(c, fps=FPS) for c in (columns, changed))
    np.testing.assert_allclose(first.coordinates, second.coordinates, atol=1e-6)


def test_without_a_sequence_network_estimates_stay(frame_bundle: Path, camera: Camera) -> None:
    refiner = SequenceRefiner(frame_bundle)
    columns = random_estimates(refiner.bundle, 3, camera)
    for before, after in zip(as_estimate(columns), refiner.refine(columns, fps=30), strict=True):
        np.testing.assert_array_equal(before, after)
    foreign = as_estimate(columns)._replace(coordinates=np.zeros((3, 2)))
    with pytest.raises(InvalidInputError, match="2 coordinates are not those"):
        Placement(refiner.bundle, foreign.factors, camera).results(columns, foreign)


def test_results_are_one_consistent_body(random_bundle: Path, camera: Camera) -> None:
    bundle = load_bundle(random_bundle)
    columns = random_estimates(bundle, 6, camera)
    results = place(bundle, columns, camera)
    RESULTS.to_arrow(results, bundle_dims(bundle))
    assert np.ptp(results["body_scales"], axis=0).max() == 0
    # Markers and joint centres are those of the coordinates and scales beside them.
    pose = bundle.head.layer(
        torch.from_numpy(results["coordinates"]), torch.from_numpy(results["body_scales"])
    )
    np.testing.assert_allclose(pose.markers.numpy(), results["markers"], atol=1e-9)
    np.testing.assert_allclose(
        pose.body_rotations[:, 0].numpy(), results["root_rotation"], atol=1e-9
    )
    # Relative to the pelvis it is the pose that the head gives in the crop camera.
    factors = np.repeat(np.median(columns["measurement_factors"], axis=0)[None], 6, axis=0)
    median = EstimateArrays(columns["coordinates"], columns["root_rotation"], factors)
    relative = bundle.head.pose(Estimate(*(torch.from_numpy(value) for value in median)))
    pelvis = pose.body_positions[:, :1].numpy()
    turned = (results["markers"] - pelvis) @ np.swapaxes(columns["crop_rotation"], 1, 2)
    np.testing.assert_allclose(turned, relative.markers.numpy(), atol=1e-6)


@pytest.mark.parametrize("known", [True, False])
def test_person_is_placed_in_the_box(random_bundle: Path, camera: Camera, known: bool) -> None:
    bundle = load_bundle(random_bundle)
    columns = random_estimates(bundle, 5, camera)
    columns["measurement_factors"][:] = columns["measurement_factors"][0]
    results = place(bundle, columns, camera if known else None)
    for row in range(5):
        box = columns["box"][row]
        placed = box_of_points(project(camera, results["markers"][row]))
        assert np.abs((placed[:2] + placed[2:]) / 2 - (box[:2] + box[2:]) / 2).max() < 15
        assert np.abs(placed - box).max() < 0.15 * (box[2:] - box[:2]).max()


def test_root_angles_do_not_jump(random_bundle: Path, camera: Camera) -> None:
    bundle = load_bundle(random_bundle)
    count = 24
    columns = random_estimates(bundle, count, camera)
    angle = np.linspace(0, 4 * np.pi, count)
    turn = np.zeros((count, 3, 3))
    turn[:, 0, 0] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 0, 2], turn[:, 2, 0], turn[:, 1, 1] = np.sin(angle), -np.sin(angle), 1
    columns["root_rotation"] = columns["crop_rotation"] @ turn
    results = place(bundle, columns, camera)
    root = bundle.skeleton.index_of("coordinate", bundle.skeleton.root_coordinates)[:3]
    assert np.abs(np.diff(results["coordinates"][:, root], axis=0)).max() < np.deg2rad(40)
