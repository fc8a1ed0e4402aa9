"""Both networks fine-tuned together: windows, gradients through both, weights for a bundle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_data import make_data_set

from d3ke.augmentation import AugmentationConfig
from d3ke.draws import Draws
from d3ke.networks.frame_network import FrameNetwork
from d3ke.networks.prediction import PredictionHead
from d3ke.networks.sequence_network import SequenceNetwork
from d3ke_platform.training import checkpoint as saved
from d3ke_platform.training.joint_stage import (
    JointJob,
    cut_windows,
    load_networks,
    runs,
    split_weights,
)
from d3ke_platform.training.memory_need import first_samples, sample_count
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.samples import load_samples
from d3ke_platform.training.settings import FrameTraining, JointTraining, SequenceTraining
from d3ke_platform.training.trainer import Resources, fit
from d3ke_platform.training.worker import LocalWorker

CPU = torch.device("cpu")
SETTINGS = JointTraining(
    enabled=True,
    epochs=(2,),
    learning_rate_start=(1e-3,),
    learning_rate_end=(1e-3,),
    batch_size=3,
    window=5,
    frames_at_once=4,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data_set(tmp_path_factory.mktemp("data"), trials=1)


@pytest.fixture(scope="module")
def job(data, tmp_path_factory):
    """Networks that have not learnt anything yet."""
    frame = FrameTraining(
        backbone="resnet18_half",
        image_size=32,
        augmentation=AugmentationConfig(erase_probability=0.0),
    )
    sequence = SequenceTraining(
        window=9, width=32, layers=1, heads=2, feed_forward=32, strides=(3,)
    )
    head = PredictionHead(data.skeleton(), data.measurements(), data.predicted())
    folders = []
    torch.manual_seed(1)
    for network in (
        FrameNetwork(frame.network(), head),
        SequenceNetwork(sequence.network(), head),
    ):
        folders.append(tmp_path_factory.mktemp("weights"))
        saved.write_weights(network.state_dict(), folders[-1] / saved.BEST)
    return JointJob(
        data=data.root,
        settings=SETTINGS,
        frame=frame,
        sequence=sequence,
        frame_weights=str(folders[0]),
        sequence_weights=str(folders[1]),
        seed=1,
    )


def test_windows_are_neighbouring_frames(data):
    samples = load_samples(data, "train")
    stretches = runs(samples)
    # The second camera lacks every third frame.
    assert sorted({len(rows) for rows in stretches}) == [2, 12]
    windows, valid = cut_windows(samples, 5, 5)
    assert windows.shape[1] == 5
    assert set(windows[valid]) == set(range(len(samples)))
    for rows, inside in zip(windows, valid, strict=True):
        assert len(set(samples.recording[rows])) == 1
        assert (np.diff(samples.frame[rows[inside]]) == 1).all()
        assert (rows[~inside] == rows[inside][-1]).all()


def test_frames_of_a_window_are_changed_alike():
    draws = Draws(torch.Generator().manual_seed(1), total=4, places=torch.tensor([1, 3]), repeat=3)
    numbers = draws.uniform(6, CPU).view(2, 3)
    assert numbers[:, :1].expand(2, 3).equal(numbers)
    assert numbers[0, 0] != numbers[1, 0]


def test_the_gradient_reaches_both_and_does_not_depend_on_the_parts(job, tmp_path):
    found = []
    for at_once in (2, 1000):
        settings = replace(SETTINGS, frames_at_once=at_once)
        task = replace(job, settings=settings).task(LocalWorker(tmp_path, CPU))
        batch = next(iter(task.batches(0)))
        assert sample_count(batch) == 3
        task.module.train()
        # The untrained sequence network is the identity and passes nothing on.
        torch.nn.init.normal_(task.module.sequence.output.weight, std=0.01, generator=seeded())
        losses = task.losses(task.module, batch)
        losses["total"].backward()
        gradients = {n: p.grad for n, p in task.module.named_parameters() if p.grad is not None}
        found.append((losses["total"].detach(), gradients))
        assert torch.isfinite(task.losses(task.module, first_samples(batch, 2))["total"])
    (loss, parts), (whole_loss, whole) = found
    torch.testing.assert_close(loss, whole_loss)
    assert any(name.startswith("frame.backbone") for name in whole)
    assert any(name.startswith("sequence.temporal") for name in whole)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-5, rtol=1e-3)


class SecondOfTwo(LocalWorker):
    """A worker that is left without validation recordings."""

    rank, world_size = 1, 2

    def reduce(self, table):
        return table


def test_a_worker_without_validation_recordings_validates_nothing(data, job, tmp_path):
    task = job.task(SecondOfTwo(tmp_path, CPU))
    task._share = task._share.subset(np.zeros(0, dtype=np.int64))
    sums = task.validate(task.module.eval())
    assert not sums.table.any()


def test_what_is_frozen_stays(data, job, tmp_path):
    frozen = replace(job, frame=replace(job.frame, freeze=("backbone",)))
    task = frozen.task(LocalWorker(tmp_path, CPU))
    moving = {n for n, p in task.module.named_parameters() if p.requires_grad}
    assert moving
    assert not any(name.startswith("frame.backbone") for name in moving)
    task.losses(task.module.train(), next(iter(task.batches(0))))["total"].backward()


def seeded():
    return torch.Generator().manual_seed(2)


def test_fine_tuning_starts_from_the_weights_and_learns(data, job, tmp_path):
    trained = fit(
        job,
        tmp_path,
        run_name="joint",
        resources=Resources(workers=0),
        progress=tmp_path / "progress.jsonl",
    )
    rows = read_rows(tmp_path / "progress.jsonl")
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert rows[2]["loss_total"] < rows[1]["loss_total"]
    assert min(row["val_mae_all_deg"] for row in rows) < rows[0]["val_mae_all_deg"]
    frame, sequence = split_weights(trained.weights)
    networks = load_networks(data, job)
    before = {name: value.clone() for name, value in networks.frame.state_dict().items()}
    networks.frame.load_state_dict(frame)
    networks.sequence.load_state_dict(sequence)
    for name, value in before.items():
        statistic = "running_" in name or "num_batches" in name
        if statistic:
            assert torch.equal(value, frame[name])
    assert not torch.equal(before["backbone.conv1.weight"], frame["backbone.conv1.weight"])
    assert (tmp_path / "pictures" / "joint_epoch_002_angles.jpg").exists()
