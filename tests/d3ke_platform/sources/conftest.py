"""A made-up download of BML-MoVi for all tests of its source."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import bmlmovi_files as made_up
import pytest


@pytest.fixture(scope="session")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Subjects 1 (train), 2 (test) and 14 (validation); read only."""
    return made_up.write_download(tmp_path_factory.mktemp("download"))


@pytest.fixture
def copy(download: Path, tmp_path: Path) -> Path:
    """A copy to be damaged; large files are links until they are replaced."""
    target = tmp_path / "copy"
    shutil.copytree(download, target, copy_function=os.link)
    return target
