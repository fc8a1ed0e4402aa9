"""A search on top of a run: what it takes over of its per-frame network, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from fake_data import make_data_set
from tuning_cases import tune_settings

from d3ke.errors import InvalidInputError
from d3ke_platform.errors import UsageError
from d3ke_platform.storage import DataSet
from d3ke_platform.training.build_bundle import build_bundle
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.train import Training
from d3ke_platform.training.worker import LocalWorker
from d3ke_platform.tuning.adopt import adopted_settings
from d3ke_platform.tuning.tune import Tuning


def make_base(folder, trained, *, data_hash):
    """What a search needs of a finished run in `folder`: the bundle of its per-frame network."""
    data = DataSet.open(trained.data, coordinates=trained.coordinates)
    job = FrameJob(data=data.root, settings=trained.frame, seed=1, coordinates=trained.coordinates)
    build_bundle(
        folder / "frame" / "bundle",
        data=data,
        data_hash=data_hash,
        settings=trained,
        fps=10.0,
        frame=job.task(LocalWorker(folder)).module.state_dict(),
        sequence=None,
        metrics={},
    )


def test_settings_of_a_base_run_are_taken_over(tmp_path):
    """A search on top of a run has that run's per-frame settings, whatever the recipe says."""
    settings = tune_settings(base=str(tmp_path), seed=1)
    with pytest.raises(UsageError, match="no finished per-frame network"):
        adopted_settings(settings, "abc")
    data = make_data_set(tmp_path / "data", frames=4, trials=1)
    # Workers of the run are no matter of the search: it may have fewer.
    trained = tune_settings(data=data.root, workers=8, workers_min=2).training()
    trained = replace(trained, frame=replace(trained.frame, batch_size=24), seed=77)
    make_base(tmp_path, trained, data_hash="abc")
    found = adopted_settings(settings, "abc")
    assert (found.frame, found.seed) == (trained.frame, 77)
    assert found.sequence == settings.sequence
    with pytest.raises(UsageError, match="was trained on data abc"):
        adopted_settings(settings, "def")
    arms = replace(settings, coordinates=("arms",))
    with pytest.raises(InvalidInputError, match="arms, but .* predicts all that the data set"):
        adopted_settings(arms, "abc")


def test_coordinates_of_a_base_run_are_taken_over(tmp_path, monkeypatch):
    """Its estimates have no others: a search without them ends in every trial."""
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    data = make_data_set(tmp_path / "data", frames=4, trials=1)
    named = {"data": data.root, "coordinates": ("arms", "legs")}
    make_base(tmp_path, tune_settings(**named).training(), data_hash=data.content_hash())
    out = tmp_path / "out"
    settings = tune_settings(data=data.root, base=str(tmp_path), output=str(out))
    Tuning(settings)
    known = json.loads((out / "run.json").read_text())["settings"]
    assert known["coordinates"] == ["arms", "legs"]
    # The same in another order are no others: the search goes on.
    Tuning(replace(settings, coordinates=("legs", "arms")))
    with pytest.raises(InvalidInputError, match="legs, but .* predicts arms legs.* Leave") as told:
        Tuning(replace(settings, coordinates=("legs",)))
    assert "\n" not in str(told.value)


def test_a_network_whose_copy_was_cut_off_is_copied_again(tmp_path, monkeypatch):
    """A kill may leave a part of the copy; the next start takes none of it for the network."""
    data = make_data_set(tmp_path / "data", frames=4, trials=1)
    run = tmp_path / "run"
    (run / "frame" / "bundle").mkdir(parents=True)
    (run / "frame" / "bundle" / "config.json").write_text("whole")
    (run / "run.json").write_text(json.dumps({"parts": {"frame": {"epoch": 2}}}))
    out = tmp_path / "out"
    settings = tune_settings(data=data.root, output=str(out), in_process=True).training()

    def cut_off(source, target):
        Path(target).mkdir()
        (Path(target) / "config.json").write_text("who")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", cut_off)
        with pytest.raises(KeyboardInterrupt):
            Training(settings).adopt_frame(run)
    assert not (out / "frame" / "bundle").exists()
    Training(settings).adopt_frame(run)
    assert (out / "frame" / "bundle" / "config.json").read_text() == "whole"
    assert [path.name for path in (out / "frame").iterdir()] == ["bundle"]
    assert json.loads((out / "run.json").read_text())["parts"]["frame"] == {"epoch": 2}


def test_a_network_that_was_copied_but_not_recorded_is_copied_again(tmp_path):
    data = make_data_set(tmp_path / "data", frames=4, trials=1)
    run, out = tmp_path / "run", tmp_path / "out"
    for folder, content in ((run, "whole"), (out, "of an earlier kill")):
        (folder / "frame" / "bundle").mkdir(parents=True)
        (folder / "frame" / "bundle" / "config.json").write_text(content)
    (run / "run.json").write_text(json.dumps({"parts": {"frame": {"epoch": 2}}}))
    settings = tune_settings(data=data.root, output=str(out), in_process=True).training()
    Training(settings).adopt_frame(run)
    assert (out / "frame" / "bundle" / "config.json").read_text() == "whole"
