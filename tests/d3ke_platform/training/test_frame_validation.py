"""Validation of the per-frame network: speeds of neighbouring frames, shared by workers."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_data import make_data_set

from d3ke.losses import Target
from d3ke.metrics import longest_axes, mae_angle, mae_body
from d3ke.networks.prediction import Estimate, PredictionHead
from d3ke.rotations import rotation_6d_to_matrix
from d3ke_platform.schema import CROPS, LABELS
from d3ke_platform.storage import read_table
from d3ke_platform.training.error_sums import ErrorSums
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.settings import FrameTraining
from d3ke_platform.training.validation import METRICS, Validator

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


def test_errors_are_those_of_the_evaluation(data):
    """Masked and unmasked angles and lengths of bodies, as `d3ke.metrics` has them."""
    skeleton, predicted = data.skeleton(), data.predicted()
    head = PredictionHead(skeleton, data.measurements(), predicted)
    torch.manual_seed(0)
    count, size = 5, len(predicted.coordinates)
    turned = rotation_6d_to_matrix(torch.randn(2, count, 6))
    factors = 1 + 0.1 * torch.rand(2, count, len(head.measurements.names))
    angles = torch.rand(2, count, size)
    mask = torch.rand(count, size) > 0.4
    target = Target(
        coordinates=angles[1],
        coordinate_mask=mask,
        factors=factors[1],
        root_rotation=turned[1],
        valid=None,
    )
    found = ErrorSums(METRICS, torch.device("cpu"))
    estimate = Estimate(coordinates=angles[0], root_rotation=turned[0], factors=factors[0])
    Validator(head, skeleton, predicted).add_frames(found, estimate, target)
    errors = found.means()
    first, second = angles.numpy()
    assert errors["mae_all_deg"] == pytest.approx(mae_angle(first, second, mask.numpy()), rel=1e-5)
    assert errors["mae_unmasked_deg"] == pytest.approx(mae_angle(first, second), rel=1e-5)
    scales = head.measurements.body_scales(factors.double(), skeleton).numpy()
    expected = mae_body(scales[0], scales[1], longest_axes(predicted, skeleton.bodies))
    assert errors["mae_body_mm"] == pytest.approx(expected, rel=1e-4)
