"""Both networks on a small drawn data set: they learn, and their parts fit together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_data import FACING, make_data_set

from d3ke.augmentation import AugmentationConfig, augment
from d3ke.draws import Draws
from d3ke.losses import LossWeights
from d3ke.networks import load_bundle
from d3ke_platform.schema import ESTIMATES, LABELS
from d3ke_platform.storage import read_table
from d3ke_platform.training.build_bundle import build_bundle
from d3ke_platform.training.checkpoint import load_weights
from d3ke_platform.training.estimates import EstimateForTraining, turned_back
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.sequence_stage import SequenceJob
from d3ke_platform.training.settings import (
    FrameTraining,
    JointTraining,
    SequenceTraining,
    TrainSettings,
)
from d3ke_platform.training.train import best_errors, train
from d3ke_platform.training.trainer import Resources, fit
from d3ke_platform.training.worker import LocalWorker

CPU = torch.device("cpu")


def seeded(seed):
    return Draws(torch.Generator().manual_seed(seed))


FRAME = FrameTraining(
    backbone="resnet18_half",
    image_size=32,
    epochs=(4,),
    learning_rate_start=(2e-3,),
    learning_rate_end=(1e-4,),
    schedule_by="step",
    batch_size=16,
    augmentation=AugmentationConfig(
        shift=0.02, zoom=(0.98, 1.02), roll_degrees=5.0, hue_degrees=0.0
    ),
)
SEQUENCE = SequenceTraining(
    kind="transformer",
    window=9,
    stride=2,
    width=32,
    layers=1,
    heads=2,
    feed_forward=32,
    strides=(3,),
    epochs=(3,),
    learning_rate_start=(1e-3,),
    learning_rate_end=(1e-4,),
    batch_size=8,
    estimate_passes=2,
    loss=LossWeights(velocity=0.5),
)
JOINT = JointTraining(
    enabled=True,
    epochs=(2,),
    learning_rate_start=(3e-4,),
    learning_rate_end=(3e-5,),
    batch_size=4,
    window=5,
)


def estimate_item(data, recording, path, seed=None):
    """What `EstimateForTraining` is told of a recording."""
    return {
        "recording_id": recording,
        "crops_uri": data.crop_uri(recording),
        "estimates_uri": str(path),
        "seed": seed,
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data_set(tmp_path_factory.mktemp("data"), subjects={"train": 4, "validation": 2})


@pytest.fixture(scope="module")
def frame(data, tmp_path_factory):
    """A trained per-frame network and the folder of its run."""
    folder = tmp_path_factory.mktemp("frame")
    trained = fit(
        FrameJob(data=data.root, settings=FRAME, seed=1),
        folder,
        run_name="frame",
        resources=Resources(workers=0),
        progress=folder / "progress.jsonl",
    )
    return folder, trained


@pytest.fixture(scope="module")
def bundle(data, frame):
    folder, trained = frame
    build_bundle(
        folder / "bundle",
        data=data,
        data_hash=data.content_hash(),
        settings=TrainSettings(data=data.root, output=str(folder), frame=FRAME),
        fps=10.0,
        frame=trained.weights,
        sequence=None,
        metrics=best_errors(trained.progress),
    )
    return folder / "bundle"


def test_the_frame_network_learns(frame):
    rows = read_rows(frame[0] / "progress.jsonl")
    losses = [row["loss_total"] for row in rows]
    assert losses[-1] < 0.8 * losses[0]
    last = rows[-1]
    for name in ("mae_all_deg", "mae_main_deg", "mae_legs_deg", "mpblpe_mm", "root_deg"):
        assert np.isfinite(last[f"val_{name}"])


def test_half_of_the_digits_train_alike(data, frame, tmp_path):
    """bfloat16 in the network, float32 in weights, losses and the skeleton."""
    trained = fit(
        FrameJob(data=data.root, settings=replace(FRAME, precision="bfloat16"), seed=1),
        tmp_path,
        run_name="frame",
        resources=Resources(workers=0),
        progress=tmp_path / "progress.jsonl",
    )
    assert all(w.dtype != torch.bfloat16 for w in trained.weights.values())
    half, whole = (read_rows(folder / "progress.jsonl") for folder in (tmp_path, frame[0]))
    assert half[0]["loss_total"] != whole[0]["loss_total"]
    for row, other in zip(half, whole, strict=True):
        assert row["loss_total"] == pytest.approx(other["loss_total"], rel=0.1)
        assert row["val_mae_all_deg"] == pytest.approx(other["val_mae_all_deg"], rel=0.1)


def test_the_frame_network_starts_at_the_mean_label(data, tmp_path):
    task = FrameJob(data=data.root, settings=FRAME, seed=1).task(LocalWorker(tmp_path, CPU))
    batch = next(iter(task.batches(0)))
    with torch.no_grad():
        images = batch.images[:, :, 4:36, 4:36]
        estimate = task.module.eval()(images)
    column = data.predicted().coordinates.index("knee_angle_r")
    labels = [
        LABELS.to_numpy(read_table(data.label_uri(trial["trial_id"])))
        for trial in data.trials()
        if trial["split"] == "train"
    ]
    knee = data.skeleton().index_of("coordinate", "knee_angle_r")
    mean = np.mean([label["coordinates"][:, knee].mean() for label in labels])
    assert estimate.coordinates[:, column].mean() == pytest.approx(mean, abs=0.15)
    np.testing.assert_allclose(estimate.root_rotation.mean(0), FACING, atol=0.1)


def test_bundle_estimates_crops_and_their_random_versions(data, bundle, tmp_path):
    stage = EstimateForTraining(
        str(bundle),
        {"shift": 0.0, "zoom": (1.0, 1.0), "roll_degrees": 30.0, "erase_probability": 0.0},
    )
    recording = "train_0_m0_frontal"
    files = {}
    for name, seed in (("plain", None), ("first", 1), ("again", 1), ("second", 2)):
        files[name] = tmp_path / f"{name}.parquet"
        item = estimate_item(data, recording, files[name], seed)
        assert stage(item)[0]["frames"] == 12
    tables = {name: ESTIMATES.to_numpy(read_table(file)) for name, file in files.items()}
    np.testing.assert_array_equal(tables["first"]["coordinates"], tables["again"]["coordinates"])
    assert not np.allclose(tables["first"]["coordinates"], tables["second"]["coordinates"])
    assert tables["plain"]["frame"].tolist() == list(range(12))


def test_turning_back_undoes_the_turn_of_the_camera():
    crops = torch.zeros(5, 3, 40, 40, dtype=torch.uint8)
    intrinsics = torch.tensor([[40.0, 0, 19.5], [0, 40, 19.5], [0, 0, 1]]).expand(5, 3, 3)
    rotation = torch.from_numpy(FACING).float().expand(5, 3, 3)
    both = [
        augment(crops, intrinsics, r, 32, seeded(3), AugmentationConfig())[1]
        for r in (torch.eye(3).expand(5, 3, 3), rotation)
    ]
    turn, turned = both
    assert (turned - rotation).abs().max() > 0.05
    torch.testing.assert_close(turned_back(turn, turned), rotation, atol=1e-5, rtol=0)


def test_the_sequence_network_is_never_worse_than_its_input(data, bundle, tmp_path):
    stage = EstimateForTraining(str(bundle), {})
    for recording in data.recordings():
        name = recording["recording_id"]
        stage(estimate_item(data, name, tmp_path / f"{name}.parquet"))
    job = SequenceJob(
        data=data.root,
        settings=SEQUENCE,
        seed=1,
        training_passes=(str(tmp_path),),
        validation_estimates=str(tmp_path),
    )
    trained = fit(
        job,
        tmp_path,
        run_name="sequence",
        resources=Resources(workers=0),
        progress=tmp_path / "progress.jsonl",
    )
    rows = read_rows(tmp_path / "progress.jsonl")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert rows[3]["loss_total"] < rows[1]["loss_total"]
    best = best_errors(trained.progress)
    assert best["mae_all_deg"] == min(row["val_mae_all_deg"] for row in rows)
    assert best["mae_all_deg"] <= rows[0]["val_mae_all_deg"]
    assert rows[0]["val_mv_main_label_deg_s"] > 10


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_cross_fitted_estimates_are_of_strangers(data, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "run"
    settings = TrainSettings(
        data=data.root,
        output=str(run),
        frame=replace(FRAME, epochs=(1,), cross_fit_folds=2),
        sequence=replace(SEQUENCE, epochs=(1,)),
        in_process=True,
    )
    train(settings)
    (folder,) = run.rglob("cross_fit")
    recordings = [row for row in data.recordings() if row["split"] == "train"]
    made = {path.stem: ESTIMATES.to_numpy(read_table(path)) for path in folder.glob("*.parquet")}
    assert made.keys() == {row["recording_id"] for row in recordings}
    subjects = sorted({row["subject"] for row in recordings})
    networks = [EstimateForTraining(str(run / f"frame_fold_{n}" / "bundle"), {}) for n in (0, 1)]
    for row in recordings:
        name, own = row["recording_id"], subjects.index(row["subject"]) % 2
        for fold, network in enumerate(networks):
            path = tmp_path / f"{name}-{fold}.parquet"
            network(estimate_item(data, name, path))
            again = ESTIMATES.to_numpy(read_table(path))["coordinates"]
            same = np.allclose(again, made[name]["coordinates"], atol=1e-5)
            assert same == (fold == own), (name, fold)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_whole_run_and_its_repetition(data, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = TrainSettings(
        data=data.root,
        output=str(tmp_path / "run"),
        frame=FRAME,
        sequence=SEQUENCE,
        joint=JOINT,
    )
    first = train(settings)
    model = load_bundle(first.bundle)
    assert model.config["crop"] == data.crop
    assert model.config["fps"] == 10.0
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["sequence"]["mae_all_deg"] <= metrics["frame"]["mae_all_deg"] + 1e-4
    assert first.training_frames == 160
    # What is fine-tuned together starts from both, and is the model if it became better.
    rows = [row for row in read_rows(run / "progress.jsonl") if row["stage"] == "joint"]
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert metrics["joint"]["mae_all_deg"] == min(row["val_mae_all_deg"] for row in rows)
    weights = load_weights(run / ("joint" if metrics["joint"]["epoch"] else "frame"))
    name = "backbone.conv1.weight"
    trained = weights.get(f"frame.{name}", weights.get(name))
    assert torch.equal(model.frame.state_dict()[name], trained)
    progress = (run / "progress.jsonl").read_text()
    second = train(settings)
    assert (run / "progress.jsonl").read_text() == progress
    assert (second.frame, second.mlflow_run_id) == (first.frame, first.mlflow_run_id)
    assert second.seconds < first.seconds / 3
