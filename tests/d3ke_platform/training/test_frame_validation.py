"""Validation of the per-frame network: speeds of neighbouring frames, shared by workers."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_data import make_data_set

from d3ke_platform.schema import CROPS, LABELS
from d3ke_platform.storage import read_table
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.settings import FrameTraining

SETTINGS = FrameTraining(
    backbone="resnet18_half",
    image_size=32,
    epochs=(1,),
    learning_rate_start=(1e-3,),
    learning_rate_end=(1e-3,),
    batch_size=14,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    subjects = {"train": 1, "validation": 2}
    return make_data_set(tmp_path_factory.mktemp("data"), subjects=subjects, frames=8, trials=1)


def sums(data, rank, world_size):
    worker = SimpleNamespace(
        rank=rank, world_size=world_size, device=torch.device("cpu"), has_cluster=False
    )
    task = FrameJob(data=data.root, settings=SETTINGS, seed=1).task(worker)
    # Channels that differ from picture to picture, so that the estimates move.
    torch.manual_seed(2)
    torch.nn.init.normal_(task.module.convolution.weight, std=0.05)
    task.module.eval()
    with torch.no_grad():
        return task.validate(task.module)


def label_speed(data):
    """Mean speed of the main coordinates' labels over frames that follow each other [deg/s]."""
    main = data.skeleton().index_of("coordinate", list(data.predicted().groups["main"]))
    speeds = []
    for recording in data.recordings():
        if recording["split"] != "validation":
            continue
        frames = CROPS.to_numpy(read_table(data.crop_uri(recording["recording_id"])))
        labels = LABELS.to_numpy(read_table(data.label_uri(recording["trial_id"])))["coordinates"]
        known = frames["trial_frame"]
        for first, second in pairwise(known):
            if first >= 0 and second >= 0:
                speeds.append(np.abs(labels[second, main] - labels[first, main]))
    return np.degrees(np.mean(speeds)) * 10.0


def test_speeds_are_those_of_frames_that_follow_each_other(data):
    errors = sums(data, 0, 1).means()
    assert errors["mv_main_label_deg_s"] == pytest.approx(label_speed(data), rel=1e-4)
    assert errors["mv_main_deg_s"] > 0.01


def test_workers_together_measure_what_one_does(data):
    alone = sums(data, 0, 1)
    shared = sums(data, 0, 2).table + sums(data, 1, 2).table
    np.testing.assert_allclose(shared, alone.table, rtol=1e-4)


def test_a_worker_without_recordings_adds_nothing(data):
    assert not sums(data, 6, 7).table.any()
