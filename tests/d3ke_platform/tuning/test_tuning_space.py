"""The search space: defaults around the recipe, a user's entries, what does not fit together."""

from __future__ import annotations

import pytest
from tuning_cases import tune_settings

from d3ke.augmentation import AugmentationConfig
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform import cli
from d3ke_platform.errors import UsageError
from d3ke_platform.training.settings import SequenceTraining
from d3ke_platform.tuning.names import assign, current, searchable, stronger
from d3ke_platform.tuning.parameters import Choice, Range
from d3ke_platform.tuning.settings import TuneSettings
from d3ke_platform.tuning.space import make_space, parameters_of


def by_name(settings, stage="sequence"):
    return {p.name: p for p in parameters_of(settings, stage)}


def test_default_space_lies_around_the_recipe():
    found = by_name(tune_settings())
    assert set(found) == {
        *(f"sequence.loss.{name}" for name in ("joint", "marker", "body", "angle")),
        *(f"sequence.{name}" for name in ("learning_rate", "window", "width", "dropout")),
        *("sequence.layers", "sequence.heads"),
    }
    angle = Range(name="sequence.loss.angle", low=0.006, high=0.6, log=True)
    assert found["sequence.loss.angle"] == angle
    assert found["sequence.width"].values == (16, 32, 64)
    assert found["sequence.window"].values == (3, 9, 27)
    assert found["sequence.heads"].values == (1, 2, 4)
    assert found["sequence.layers"] == Range(name="sequence.layers", low=1, high=2, integer=True)
    assert "frame.augmentation_strength" in by_name(tune_settings(tune="frame"), "frame")


def test_the_default_space_leaves_out_what_a_network_does_not_have():
    tcn = by_name(tune_settings(sequence=SequenceTraining(kind="tcn", width=64)))
    assert not {"sequence.heads", "sequence.layers"} & set(tcn)
    papers = by_name(tune_settings(sequence=SequenceTraining(kind="tcn")))
    assert papers["sequence.width"].values == (512, 1024, 2048)


def test_entries_change_add_and_remove():
    entries = (
        "sequence.loss.angle = 0.01..2:log",
        "sequence.width=64,96",
        "sequence.strides=3 3,9",
        "sequence.kind=lstm,transformer",
        "sequence.residual=true,false",
        "sequence.layers=1..4",
        "sequence.dropout=off",
    )
    found = by_name(tune_settings(space=entries))
    assert found["sequence.loss.angle"].high == 2
    assert found["sequence.width"].values == (64, 96)
    assert found["sequence.strides"].values == ((3, 3), (9,))
    assert found["sequence.residual"].values == (True, False)
    assert found["sequence.layers"] == Range(name="sequence.layers", low=1, high=4, integer=True)
    assert "sequence.dropout" not in found
    only = by_name(tune_settings(space=entries[:1], default_space=False))
    assert list(only) == ["sequence.loss.angle"]


@pytest.mark.parametrize(
    ("entry", "error", "text"),
    [
        ("sequence.hight=1..2", UnknownNameError, "sequence.width"),
        ("frame.backbone=resnet18,resnet34", UnknownNameError, "Unknown parameter"),
        ("sequence.epochs=3,5", UnknownNameError, "Unknown parameter"),
        ("sequence.width", InvalidInputError, "name=low..high"),
        ("sequence.width=64..32", InvalidInputError, "no rising range"),
        ("sequence.learning_rate=0..1:log", InvalidInputError, "Start above 0"),
        ("sequence.learning_rate=0.1..1:lin", InvalidInputError, "cannot be read"),
        ("sequence.width=wide", InvalidInputError, "not of type int"),
        ("sequence.kind=lstm..tcn", InvalidInputError, "no number"),
        ("sequence.kind=lstm,gru", UnknownNameError, "transformer"),
        ("sequence.width=64,64", InvalidInputError, "repeated"),
    ],
)
def test_a_wrong_entry_is_one_clear_line(entry, error, text):
    with pytest.raises(error, match=text) as caught:
        tune_settings(space=(entry,))
    assert "\n" not in str(caught.value)


def test_nothing_to_search():
    with pytest.raises(InvalidInputError, match="Name parameters with --space"):
        tune_settings(default_space=False)


def test_values_are_put_in_all_at_once():
    """Width 48 does not go with the recipe's 16 heads, and 3 heads not with its width."""
    settings = tune_settings(sequence=SequenceTraining(width=64, heads=16, strides=(3,)))
    found = assign(settings, {"sequence.width": 48, "sequence.heads": 3})
    assert (found.sequence.width, found.sequence.heads) == (48, 3)
    assert settings.sequence.width == 64


