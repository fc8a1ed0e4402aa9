"""The loop: it learns, chooses, averages, continues and stops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import ray
import torch
from safetensors.torch import load_file
from toy_task import ToyJob, ToyTask, toy_settings

from d3ke.errors import D3KEError, InvalidInputError
from d3ke.losses import Target
from d3ke_platform.storage import write_json
from d3ke_platform.training import checkpoint as saved
from d3ke_platform.training.checkpoint import load_progress, load_weights
from d3ke_platform.training.failed_batch import named_tensors
from d3ke_platform.training.loader import FrameBatch
from d3ke_platform.training.loop import NonFiniteLossError, TrainingLoop
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.trainer import (
    Resources,
    choose_resources,
    fit,
    require_cpus_for_data,
    train_on_worker,
)
from d3ke_platform.training.worker import LocalWorker

CPU = torch.device("cpu")


def last(folder):
    return saved.finished_checkpoints(folder)[-1]


def run_loop(folder, settings, **task):
    rows = []
    worker = LocalWorker(folder, CPU)
    loop = TrainingLoop(ToyTask(settings, worker, **task), worker, seed=3, on_epoch=rows.append)
    return loop.run(), rows


def test_loss_falls_and_the_best_epoch_is_kept(tmp_path):
    result, rows = run_loop(tmp_path, toy_settings())
    assert rows[-1]["loss_total"] < 0.3 * rows[0]["loss_total"]
    best = min(rows, key=lambda row: row["val_mae_all_deg"])
    assert (result.best_epoch, result.best_value) == (best["epoch"], best["val_mae_all_deg"])
    module = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Linear(6, 1)).eval()
    module.load_state_dict(load_weights(last(tmp_path)))
    worker = LocalWorker(tmp_path, CPU)
    errors = ToyTask(toy_settings(), worker).validate(module)
    assert errors.means()["mae_all_deg"] == pytest.approx(result.best_value, abs=1e-6)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_resumed_training_equals_an_uninterrupted_one(tmp_path, ema_decay):
    settings = toy_settings(
        ema_decay=ema_decay,
        epochs=(3, 2),
        learning_rate_start=(0.1, 0.01),
        learning_rate_end=(0.05, 0.001),
    )
    run_loop(tmp_path / "whole", settings)

    class KilledError(Exception):
        pass

    def kill_after_second(row):
        if row["epoch"] == 3:
            raise KilledError

    worker = LocalWorker(tmp_path / "parts", CPU)
    with pytest.raises(KilledError):
        TrainingLoop(ToyTask(settings, worker), worker, seed=3, on_epoch=kill_after_second).run()
    assert load_progress(last(tmp_path / "parts")).finished_epochs == 2
    result, rows = run_loop(tmp_path / "parts", settings)
    assert [row["epoch"] for row in rows] == [3, 4, 5]
    assert len(result.history) == 5
    for name in (saved.WEIGHTS, saved.BEST):
        whole = load_weights(last(tmp_path / "whole"), name)
        parts = load_weights(last(tmp_path / "parts"), name)
        for key, value in whole.items():
            np.testing.assert_allclose(parts[key], value, atol=1e-6)


def test_deterministic_training_resumes_to_the_last_bit(tmp_path):
    # A constant rate makes two epochs the beginning of four.
    rates = {"learning_rate_start": (0.05,), "learning_rate_end": (0.05,)}
    job = ToyJob(settings=toy_settings(epochs=(4,), ema_decay=0.9, **rates))

    def run(name, epochs=(4,)):
        shorter = replace(job, settings=replace(job.settings, epochs=epochs))
        return fit(
            shorter,
            tmp_path,
            run_name=name,
            resources=Resources(workers=0),
            progress=tmp_path / f"{name}.jsonl",
            deterministic=True,
        )

    whole = run("whole")
    assert torch.are_deterministic_algorithms_enabled()
    run("parts", epochs=(2,))
    parts = run("parts")
    torch.use_deterministic_algorithms(False)
    assert [row["loss_total"] for row in parts.progress.history] == [
        row["loss_total"] for row in whole.progress.history
    ]
    assert all(torch.equal(parts.weights[name], value) for name, value in whole.weights.items())


def test_training_ends_when_nothing_becomes_better(tmp_path):
    """Also where it is continued; without patience it never ends early."""
    settings = toy_settings(
        epochs=(9,), learning_rate_start=(1e-12,), learning_rate_end=(1e-12,), patience=3
    )
    result, rows = run_loop(tmp_path / "patient", settings)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4][: result.best_epoch + 3]
    again, more = run_loop(tmp_path / "patient", settings)
    assert (more, again) == ([], result)
    _, rows = run_loop(tmp_path / "endless", replace(settings, patience=0))
    assert len(rows) == 9


def test_checkpoints_are_in_order_whoever_named_them(tmp_path):
    """A run begun under Ray Train, which names by date, goes on in one process."""
    settings = toy_settings()
    run_loop(tmp_path, replace(settings, epochs=(4,)))
    third, fourth = saved.finished_checkpoints(tmp_path)
    third.rename(tmp_path / "checkpoint_2026-11-27_10-00-00.000001")
    fourth.rename(tmp_path / "checkpoint_2026-11-27_10-00-01.000001")
    _, rows = run_loop(tmp_path, settings)
    assert [row["epoch"] for row in rows] == [5, 6]
    found = saved.finished_checkpoints(tmp_path)
    assert [path.name for path in found] == ["checkpoint_000005", "checkpoint_000006"]


def test_pictures_come_every_few_epochs_and_at_the_end(tmp_path):
    rows = []
    worker = LocalWorker(tmp_path, CPU)
    TrainingLoop(
        ToyTask(toy_settings(epochs=(7,), pictures_every=3), worker),
        worker,
        seed=3,
        on_epoch=rows.append,
        pictures=tmp_path / "pictures",
    ).run()
    drawn = {row["epoch"]: row["pictures"]["plain"] for row in rows if "pictures" in row}
    assert list(drawn) == [3, 6, 7]
    assert sorted(map(str, (tmp_path / "pictures").iterdir())) == list(drawn.values())
    assert drawn[3].endswith("toy_epoch_003_plain.jpg")
    run_loop(tmp_path / "none", toy_settings(pictures_every=1))
    assert not (tmp_path / "none" / "pictures").exists()


def test_workers_that_are_started_again_find_what_one_met(tmp_path):
    """Instead of meeting it once more, one of them alone."""
    known = tmp_path / "run.failure.json"
    write_json(known, {"error": "about 4 fit"})
    found = train_on_worker({"failure": str(known)})
    assert str(found) == "about 4 fit"
    assert isinstance(found, D3KEError)


def test_half_written_checkpoints_are_ignored(tmp_path):
    settings = toy_settings()
    result, _ = run_loop(tmp_path, settings)
    assert [path.name for path in saved.finished_checkpoints(tmp_path)] == [
        "checkpoint_000005",
        "checkpoint_000006",
    ]
    # A writer was killed, and a copy of the run was broken off.
    killed, broken = tmp_path / ".unfinished_checkpoint_000007-abc", tmp_path / "checkpoint_000007"
    for folder in (killed, broken):
        folder.mkdir()
        (folder / saved.WEIGHTS).write_bytes(b"half")
    again, rows = run_loop(tmp_path, settings)
    assert (rows, again) == ([], result)
    assert not killed.exists()


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    """Written by a thread; what it runs into ends the training."""

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saved.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        run_loop(tmp_path, toy_settings())
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_does_not_follow_the_training(tmp_path):
    module = torch.nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    snapshot = saved.Snapshot.take(
        weights=module.state_dict(),
        average=None,
        best={},
        optimizer=optimizer.state_dict(),
        progress=saved.Progress(finished_epochs=1),
    )
    before = module.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(module.weight, before)
    snapshot.write(tmp_path / "checkpoint")
    assert torch.equal(load_weights(tmp_path / "checkpoint", saved.WEIGHTS)["weight"], before)
    assert saved.load_optimizer(tmp_path / "checkpoint")["state"][0]["step"] == 1


def test_a_compiled_network_trains_alike(tmp_path):
    plain, rows = run_loop(tmp_path / "plain", toy_settings(epochs=(2,)), dropout=0.0)
    compiled, fast = run_loop(
        tmp_path / "compiled", toy_settings(epochs=(2,), compile=True), dropout=0.0
    )
    assert [row["loss_total"] for row in fast] == pytest.approx(
        [row["loss_total"] for row in rows], abs=1e-5
    )
    assert compiled.best_epoch == plain.best_epoch


def test_a_finished_training_is_not_trained_again(tmp_path):
    first, _ = run_loop(tmp_path, toy_settings())
    second, rows = run_loop(tmp_path, toy_settings())
    assert rows == []
    assert second == first


def test_non_finite_loss_stops_before_the_step(tmp_path):
    settings = toy_settings()
    worker = LocalWorker(tmp_path, CPU)
    task = ToyTask(settings, worker, poison=(1, 4))
    loop = TrainingLoop(task, worker, seed=3, failed_batches=tmp_path / "failed")
    with pytest.raises(NonFiniteLossError, match=r"toy network.*epoch 2, step 4.*kept in") as error:
        loop.run()
    (kept,) = (tmp_path / "failed").iterdir()
    assert str(kept) in str(error.value)
    assert not load_file(kept)["batch"].isfinite().all()
    assert all(torch.isfinite(p).all() for p in task.module.parameters())


def test_tensors_of_a_batch_are_named_by_their_place():
    zero = torch.zeros(1)
    target = Target(zero, zero, zero, zero)
    batch = FrameBatch(images=zero, intrinsics=zero, target=target)
    assert set(named_tensors(batch)) == {
        "images",
        "intrinsics",
        *(f"target.{name}" for name in target._fields if getattr(target, name) is not None),
    }
    assert set(named_tensors([{"a": zero}, (zero, 3)])) == {"0.a", "1.0"}


def test_untrained_network_can_be_the_best(tmp_path):
    settings = toy_settings(epochs=(2,), learning_rate_start=(50.0,), learning_rate_end=(50.0,))
    result, rows = run_loop(tmp_path, settings, untrained=True)
    assert rows[0]["epoch"] == 0
    assert "loss_total" not in rows[0]
    assert result.best_epoch == 0
    untrained = ToyTask(settings, LocalWorker(tmp_path, CPU)).module.state_dict()
    kept = load_weights(last(tmp_path))
    assert all(torch.equal(kept[name], untrained[name]) for name in kept)


def test_average_of_weights_is_what_is_validated(tmp_path):
    run_loop(tmp_path, toy_settings(ema_decay=0.99, epochs=(1,)))
    weights = load_weights(last(tmp_path), saved.WEIGHTS)
    average = load_weights(last(tmp_path), saved.AVERAGE)
    best = load_weights(last(tmp_path), saved.BEST)
    assert all(torch.equal(best[name], average[name]) for name in best)
    assert any(not torch.equal(best[name], weights[name]) for name in best)


def test_gradient_clip_bounds_the_gradient(tmp_path):
    worker = LocalWorker(tmp_path, CPU)
    task = ToyTask(toy_settings(gradient_clip=1e-3, epochs=(1,)), worker)
    TrainingLoop(task, worker, seed=3).run()
    norm = torch.stack([p.grad.norm() for p in task.module.parameters()]).norm()
    assert norm <= 1e-3 * 1.001


def test_fit_in_this_process_writes_progress(tmp_path):
    progress = tmp_path / "progress.jsonl"
    trained = fit(
        ToyJob(settings=toy_settings()),
        tmp_path,
        run_name="toy",
        resources=Resources(workers=0),
        progress=progress,
    )
    assert [row["epoch"] for row in read_rows(progress)] == [1, 2, 3, 4, 5, 6]
    assert trained.progress.finished_epochs == 6


def test_fewer_workers_may_do(monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8, "GPU": 2})
    scaling = choose_resources(4, workers_min=2).scaling()
    assert scaling.num_workers == (2, 4)
    assert choose_resources(2).scaling().num_workers == 2
    with pytest.raises(InvalidInputError, match="3 workers for 2 GPUs"):
        choose_resources(4, workers_min=3)


def test_streaming_wants_cpus_beside_the_workers(monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4})
    require_cpus_for_data(Resources(workers=2, cpus=1.0))
    require_cpus_for_data(Resources(workers=0))
    with pytest.raises(InvalidInputError, match="1.5 CPUs beside .* has 4 and the workers hold 3"):
        require_cpus_for_data(Resources(workers=3, cpus=1.0))


@pytest.mark.parametrize(
    ("workers", "cluster", "expected"),
    [
        (0, {"CPU": 4}, (2, False, 0.5)),
        (3, {"CPU": 4}, (3, False, 0.5)),
        (0, {"CPU": 16, "GPU": 2}, (2, True, 4.0)),
        (1, {"CPU": 4, "GPU": 2}, (1, True, 1.0)),
    ],
)
def test_workers_follow_the_cluster(monkeypatch, workers, cluster, expected):
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}, {"Alive": False}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: cluster)
    chosen = choose_resources(workers)
    assert (chosen.workers, chosen.gpu, chosen.cpus) == expected
    assert chosen.workers_on_node == chosen.workers


def test_a_gpu_for_every_worker(monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}])
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 8, "GPU": 1})
    with pytest.raises(InvalidInputError, match="2 workers for 1 GPUs"):
        choose_resources(2)
