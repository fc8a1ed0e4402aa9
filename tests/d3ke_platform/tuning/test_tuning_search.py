"""The search without Ray: order of trials, what is kept on disk, what is learnt from it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tuning_cases import EPOCHS, landscape, make_search, row, run_alone, tune_settings

from d3ke_platform.training.settings import SequenceTraining
from d3ke_platform.tuning.ledger import Ledger
from d3ke_platform.tuning.search import AllTrialsFailedError, Observer


def parameters(search):
    return [record.parameters for record in search.ledger.records]


def files(folder):
    return {path.name: path.read_text() for path in folder.rglob("*.json*")}


def test_the_recipes_own_setting_is_the_first_trial(tmp_path):
    search = make_search(tmp_path, trials=2)
    first = search.next()
    assert (first.number, first.origin) == (1, "recipe")
    assert first.parameters == search.space.own_values()
    # The recipe has the paper's loss weights: no trial of their own.
    assert search.next().origin == "search"
    assert search.next() is None


def test_the_papers_loss_weights_are_the_second_where_they_differ(tmp_path):
    sequence = tune_settings().sequence
    loss = {"joint": 3.0, "angle": 0.2}
    changed = SequenceTraining(
        **{**vars(sequence), "loss": type(sequence.loss)(**{**vars(sequence.loss), **loss})}
    )
    search = make_search(tmp_path, trials=3, sequence=changed)
    search.next()
    second = search.next()
    assert second.origin == "paper"
    assert second.parameters["sequence.loss.angle"] == 0.06
    for number, error in ((1, 2.0), (2, 1.5)):
        search.row(number, row(EPOCHS, error))
        search.end(number)
    outcome = search.outcome()
    assert (outcome.recipe_value, outcome.paper_value, outcome.best_trial) == (2.0, 1.5, 2)


def test_proposals_are_new_and_can_be_trained(tmp_path):
    search = make_search(tmp_path, trials=12, space=("sequence.heads=2,3,4,5",))
    run_alone(search)
    tried = parameters(search)
    assert len(tried) == 12
    assert len({json.dumps(values) for values in tried}) == 12
    assert all(search.space.conflict(values) == "" for values in tried)


def test_a_small_space_ends_when_it_is_used_up(tmp_path):
    space = ("sequence.width=32,64", "sequence.heads=2,4,5")
    search = make_search(tmp_path, trials=50, space=space, default_space=False)
    for expected in range(1, 5):
        record = search.next()
        assert record.number == expected
        search.row(record.number, row(EPOCHS, 1.0 + expected))
        search.end(record.number)
    assert search.next() is None
    assert search.used_up
    assert {(v["sequence.width"], v["sequence.heads"]) for v in parameters(search)} == {
        (32, 2),
        (32, 4),
        (64, 2),
        (64, 4),
    }


def test_proposals_get_better_than_chance(tmp_path):
    """On a made-up error TPE's later half beats its random first quarter."""
    search = make_search(tmp_path, trials=48)
    run_alone(search)
    errors = np.array([landscape(values) for values in parameters(search)])
    # The lowest error there is is 1.
    assert np.median(errors[24:]) - 1 < 0.4 * (np.median(errors[1:12]) - 1)
    outcome = search.outcome()
    assert outcome.value == pytest.approx(errors.min() * (1 + 1 / EPOCHS))
    assert outcome.best_trial == 1 + int(errors.argmin())
    assert outcome.value < outcome.recipe_value == outcome.paper_value


def test_a_killed_search_goes_on_with_all_it_had(tmp_path):
    run_alone(make_search(tmp_path, trials=10), last=6)
    before = files(tmp_path)
    cut_off = json.loads(before["trial_0006.json"])
    assert cut_off["state"] == "running"
    again = make_search(tmp_path, trials=10)
    assert again.left == 5
    first = again.next()
    assert (first.number, first.parameters) == (6, cut_off["parameters"])
    assert first.epochs == 2
    again = make_search(tmp_path, trials=10)
    run_alone(again)
    after = files(tmp_path)
    for number in range(1, 6):
        name = f"trial_{number:04d}.json"
        assert after[name] == before[name]
    assert [record.number for record in again.ledger.records] == list(range(1, 11))
    assert len({json.dumps(values) for values in parameters(again)}) == 10
    # Epochs that were told twice count once.
    assert [r["epoch"] for r in again.ledger.rows(6)] == list(range(1, EPOCHS + 1))
    assert again.ledger.record(6).seconds == pytest.approx(1.5 * EPOCHS)


def test_a_restart_knows_what_was_learnt(tmp_path):
    """The same errors in one start or in two: later proposals use the earlier trials."""
    run_alone(make_search(tmp_path, trials=24))
    more = make_search(tmp_path, trials=36)
    assert more.left == 12
    run_alone(more)
    errors = np.array([landscape(values) for values in parameters(more)])
    assert np.median(errors[24:]) - 1 < 0.4 * (np.median(errors[1:6]) - 1)


def test_states_and_errors_of_trials(tmp_path):
    search = make_search(tmp_path, trials=4)
    plans = (
        ([(e, 3.0 - 0.1 * e) for e in range(EPOCHS + 1)], ""),
        ([(1, 2.5), (2, 2.2), (3, 2.3)], ""),
        ([(1, 2.0)], "the loss is not finite"),
        ([], ""),
    )
    for rows, reason in plans:
        record = search.next()
        for epoch, error in rows:
            search.row(record.number, row(epoch, error))
        search.end(record.number, reason)
    records = Ledger(tmp_path, "mae_all_deg").records
    assert [r.state for r in records] == ["finished", "stopped", "failed", "failed"]
    assert [r.epochs for r in records] == [EPOCHS, 3, 1, 0]
    assert records[1].value == 2.2
    assert records[1].errors["mpblpe_mm"] == pytest.approx(220)
    assert records[2].reason == "the loss is not finite"
    assert "no epoch had a finite mae_all_deg" in records[3].reason
    outcome = search.outcome()
    # The third was lower before it failed: a recipe of it would fail as well.
    assert (outcome.best_trial, outcome.value) == (2, 2.2)
    assert (outcome.finished, outcome.stopped, outcome.failed) == (1, 1, 2)


def test_all_trials_failing_is_one_line(tmp_path):
    search = make_search(tmp_path, trials=3)
    while (record := search.next()) is not None:
        search.end(record.number, f"reason {record.number}")
    with pytest.raises(AllTrialsFailedError, match="All 3 trials .* the first: reason 1") as caught:
        search.outcome()
    assert "\n" not in str(caught.value)


def test_checkpoints_go_when_a_trial_is_over_and_failed_batches_stay(tmp_path):
    search = make_search(tmp_path, trials=1)
    record = search.next()
    folder = search.ledger.folder(record.number)
    for name in ("checkpoint_000003", "failed_batches"):
        (folder / name).mkdir()
    search.row(record.number, row(1, 2.0))
    search.end(record.number)
    assert sorted(path.name for path in folder.iterdir()) == ["failed_batches", "progress.jsonl"]


def test_observers_hear_of_everything(tmp_path):
    heard = []

    class Listener(Observer):
        def started(self, record):
            heard.append(("started", record.number))
            record.run_id = f"run {record.number}"

        def ended(self, record, best):
            heard.append(("ended", record.number, best.number))

    search = make_search(tmp_path, trials=2, observer=Listener())
    run_alone(search)
    assert heard[0] == ("started", 1)
    assert [kind for kind, *_ in heard] == ["started", "ended"] * 2
    assert Ledger(tmp_path, "mae_all_deg").record(1).run_id == "run 1"
