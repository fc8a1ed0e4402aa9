"""Per-frame estimates: batching, the part of a crop that is seen, tables that are there already."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from random_bundle import CROP, as_estimate, random_estimates

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.schema import CROPS, ESTIMATES
from d3ke_platform.stages.estimate import (
    CropGeometry,
    EstimateCrops,
    FrameEstimator,
    choose_device,
)

STORED = int(CROP["stored_size"])


def noise(count: int, size: int = STORED) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (count, 8, 8, 3), np.uint8)
    return np.stack([cv2.resize(image, (size, size)) for image in small])


def test_batches_do_not_change_estimates(random_bundle: Path) -> None:
    images, intrinsics = noise(5), np.stack([np.eye(3)] * 5)
    whole = FrameEstimator(random_bundle, device="cpu").estimate(images, intrinsics)
    parts = FrameEstimator(random_bundle, device="cpu", batch_size=2).estimate(images, intrinsics)
    assert whole.coordinates.shape == (5, 69)
    assert np.ptp(whole.coordinates, axis=0).max() > 1e-5
    for first, second in zip(whole, parts, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_the_network_sees_the_middle_of_a_stored_crop(random_bundle: Path) -> None:
    estimator = FrameEstimator(random_bundle, device="cpu")
    images, intrinsics = noise(2), np.stack([np.eye(3)] * 2)
    exact = estimator.estimate(np.ascontiguousarray(images[:, 16:144, 16:144]), intrinsics)
    for first, second in zip(estimator.estimate(images, intrinsics), exact, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_wrong_images_are_refused(random_bundle: Path) -> None:
    estimator = FrameEstimator(random_bundle, device="cpu")
    with pytest.raises(InvalidInputError, match="uint8"):
        estimator.estimate(np.zeros((1, 160, 160, 3)), np.zeros((1, 3, 3)))
    with pytest.raises(InvalidInputError, match="100 px wide"):
        estimator.estimate(noise(1, 100), np.zeros((1, 3, 3)))
    with pytest.raises(InvalidInputError, match="1 images but 2"):
        estimator.estimate(noise(1), np.zeros((2, 3, 3)))
    assert estimator.estimate(noise(0 + 1)[:0], np.zeros((0, 3, 3))).factors.shape[0] == 0
    with pytest.raises(InvalidInputError, match="device"):
        choose_device("warp")


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
