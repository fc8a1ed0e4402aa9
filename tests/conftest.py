"""What all tests share: one Ray session, sized to the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from d3ke_platform import runtime

# Set before any test imports torch: the tests share few cores with Ray's workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[runtime.Session]:
    """The shared Ray session; its logical CPUs exceed the machine's by two."""
    with runtime.connect() as session:
        yield session
