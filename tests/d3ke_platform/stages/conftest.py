"""Fixtures of the stage tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from random_bundle import write_random_bundle

from d3ke.errors import InvalidInputError
from d3ke_platform.sources import pose2sim_demo


@pytest.fixture(scope="session")
def demo_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Pose2Sim demo recording; D3KE_DEMO_WHEEL names a downloaded wheel."""
    try:
        folder = tmp_path_factory.mktemp("pose2sim")
        return pose2sim_demo.fetch(folder, wheel=os.environ.get("D3KE_DEMO_WHEEL") or None)
    except InvalidInputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def random_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle of random weights with a sequence network."""
    return write_random_bundle(tmp_path_factory.mktemp("bundle") / "random")


@pytest.fixture(scope="session")
def frame_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle of random weights without a sequence network."""
    return write_random_bundle(tmp_path_factory.mktemp("bundle") / "frame", sequence=False)
