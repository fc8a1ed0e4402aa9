"""The platform around D3KE: data sets, training, scoring and evaluation of videos on Ray."""

from __future__ import annotations

__version__ = "0.1.0"
