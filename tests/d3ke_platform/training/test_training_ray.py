"""The same training under Ray Train with two CPU workers."""

from __future__ import annotations

import numpy as np
import pytest
import ray.cloudpickle
import toy_task
from toy_task import ToyJob, toy_settings

from d3ke_platform.training.loop import NonFiniteLossError
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.trainer import Resources, fit

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

TWO = Resources(workers=2, cpus=0.5, workers_on_node=2)

# Workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(toy_task)


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
    """Equal batches and averaged gradients: without drop-out the weights must agree."""
    settings = toy_settings(epochs=(3,))
    one = train(tmp_path / "one", ToyJob(settings=settings, dropout=0.0), Resources(workers=0))
    died = tmp_path / "died"
    job = ToyJob(settings=settings, dropout=0.0, die_once=str(died))
    two = train(tmp_path / "two", job, TWO)
    assert died.exists()
    assert [row["epoch"] for row in read_rows(tmp_path / "two" / "progress.jsonl")] == [1, 2, 3]
    for name, value in one.weights.items():
        np.testing.assert_allclose(two.weights[name], value, atol=1e-5)
    for first, second in zip(one.progress.history, two.progress.history, strict=True):
        assert second["loss_total"] == pytest.approx(first["loss_total"], abs=1e-5)
        assert second["val_mae_all_deg"] == pytest.approx(first["val_mae_all_deg"], abs=1e-5)


def test_a_non_finite_loss_on_one_worker_stops_all_without_retry(tmp_path):
    job = ToyJob(settings=toy_settings(epochs=(3,)), poison=(1, 2))
    with pytest.raises(NonFiniteLossError, match="epoch 2, step 2"):
        train(tmp_path, job, TWO)
    assert [row["epoch"] for row in read_rows(tmp_path / "progress.jsonl")] == [1]
