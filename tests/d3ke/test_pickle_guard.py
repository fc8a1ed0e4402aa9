"""A pickle is found whatever it is called, and nothing else is taken for one."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from d3ke.networks.pickle_guard import find_pickle


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_found_by_its_content(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "notes.md"
    file.write_bytes(pickle.dumps({"a": 1}, protocol))
    assert find_pickle(tmp_path) == file


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_found_by_its_content(tmp_path: Path, zipped: bool) -> None:
    file = tmp_path / "weights"
    torch.save({"a": torch.ones(2)}, file, _use_new_zipfile_serialization=zipped)
    assert find_pickle(tmp_path) == file


@pytest.mark.parametrize("name", ["a.pkl", "a.PT", "a.pth", "a.ckpt", "a.joblib", "a.npy", "a.npz"])
def test_kinds_that_may_hold_one_are_found_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n")  # protocol 0 has no mark at its start
    assert find_pickle(tmp_path) == tmp_path / name


def test_other_files_are_no_pickles(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("# Card\n")
    (tmp_path / "empty").write_bytes(b"")
    np.savetxt(tmp_path / "table.csv", np.ones((2, 2)))
    # Each has a header of another length, whose first bytes look like a pickle's in some of them.
    starts = set()
    for length in range(1, 200):
        file = tmp_path / "weights.safetensors"
        save_file({"a": torch.ones(1)}, file, {"note": "x" * length * 8})
        starts.add(file.read_bytes()[:2])
        assert find_pickle(tmp_path) is None
    assert starts & {bytes([0x80, protocol]) for protocol in (2, 3, 4, 5)}
