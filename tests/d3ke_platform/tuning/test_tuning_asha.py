"""ASHA's decisions: rungs, exempt and replayed epochs, epochs of earlier starts."""

from __future__ import annotations

from types import SimpleNamespace

from tuning_cases import row

from d3ke_platform.tuning.asha import RememberingASHA


def scheduler():
    return RememberingASHA(epochs=9, grace=1, reduction_factor=3)


def decide(asha, name, epoch, value, **marks):
    trial = SimpleNamespace(trial_id=name)
    if name not in asha._trial_info:
        asha.on_trial_add(None, trial)
    return asha.on_trial_result(None, trial, {"epoch": epoch, "value": value, **marks})


def test_worse_trials_stop_at_a_rung_and_not_between():
    asha = scheduler()
    assert decide(asha, "a", 1, 2.0) == "CONTINUE"
    assert decide(asha, "b", 1, 1.0) == "CONTINUE"
    assert decide(asha, "c", 1, 1.9) == "STOP"
    assert decide(asha, "b", 2, 5.0) == "CONTINUE"
    assert decide(asha, "b", 9, 1.0) == "STOP"


def test_the_recipes_own_setting_runs_to_its_end():
    asha = scheduler()
    decide(asha, "b", 1, 1.0)
    assert decide(asha, "own", 1, 2.0, exempt=True) == "CONTINUE"
    assert decide(asha, "own", 9, 2.0, exempt=True) == "CONTINUE"
    # Its value counts for the others.
    assert decide(asha, "c", 1, 1.5) == "STOP"


def test_replayed_epochs_are_recorded_and_decide_nothing():
    asha = scheduler()
    decide(asha, "a", 1, 1.0)
    assert decide(asha, "again", 1, 3.0, replayed=True) == "CONTINUE"
    assert decide(asha, "again", 2, 3.0) == "CONTINUE"
    decide(asha, "a", 3, 1.0)
    assert decide(asha, "again", 3, 3.0) == "STOP"


def test_trials_of_earlier_starts_count():
    fresh, asha = scheduler(), scheduler()
    for number, error in enumerate((1.0, 2.0, 3.0)):
        # The lowest error so far is what counts at a rung.
        asha.remember(number, [row(0, 9.0), row(1, error), row(2, error + 1)], "mae_all_deg")
    assert decide(fresh, "new", 1, 2.5) == "CONTINUE"
    assert decide(asha, "new", 1, 2.5) == "STOP"
    assert decide(asha, "good", 1, 0.9) == "CONTINUE"
