"""Training that starts from another model's bundle: a part of its coordinates, another skeleton."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_data import make_data_set

from d3ke.augmentation import AugmentationConfig
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.networks import FrameNetwork, FrameNetworkConfig, load_bundle
from d3ke.networks.bundle import BundleError
from d3ke.networks.prediction import PredictionHead
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton
from d3ke_platform.storage import DataSet
from d3ke_platform.training.build_bundle import build_bundle
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.settings import FrameTraining, TrainSettings
from d3ke_platform.training.trainer import Resources, fit
from d3ke_platform.training.transfer import channel_names, freeze, start_from_bundle

SHOULDER = ("elv_angle", "shoulder_elv", "shoulder_rot", "elv_angle_l", "shoulder_elv_l")
FRAME = FrameTraining(
    backbone="resnet18_half",
    image_size=32,
    epochs=(3,),
    learning_rate_start=(2e-3,),
    learning_rate_end=(1e-4,),
    batch_size=8,
    augmentation=AugmentationConfig(erase_probability=0.0),
)
CONFIG = FrameNetworkConfig(backbone="resnet18_half", image_size=32)


def head(predicted: PredictedSet, skeleton: Skeleton | None = None) -> PredictionHead:
    return PredictionHead(skeleton or Skeleton.full_body(), MeasurementSet.full_body(), predicted)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataSet:
    return make_data_set(tmp_path_factory.mktemp("data"), subjects={"train": 2, "validation": 1})


@pytest.fixture(scope="module")
def bundle(data, tmp_path_factory):
    """A full-body model; its numbers are drawn, so that each is told from the others."""
    folder = tmp_path_factory.mktemp("bundle") / "model"
    torch.manual_seed(5)
    network = FrameNetwork(CONFIG, head(PredictedSet.full_body()))
    torch.nn.init.normal_(network.convolution.bias)
    build_bundle(
        folder,
        data=data,
        data_hash="",
        settings=TrainSettings(data=data.root, output=str(folder), frame=FRAME),
        fps=10.0,
        frame=network.state_dict(),
        sequence=None,
        metrics={},
    )
    return folder


def test_a_part_of_the_coordinates_is_selected_by_name_or_group() -> None:
    every = PredictedSet.full_body()
    arms = every.select(["arms"])
    assert set(arms.coordinates) == set(every.groups["arms"])
    assert "legs" not in arms.groups
    some = every.select(["shoulder_elv", "knee_angle_r"])
    assert some.coordinates == ("knee_angle_r", "shoulder_elv")
    at = every.coordinates.index("shoulder_elv")
    assert some.angle_loss_weights[1] == every.angle_loss_weights[at]
    with pytest.raises(UnknownNameError, match="'tail'.*arms"):
        every.select(["tail"])


def test_shared_numbers_mean_the_same_afterwards(bundle) -> None:
    network = FrameNetwork(CONFIG, head(PredictedSet.full_body().select(SHOULDER))).eval()
    taken = start_from_bundle(network, bundle)
    assert set(taken.coordinates) == set(SHOULDER)
    assert taken.factors == MeasurementSet.full_body().names
    source = load_bundle(bundle).frame
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = network(images), source(images)
    columns = [
        source.head.predicted.coordinates.index(n) for n in network.head.predicted.coordinates
    ]
    torch.testing.assert_close(ours.coordinates, theirs.coordinates[:, columns])
    torch.testing.assert_close(ours.root_rotation, theirs.root_rotation)
    torch.testing.assert_close(ours.factors, theirs.factors)


def test_another_skeleton_with_another_range_gives_the_same_angle(bundle) -> None:
    skeleton = Skeleton.full_body()
    at = skeleton.index_of("coordinate", "shoulder_elv")
    ranges = skeleton.coordinate_ranges.copy()
    ranges[at] = ranges[at].mean() + 1.3 * (ranges[at] - ranges[at].mean()) + 0.1
    other = replace(skeleton, coordinate_ranges=ranges, name="other")
    network = FrameNetwork(CONFIG, head(PredictedSet.full_body(), other)).eval()
    start_from_bundle(network, bundle)
    column = network.head.predicted.coordinates.index("shoulder_elv")
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        found = network(images).coordinates[:, column]
        expected = load_bundle(bundle).frame(images).coordinates[:, column]
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert not torch.equal(found, expected)


def test_a_shoulder_model_trains_from_a_full_body_bundle(data, bundle, tmp_path) -> None:
    settings = replace(FRAME, bundle=str(bundle), freeze=("backbone",))
    job = FrameJob(data=data.root, settings=settings, seed=1, coordinates=SHOULDER)
    trained = fit(
        job,
        tmp_path,
        run_name="shoulder",
        resources=Resources(workers=0),
        progress=tmp_path / "progress.jsonl",
    )
    rows = read_rows(tmp_path / "progress.jsonl")
    assert rows[-1]["loss_total"] < rows[0]["loss_total"]
    assert np.isfinite(rows[-1]["val_mae_all_deg"])
    assert np.isnan(rows[-1]["val_mae_legs_deg"])
    source = load_bundle(bundle).frame.state_dict()
    for name, value in trained.weights.items():
        same = name in source and torch.equal(value, source[name])
        assert same == name.startswith("backbone"), name
    assert trained.weights["convolution.bias"].shape[0] == 6 + 41 + len(SHOULDER)


def test_a_metric_without_values_cannot_choose(data, tmp_path) -> None:
    settings = replace(FRAME, selection_metric="mae_legs_deg", epochs=(1,))
    job = FrameJob(data=data.root, settings=settings, seed=1, coordinates=SHOULDER)
    with pytest.raises(InvalidInputError, match=r"mae_legs_deg.*mae_all_deg"):
        fit(
            job,
            tmp_path,
            run_name="legs",
            resources=Resources(workers=0),
            progress=tmp_path / "progress.jsonl",
        )


def test_what_does_not_fit_is_refused(bundle, tmp_path) -> None:
    other = FrameNetwork(
        FrameNetworkConfig(backbone="resnet18", image_size=32), head(PredictedSet.full_body())
    )
    with pytest.raises(InvalidInputError, match="--frame.backbone resnet18_half"):
        start_from_bundle(other, bundle)
    with pytest.raises(BundleError, match="does not exist"):
        start_from_bundle(other, tmp_path / "none")
    stranger = head(PredictedSet.full_body().select(SHOULDER))
    network = FrameNetwork(CONFIG, stranger)
    renamed = replace(stranger.predicted, coordinates=tuple(f"{n}_x" for n in SHOULDER), groups={})
    stranger.predicted = renamed
    with pytest.raises(InvalidInputError, match="none of the coordinates"):
        start_from_bundle(network, bundle)
    with pytest.raises(UnknownNameError, match=r"'neck'.*backbone"):
        freeze(other, ["neck"])
    with pytest.raises(InvalidInputError, match="nothing to train"):
        freeze(other, ["backbone", "convolution"])
    with pytest.raises(InvalidInputError, match="Give one of them"):
        replace(FRAME, bundle="x", weights="imagenet")


def test_channels_are_named() -> None:
    own = head(PredictedSet.full_body().select(SHOULDER))
    names = channel_names(own)
    assert len(names) == own.size == len(set(names))