def test_learning_rate_scales_every_phase():
    start, end = (1e-3, 1e-4), (1e-4, 1e-5)
    sequence = SequenceTraining(epochs=(3, 1), learning_rate_start=start, learning_rate_end=end)
    found = assign(tune_settings(sequence=sequence), {"sequence.learning_rate": 2e-3}).sequence
    assert found.learning_rate_start == pytest.approx((2e-3, 2e-4))
    assert found.learning_rate_end == pytest.approx((2e-4, 2e-5))


def test_augmentation_strength_scales_its_ranges():
    config = AugmentationConfig()
    assert AugmentationConfig(**stronger(config, 1.0)) == config
    none = AugmentationConfig(**stronger(config, 0.0))
    assert (none.shift, none.zoom, none.roll_degrees, none.erase_probability) == (0, (1, 1), 0, 0)
    assert AugmentationConfig(**stronger(config, 3.0)).contrast == 1.0
    settings = tune_settings(tune="frame")
    found = assign(settings, {"frame.augmentation_strength": 0.5}).frame.augmentation
    assert found.roll_degrees == settings.frame.augmentation.roll_degrees / 2
    # What is named itself wins.
    both = {"frame.augmentation_strength": 0.5, "frame.augmentation.shift": 0.2}
    assert assign(settings, both).frame.augmentation.shift == 0.2


def test_every_searchable_name_can_be_read_and_put_back():
    settings = tune_settings(tune="both")
    for stage in ("frame", "sequence"):
        names = searchable(settings, stage)
        assert f"{stage}.epochs" not in names
        values = {name: current(settings, name) for name in names}
        again = assign(settings, values)
        assert {name: current(again, name) for name in names} == values


def test_conflicts_are_told_not_raised():
    space = make_space(tune_settings(space=("sequence.heads=2,3",)), "sequence")
    values = space.own_values()
    assert space.conflict(values) == ""
    assert "multiple of 2 x heads" in space.conflict(values | {"sequence.heads": 3})


def test_a_batch_needs_a_sample_for_each_worker_of_a_trial():
    """Shares of a batch may differ by one, as in training; none may be empty."""
    three = tune_settings(trial_workers=3, space=("sequence.batch_size=2,8,9",))
    space = make_space(three, "sequence")
    assert [space.conflict({"sequence.batch_size": size}) for size in (3, 8, 9)] == ["", "", ""]
    told = space.conflict({"sequence.batch_size": 2})
    assert told.startswith("batch_size: 2 samples for 3 workers")
    assert "--trial-workers 2" in told


def test_a_space_without_any_valid_combination():
    space = ("sequence.width=32,64", "sequence.heads=3,5,7")
    with pytest.raises(UsageError, match="No combination .* multiple of 2 x heads.*name=off"):
        make_space(tune_settings(space=space), "sequence")


def test_papers_loss_weights_in_the_recipe():
    space = make_space(tune_settings(space=("sequence.loss.angle=0.1..1",)), "sequence")
    paper = space.paper_values()
    assert [paper[f"sequence.loss.{n}"] for n in ("joint", "marker", "body", "angle")] == [
        1.0,
        2.0,
        0.1,
        0.06,
    ]
    assert not space.contains(paper)


def test_a_choice_survives_optuna_and_json():
    strides = Choice(name="sequence.strides", values=((3, 3), (9,), ()))
    assert [strides.decode(strides.encode(value)) for value in strides.values] == [(3, 3), (9,), ()]
    rate = Range(name="x", low=1e-4, high=1e-2, log=True)
    assert rate.decode(0.00123456) == 0.00123
    assert rate.decode(0.00999999) <= rate.high


def test_settings_from_a_recipes_two_tables(tmp_path):
    """What is not searched comes from [train], the search from [tune]."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[train.sequence]\nwidth = 64\nheads = 4\n[tune]\nspace = ["sequence.width=64,128"]\n'
        "grace_epochs = 4\n[score]\n"
    )
    flags = ["--recipe", str(recipe), "--data", "d", "--output", "o", "--trials", "5"]
    found = cli.parse(TuneSettings, flags, job="tune", beneath=("train",))
    assert (found.sequence.width, found.grace_epochs, found.trials) == (64, 4, 5)
    assert found.space == ("sequence.width=64,128",)
    assert found.training().sequence == found.sequence


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"trials": 0}, "trials"),
        ({"reduction_factor": 1.0}, "reduction_factor"),
        ({"base": "run", "tune": "both"}, "--tune sequence"),
        ({"sequence": SequenceTraining(enabled=False)}, "sequence.enabled"),
        ({"tune": "all"}, "both"),
    ],
)
def test_wrong_settings(changes, text):
    with pytest.raises((InvalidInputError, UnknownNameError), match=text):
        tune_settings(**changes)
