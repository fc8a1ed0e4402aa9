"""Settings, schedule, run folder and sums: the small parts of a training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from d3ke.augmentation import AugmentationConfig
from d3ke.errors import D3KEError, InvalidInputError, UnknownNameError
from d3ke.losses import LossWeights
from d3ke_platform.training.error_sums import ErrorSums
from d3ke_platform.training.progress import (
    ProgressWatcher,
    append_row,
    epoch_line,
    read_rows,
)
from d3ke_platform.training.run_folder import RunFolder, RunMismatchError
from d3ke_platform.training.samples import match_frames
from d3ke_platform.training.schedule import Schedule
from d3ke_platform.training.settings import (
    FrameTraining,
    SequenceTraining,
    StageSettings,
    TrainSettings,
)


def test_paper_schedule_by_epoch():
    schedule = Schedule(FrameTraining(), steps_per_epoch=10)
    rates = [schedule.learning_rate(epoch, step=9) for epoch in range(30)]
    assert rates[0] == pytest.approx(5e-4)
    assert rates[27] == pytest.approx(3.33e-5)
    assert rates[28:] == pytest.approx([3.33e-6, 1e-6])
    ratios = np.array(rates[1:28]) / np.array(rates[:27])
    np.testing.assert_allclose(ratios, (3.33e-5 / 5e-4) ** (1 / 27))
    assert [e for e in range(30) if schedule.place(e).first_of_phase] == [0, 28]
    with pytest.raises(IndexError):
        schedule.place(30)


def test_schedule_by_step_reaches_its_ends():
    settings = StageSettings(
        epochs=(3,), learning_rate_start=(1e-2,), learning_rate_end=(1e-4,), schedule_by="step"
    )
    schedule = Schedule(settings, steps_per_epoch=5)
    rates = [schedule.learning_rate(epoch, step) for epoch in range(3) for step in range(5)]
    assert rates[0] == pytest.approx(1e-2)
    assert rates[-1] == pytest.approx(1e-4)
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(1e-2) / 14)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: StageSettings(epochs=(3,)), InvalidInputError, "one value of each per phase"),
        (lambda: StageSettings(batch_size=0), InvalidInputError, "batch_size: 0 is below 1"),
        (lambda: StageSettings(ema_decay=1.0), InvalidInputError, "ema_decay"),
        (lambda: StageSettings(precision="half"), UnknownNameError, "float32, bfloat16"),
        (lambda: SequenceTraining(kind="gru"), UnknownNameError, "transformer, lstm, tcn"),
        (lambda: SequenceTraining(learning_rate_end=(0.0,)), InvalidInputError, "positive"),
        (lambda: FrameTraining(cross_fit_folds=1), InvalidInputError, "at least 2"),
        (lambda: FrameTraining(loss=LossWeights(velocity=1.0)), InvalidInputError, "no velocity"),
        (lambda: TrainSettings(data="d", output="s3://b/r"), InvalidInputError, "shared folder"),
        (lambda: TrainSettings(data="", output="r"), InvalidInputError, "both are needed"),
    ],
)
def test_wrong_settings_are_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_run_folder_refuses_other_settings(tmp_path):
    settings = TrainSettings(data="d", output=str(tmp_path / "run"))
    run = RunFolder(settings, "0123")
    run.mark("frame", {"mae": 1.5})
    again = RunFolder(TrainSettings(data="moved", output=settings.output, workers=3), "0123")
    assert again.done("frame") == {"mae": 1.5}
    assert again.config_hash == run.config_hash
    changed = TrainSettings(data="d", output=settings.output, frame=FrameTraining(batch_size=8))
    with pytest.raises(RunMismatchError, match=r"frame.batch_size was 64, now 8") as caught:
        RunFolder(changed, "0123")
    assert caught.value.exit_code == 2
    with pytest.raises(RunMismatchError, match="data_hash"):
        RunFolder(settings, "4567")


def test_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(D3KEError, match="Cannot write"):
        RunFolder(TrainSettings(data="d", output=str(tmp_path / "file" / "run")), "0123")


def test_error_sums_ignore_masked_values():
    sums = ErrorSums(("a", "b"), torch.device("cpu"))
    values = torch.tensor([1.0, float("nan"), 3.0])
    sums.add("a", values, torch.tensor([True, False, True]))
    sums.add("a", torch.tensor([5.0]))
    means = sums.means()
    assert means["a"] == pytest.approx(3.0)
    assert np.isnan(means["b"])


def test_match_frames():
    found, rows = match_frames(np.array([4, -1, 2, 9]), np.array([2, 4, 6]))
    assert found.tolist() == [True, False, True, False]
    assert rows.tolist() == [1, 0]
    found, rows = match_frames(np.array([1, 2]), np.array([], int))
    assert not found.any()
    assert len(rows) == 0


def test_progress_is_followed_from_where_it_was(tmp_path):
    path, seen = tmp_path / "progress.jsonl", []
    append_row(path, {"epoch": 1})
    with ProgressWatcher(path, seen.append, every_s=0.01):
        append_row(path, {"epoch": 2})
        append_row(path, {"epoch": 3})
    assert seen == [{"epoch": 2}, {"epoch": 3}]
    with path.open("a") as file:
        file.write(json.dumps({"epoch": 4})[:5])
    assert len(read_rows(path)) == 3


def test_an_epoch_trained_again_counts_once(tmp_path):
    path = tmp_path / "progress.jsonl"
    for loss in (3.0, 2.0):
        append_row(path, {"stage": "frame", "epoch": 1, "loss_total": loss})
    assert read_rows(path) == [{"stage": "frame", "epoch": 1, "loss_total": 2.0}]


def test_epoch_line_names_what_matters():
    row = {
        "stage": "frame",
        "epoch": 2,
        "epochs": 5,
        "loss_total": 1.25,
        "val_mae_main_deg": 8.0,
        "val_mae_all_deg": 3.0,
        "samples_per_s": 101.2,
        "train_s": 50.0,
        "validate_s": 5.0,
        "best_epoch": 2,
    }
    line = epoch_line(row)
    for part in ("frame", "2/5", "1.2500", "main 8.00", "all 3.00", "101/s", "2:45 left", "best"):
        assert part in line


def test_paths_mean_the_same_in_the_workers(tmp_path: Path, monkeypatch) -> None:
    """Ray Train and Tune give each worker a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    settings = FrameTraining(
        bundle="runs/a/bundle", augmentation=AugmentationConfig(occluders="cut outs")
    ).with_absolute_paths()
    assert settings.bundle == str(tmp_path / "runs" / "a" / "bundle")
    assert settings.augmentation.occluders == str(tmp_path / "cut outs")
    assert FrameTraining(weights="w.pt").with_absolute_paths().weights == str(tmp_path / "w.pt")
    assert FrameTraining(weights="imagenet").with_absolute_paths().weights == "imagenet"
    assert FrameTraining().with_absolute_paths() == FrameTraining()
