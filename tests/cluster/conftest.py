"""Small data for jobs on several hosts comes from the other tests."""

from __future__ import annotations

import sys
from pathlib import Path

_PLATFORM = Path(__file__).parents[1] / "d3ke_platform"
sys.path[:0] = [str(_PLATFORM), str(_PLATFORM / "training"), str(_PLATFORM / "stages")]
