"""A search on top of a run: what it takes over of its per-frame network, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fake_data import make_data_set
from tuning_cases import tune_settings

from d3ke_platform.training.train import Training


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
