"""Trials that no other trial beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from d3ke.arrays import BoolArray
from d3ke_platform.tuning.ledger import TrialRecord

SPEED, POSITION = "mv_main_deg_s", "mpblpe_mm"
"""Errors beside the value: mean velocity (equation 13) and bony landmarks."""


def pareto_front(points: Sequence[Sequence[float]]) -> BoolArray:
    """Which of n points [n,K] are on the front when everything is to be low.

    A point is off it if another one is nowhere higher and somewhere lower; NaN never is on it.
    """
    values = np.asarray(points, float)
    if not len(values):
        return np.zeros(0, bool)
    usable = np.isfinite(values).all(axis=1)
    nowhere_higher = (values[:, None] <= values[None]).all(axis=-1)
    somewhere_lower = (values[:, None] < values[None]).any(axis=-1)
    beaten = (nowhere_higher & somewhere_lower & usable[:, None]).any(axis=0)
    return usable & ~beaten


def front_of(records: Sequence[TrialRecord], errors: Sequence[str]) -> list[TrialRecord]:
    """Records on the front of the value and the named `errors`, by rising value."""
    valued = [r for r in records if r.value is not None and r.state != "failed"]
    points = [[number(r.value), *(number(r.errors.get(name)) for name in errors)] for r in valued]
    on = pareto_front(points)
    chosen = [record for record, keep in zip(valued, on, strict=True) if keep]
    return sorted(chosen, key=lambda record: number(record.value))


def number(value: float | None) -> float:
    """NaN for None."""
    return float("nan") if value is None else float(value)
