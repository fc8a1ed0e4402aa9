"""The tests of training have data and tasks, those of jobs a watch, that these use too."""

from __future__ import annotations

import sys
from pathlib import Path

_TESTS = Path(__file__).parents[2]
sys.path[:0] = [str(_TESTS / "d3ke_platform" / "training"), str(_TESTS / "jobs")]
