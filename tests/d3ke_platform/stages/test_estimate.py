"""Per-frame estimates: batching, the part of a crop that is seen, tables that are there already."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from random_bundle import CROP, as_estimate, random_estimates

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError
from d3ke.networks import FrameNetwork, FrameNetworkConfig, PredictionHead, load_bundle
from d3ke.networks.backbones import BACKBONES
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton
from d3ke_platform import storage
from d3ke_platform.schema import CROPS, ESTIMATES
from d3ke_platform.stages.estimate import (
    CropGeometry,
    EstimateCrops,
    FrameEstimator,
    choose_device,
    inference_network,
)

STORED = int(CROP["stored_size"])


def noise(count: int, size: int = STORED) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (count, 8, 8, 3), np.uint8)
    return np.stack([cv2.resize(image, (size, size)) for image in small])


def test_batches_do_not_change_estimates(random_bundle: Path) -> None:
    images = noise(5)
    whole = FrameEstimator(random_bundle, device="cpu").estimate(images)
    parts = FrameEstimator(random_bundle, device="cpu", batch_size=2).estimate(images)
    assert whole.coordinates.shape == (5, 69)
    assert np.ptp(whole.coordinates, axis=0).max() > 1e-5
    for first, second in zip(whole, parts, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_the_network_sees_the_middle_of_a_stored_crop(random_bundle: Path) -> None:
    estimator = FrameEstimator(random_bundle, device="cpu")
    images = noise(2)
    exact = estimator.estimate(np.ascontiguousarray(images[:, 16:144, 16:144]))
    for first, second in zip(estimator.estimate(images), exact, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_wrong_images_are_refused(random_bundle: Path) -> None:
    estimator = FrameEstimator(random_bundle, device="cpu")
    with pytest.raises(InvalidInputError, match="uint8"):
        estimator.estimate(np.zeros((1, 160, 160, 3)))
    with pytest.raises(InvalidInputError, match="100 px wide"):
        estimator.estimate(noise(1, 100))
    assert estimator.estimate(noise(1)[:0]).factors.shape[0] == 0
    with pytest.raises(InvalidInputError, match="device"):
        choose_device("warp")


def test_the_network_for_inference_is_the_trained_one(random_bundle: Path) -> None:
    trained = load_bundle(random_bundle).frame.eval()
    # Statistics of a network that has seen pictures: folding them is no identity.
    for module in trained.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    images = torch.from_numpy(noise(3, 128)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = [value.clone() for value in trained(images)]
        for one, other in zip(expected, inference_network(trained)(images), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_can_be_folded(name: str) -> None:
    head = PredictionHead(
        Skeleton.full_body(), MeasurementSet.full_body(), PredictedSet.full_body()
    )
    network = FrameNetwork(FrameNetworkConfig(backbone=name, image_size=64), head).eval()
    images = torch.from_numpy(noise(2, 64)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = [value.clone() for value in network(images)]
        for one, other in zip(expected, inference_network(network)(images), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_half_precision_is_near(random_bundle: Path) -> None:
    images = noise(4)
    whole = FrameEstimator(random_bundle, device="cpu").estimate(images)
    half = FrameEstimator(random_bundle, device="cpu", precision="bf16").estimate(images)
    assert 0 < np.abs(whole.coordinates - half.coordinates).max() < 0.05


def test_bundle_that_does_not_say_how_to_crop(random_bundle: Path) -> None:
    bundle = FrameEstimator(random_bundle, device="cpu").bundle
    del bundle.config["crop"]["margin"]
    with pytest.raises(InvalidInputError, match=r"crop\.margin"):
        CropGeometry.of_bundle(bundle)


def test_crops_table_becomes_estimates_table_once(random_bundle: Path, tmp_path: Path) -> None:
    stage = EstimateCrops(str(random_bundle), device="cpu")
    camera = Camera.assumed((640, 480))
    columns = random_estimates(stage._estimator.bundle, 3, camera)
    jpegs = [cv2.imencode(".jpg", image)[1].tobytes() for image in noise(3)]
    names = ("crop_intrinsics", "crop_rotation", "crop_translation", "box", "frame", "time_s")
    crops = {name: columns[name] for name in names} | {
        "recording_id": ["r"] * 3,
        "trial_id": ["t"] * 3,
        "subject": ["s"] * 3,
        "split": ["test"] * 3,
        "trial_frame": np.arange(3),
        "jpeg": jpegs,
    }
    item = {
        "recording_id": "r",
        "crops_uri": str(tmp_path / "crops.parquet"),
        "estimates_uri": str(tmp_path / "estimates.parquet"),
    }
    storage.write_table(item["crops_uri"], CROPS.to_arrow(crops))
    (row,) = stage(item)
    assert row["frames"] == 3
    table = ESTIMATES.to_numpy(storage.read_table(item["estimates_uri"]))
    np.testing.assert_array_equal(table["frame"], [0, 1, 2])
    np.testing.assert_allclose(table["box"], columns["box"])
    rotation = table["root_rotation"]
    unit = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, 1, 2), unit, atol=1e-5)
    assert not np.allclose(table["coordinates"], as_estimate(columns).coordinates)
    before = (tmp_path / "estimates.parquet").stat().st_mtime_ns
    assert stage(item)[0]["seconds"] == 0.0
    assert (tmp_path / "estimates.parquet").stat().st_mtime_ns == before
