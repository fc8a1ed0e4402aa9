"""The same training under Ray Train with two CPU workers."""

from __future__ import annotations

import numpy as np
import pytest
import ray.cloudpickle
import steps_job
import toy_task
from fake_data import make_data_set
from steps_job import StepsJob, steps_of
from toy_task import ToyJob, toy_settings

from d3ke.augmentation import AugmentationConfig
from d3ke_platform.training.loop import NonFiniteLossError
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.settings import FrameTraining
from d3ke_platform.training.trainer import Resources, fit

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

TWO = Resources(workers=2, cpus=0.5, workers_on_node=2)
STREAMED = FrameTraining(
    backbone="resnet18_half",
    image_size=32,
    # Two epochs of eleven steps.
    epochs=(2,),
    batch_size=15,
    # AdamW's first steps turn rounding into steps of this size, which grow from there.
    learning_rate_start=(2e-5,),
    learning_rate_end=(2e-5,),
    schedule_by="step",
    loading="stream",
    shuffle_buffer=60,
    # Pictures change in every way there is.
    augmentation=AugmentationConfig(mirror_probability=0.5),
)

# Workers do not have the tests on their path.
for module in (steps_job, toy_task):
    ray.cloudpickle.register_pickle_by_value(module)


def train(folder, job, resources):
    folder.mkdir(exist_ok=True)
    return fit(
        job,
        folder,
        run_name="toy",
        resources=resources,
        progress=folder / "progress.jsonl",
        max_failures=1,
    )


def test_two_workers_train_like_one_even_if_one_dies(tmp_path):
    """Streamed crops, augmentation, batch norm, masks and uneven shares: with two workers the loss
    of every step is that of one, also after a restart from the checkpoint."""
    subjects = {"train": 4, "validation": 1}
    data = make_data_set(tmp_path / "data", subjects=subjects, noise_rad=0.2)
    found = {}
    for name, resources in (("one", Resources(workers=0)), ("two", TWO)):
        folder = tmp_path / name
        folder.mkdir()
        job = StepsJob(
            data=data.root, settings=STREAMED, seed=2, losses=str(folder), dies=name == "two"
        )
        found[name] = train(folder, job, resources).progress.history
    assert (tmp_path / "two" / "died").exists()
    one, two = steps_of(tmp_path / "one"), steps_of(tmp_path / "two")
    assert len(one) == 22
    assert np.ptp(list(one.values())) > 0.01  # no two batches are alike
    assert two == pytest.approx(one, abs=1e-4)
    assert [row["epoch"] for row in read_rows(tmp_path / "two" / "progress.jsonl")] == [1, 2]
    for first, second in zip(found["one"], found["two"], strict=True):
        assert second["val_mae_all_deg"] == pytest.approx(first["val_mae_all_deg"], abs=1e-3)


def test_a_non_finite_loss_on_one_worker_stops_all_without_retry(tmp_path):
    job = ToyJob(settings=toy_settings(epochs=(3,)), poison=(1, 2))
    with pytest.raises(NonFiniteLossError, match="epoch 2, step 2"):
        train(tmp_path, job, TWO)
    assert [row["epoch"] for row in read_rows(tmp_path / "progress.jsonl")] == [1]
