"""Prometheus' programs, where the machine has them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def tool(name: str) -> Path:
    """Path of `prometheus` or `promtool`; skips the test where there is none."""
    folder = os.environ.get("D3KE_PROMETHEUS", "")
    found = shutil.which(name, path=folder or None)
    if found is None:
        pytest.skip(
            f"{name} is not installed: apt-get install prometheus, or unpack the package and "
            "name its usr/bin in D3KE_PROMETHEUS (dashboards/README.md)"
        )
    return Path(found)
