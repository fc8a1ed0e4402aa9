"""The best setting as a recipe: jobs/train.py takes it as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import ray
from fake_data import make_data_set
from tuning_cases import tune_settings

from d3ke.errors import InvalidInputError
from d3ke_platform import cli
from d3ke_platform.errors import SchemaVersionError, UsageError
from d3ke_platform.schema import RECORDINGS
from d3ke_platform.training.settings import SequenceTraining, TrainSettings
from d3ke_platform.tuning.names import assign
from d3ke_platform.tuning.recipe import recipe_text
from d3ke_platform.tuning.tune import Tuning


@pytest.mark.parametrize("flag", ["--recipe", "--config"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"coordinates": ("main",), "seed": 4},
        {"sequence": SequenceTraining(kind="lstm", strides=(), dropout=0.25, residual=False)},
        {"sequence": SequenceTraining(learning_rate_start=(1e-7,), learning_rate_end=(1e-12,))},
    ],
)
def test_train_reads_back_every_setting(tmp_path, flag, changes):
    settings = tune_settings(**changes).training()
    text = recipe_text(settings, ['Trial 4 of 24: 3.2 "deg"', "", "python jobs/tune.py"])
    assert text.startswith('# Trial 4 of 24: 3.2 "deg"\n#\n# python jobs/tune.py\n')
    file = tmp_path / "best.toml"
    file.write_text(text)
    flags = [flag, str(file), "--data", settings.data, "--output", settings.output]
    assert cli.parse(TrainSettings, flags, job="train") == settings


def test_where_was_trained_is_not_in_the_recipe(tmp_path):
    elsewhere = {"workers": 8, "workers_min": 2, "max_failures": 5, "experiment": "mine"}
    settings = tune_settings(**elsewhere).training()
    file = tmp_path / "best.toml"
    file.write_text(recipe_text(settings, ["x"]))
    flags = ["--config", str(file), "--data", settings.data, "--output", settings.output]
    assert cli.parse(TrainSettings, flags, job="train") == tune_settings().training()


def test_a_searched_setting_is_in_the_recipe(tmp_path):
    values = {"sequence.width": 64, "sequence.loss.angle": 0.123, "frame.learning_rate": 7e-4}
    found = assign(tune_settings(tune="both").training(), values)
    file = tmp_path / "best.toml"
    file.write_text(recipe_text(found, ["x"]))
    again = cli.parse(
        TrainSettings, ["--recipe", str(file), "--data", "d", "--output", "o"], job="train"
    )
    assert (again.sequence.width, again.sequence.loss.angle) == (64, 0.123)
    assert again.frame.learning_rate_start == (7e-4,)


def test_a_recipe_file_that_is_not_there():
    with pytest.raises(UsageError, match="Cannot read nowhere.toml"):
        cli.parse(TrainSettings, ["--recipe", "nowhere.toml"], job="train")


@pytest.mark.parametrize("kind", ["frame", "sequence", "both"])
def test_a_person_in_two_splits_is_refused(tmp_path, kind):
    data = make_data_set(tmp_path / "data", frames=4, trials=1)
    recordings = data.recordings()
    recordings[0]["split"] = "validation"
    data.write_rows(RECORDINGS, recordings)
    with pytest.raises(InvalidInputError, match="'train_0' .* splits train and validation"):
        Tuning(tune_settings(data=data.root, output=str(tmp_path / "out"), tune=kind))
    assert not (tmp_path / "out").exists()


def test_trials_without_room_are_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16.0, "GPU": 2.0})
    data = make_data_set(tmp_path / "data", frames=4, trials=1)
    with pytest.raises(InvalidInputError, match="4 workers for 2 GPUs"):
        Tuning(tune_settings(data=data.root, output=str(tmp_path / "out"), trial_workers=4))
    assert not (tmp_path / "out").exists()


def test_streaming_trials_need_cpus_for_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    data = make_data_set(tmp_path / "data", frames=4, trials=1)
    frame = replace(tune_settings().frame, loading="stream")
    changes = {"data": data.root, "output": str(tmp_path / "out"), "frame": frame}
    Tuning(tune_settings(**changes, tune="frame", concurrent=2))
    with pytest.raises(InvalidInputError, match="has 4 and the workers hold 3"):
        Tuning(tune_settings(**changes, tune="frame", trial_workers=6))


@pytest.mark.parametrize(
    ("subjects", "text"),
    [
        ({"train": 2}, "split 'validation'"),
        ({"validation": 1}, "split 'train'"),
    ],
)
def test_data_without_the_subjects_a_search_needs(tmp_path, subjects, text):

    data = make_data_set(tmp_path / "data", subjects=subjects, frames=4, trials=1)
    with pytest.raises(InvalidInputError, match=text):
        Tuning(tune_settings(data=data.root, output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_data_of_another_version(tmp_path):

    (tmp_path / "dataset.json").write_text('{"schema_version": 1}')
    with pytest.raises(SchemaVersionError, match="data format version 1"):
        Tuning(tune_settings(data=str(tmp_path), output=str(tmp_path / "out")))
