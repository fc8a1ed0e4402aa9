"""One trial that trains inside: what it reports, and going on after a kill."""

from __future__ import annotations

import math

import pytest
from toy_task import toy_settings
from tuning_cases import EPOCHS, SlowToyJob

from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.trainer import Resources, fit
from d3ke_platform.tuning.trial import EpochReports, TrialPlan, train_inside


class KilledError(BaseException):
    """What ends a trial from outside, like SystemExit of Ray Tune."""


def plan(folder, **changes):
    defaults = {
        "number": 3,
        "job": SlowToyJob(settings=toy_settings(epochs=(EPOCHS,))),
        "folder": folder,
        "metric": "mae_all_deg",
        "exempt": False,
        "threads": 1,
        "resources": Resources(workers=0),
    }
    return TrialPlan(**{**defaults, **changes})


def train(one, *, kill_at=None):
    told = []

    def report(result):
        told.append(result)
        if result["epoch"] == kill_at:
            raise KilledError

    train_inside(one, EpochReports(one, report))
    return told


def without_times(row):
    """What was measured; a search draws no pictures."""
    other = ("stage", "pictures")
    return {k: v for k, v in row.items() if not k.endswith("_s") and k not in other}


def test_every_epoch_is_a_result_with_the_lowest_error_so_far(tmp_path):
    told = train(plan(tmp_path))
    assert [result["epoch"] for result in told] == list(range(1, EPOCHS + 1))
    errors = [result["row"]["val_mae_all_deg"] for result in told]
    assert [result["value"] for result in told] == [min(errors[: n + 1]) for n in range(EPOCHS)]
    assert not any(result["replayed"] or result["exempt"] for result in told)


def test_a_trial_is_the_training_that_the_recipe_does(tmp_path):
    one = plan(tmp_path / "trial")
    told = train(one)
    (tmp_path / "train").mkdir()
    fit(
        one.job,
        tmp_path / "train",
        run_name="t",
        resources=Resources(workers=0),
        progress=tmp_path / "rows",
    )
    trained = read_rows(tmp_path / "rows")
    assert [without_times(r["row"]) for r in told] == [without_times(row) for row in trained]


def test_a_trial_goes_on_from_its_checkpoint(tmp_path):
    whole = train(plan(tmp_path / "whole"))
    with pytest.raises(KilledError):
        train(plan(tmp_path / "parts"), kill_at=4)
    told = train(plan(tmp_path / "parts"))
    # The fourth epoch was told before its checkpoint was written.
    assert [(r["epoch"], r["replayed"]) for r in told] == [
        (epoch, epoch <= 3) for epoch in range(1, EPOCHS + 1)
    ]
    for first, second in zip(whole, told, strict=True):
        assert without_times(first["row"]) == pytest.approx(without_times(second["row"]), rel=1e-5)
        assert first["value"] == pytest.approx(second["value"], rel=1e-5)


def test_a_value_that_is_not_a_number_does_not_hide_the_others():
    told = []
    reports = EpochReports(plan(None), told.append)
    for epoch, error in enumerate((math.nan, 2.0, math.nan, 1.0)):
        reports({"epoch": epoch, "val_mae_all_deg": error})
    assert [result["value"] for result in told] == [math.inf, 2.0, 2.0, 1.0]
