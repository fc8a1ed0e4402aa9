"""Makes the project's packages importable where it is not installed, as on a bare Ray cluster."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
for _package, _folder in (("d3ke", _ROOT), ("d3ke_platform", _ROOT / "platform")):
    if importlib.util.find_spec(_package) is None:
        sys.path.insert(0, str(_folder))
