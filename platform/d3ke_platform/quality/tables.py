"""Rows of the report's tables from the sums: plain values, units in the names.

Columns that begin with `masked_` leave out what the 2 cm rule leaves out, those that begin with
`unweighted_` are of the markers that inverse kinematics did not follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from d3ke.kinematics import MarkerSet
from d3ke.skeleton import Skeleton
from d3ke_platform.quality.label_figures import UNWEIGHTED, WEIGHTED, LabelFigures, TrialFigures
from d3ke_platform.quality.sums import COORDINATE_BINS, Both, CoordinateSums, ErrorSums
from d3ke_platform.schema import Column, Table

Row = dict[str, Any]
QUALITY_TRIALS = Table(
    "quality_trials",
    (
        Column("trial_id", "string"),
        Column("subject", "string"),
        Column("movement", "string"),
        Column("frames", "int32"),
        Column("rms_mm", "float64", unit="mm", description="markers with a weight"),
        Column("masked_rms_mm", "float64", unit="mm", description="without masked marker-frames"),
        Column("max_mm", "float64", unit="mm"),
        Column("over_percent", "float64", unit="%", description="marker-frames over the threshold"),
        Column("unconverged", "int32", description="frames that the solver did not finish"),
        Column("masked_percent", "float64", unit="%", description="coordinates that are no labels"),
        Column("worst_row", "int32", description="row of LABELS with the largest RMS, -1: none"),
        Column("worst_row_rms_mm", "float64", unit="mm"),
        Column("worst_marker", "string", description="the one with the largest RMS"),
    ),
)
"""A row for every trial that has labels; `TrialFigures` as columns."""
_SHARES = {"low_1": 0.01, "median": 0.5, "high_99": 0.99}


def overall(figures: LabelFigures) -> Row:
    """All trials together, and the mean over subjects."""
    by_subject = [s.unmasked.figures(WEIGHTED)["rms_mm"] for s in figures.by_subject.values()]
    known = [value for value in by_subject if value is not None]
    frames, usable = figures.frames, figures.coordinates.masked.frames
    return {
        "trials": len(figures.trials),
        "frames": frames,
        "unconverged_frames": figures.unconverged,
        **errors_row(figures.overall),
        "mean_over_subjects_rms_mm": float(np.mean(known)) if known else None,
        "worst_subject_rms_mm": max(known, default=None),
        "masked_coordinates_percent": 100 * (1 - float(usable.mean()) / frames) if frames else None,
    }


def group_rows(figures: LabelFigures, key: str) -> list[Row]:
    """A row for every "subject" or "movement" that has labels."""
    groups = figures.by_subject if key == "subject" else figures.by_movement
    trials_of: dict[str, list[TrialFigures]] = {name: [] for name in groups}
    for trial in figures.trials:
        trials_of[getattr(trial, key)].append(trial)
    rows = []
    for name, sums in groups.items():
        trials = trials_of[name]
        frames = sum(trial.frames for trial in trials)
        masked = sum(trial.masked_percent * trial.frames for trial in trials if trial.frames)
        rows.append(
            {
                key: name,
                "trials": len(trials),
                "frames": frames,
                **errors_row(sums),
                "masked_coordinates_percent": masked / frames if frames else None,
            }
        )
    return rows


def errors_row(sums: Both[ErrorSums]) -> Row:
    """Figures of the weighted markers, masked too, and of the others, from sums of groups."""
    return {
        **sums.unmasked.figures(WEIGHTED),
        **_prefixed("masked_", sums.masked.figures(WEIGHTED)),
        **_prefixed("unweighted_", sums.unmasked.figures(UNWEIGHTED)),
        **_prefixed("unweighted_masked_", sums.masked.figures(UNWEIGHTED)),
    }


def marker_rows(figures: LabelFigures, marker_set: MarkerSet) -> list[Row]:
    """A row for every marker, in the model's order."""
    rows = []
    for index, (name, weight) in enumerate(
        zip(figures.meaning.markers, figures.meaning.weights, strict=True)
    ):
        rows.append(
            {
                "marker": name,
                "body": marker_set.body_after_scaling(name) if name in marker_set.names else "",
                "weight": float(weight),
                **figures.by_marker.unmasked.figures(index),
                **_prefixed("masked_", figures.by_marker.masked.figures(index)),
            }
        )
    return rows


def coordinate_rows(
    figures: LabelFigures, skeleton: Skeleton, undetermined: Sequence[str]
) -> list[Row]:
    """A row for every coordinate, in the model's order; degrees, or metres for translations."""
    factors = np.where(skeleton.coordinate_rotational, np.degrees(1.0), 1.0)
    unmasked = _ranges(figures.coordinates.unmasked, factors)
    masked = _ranges(figures.coordinates.masked, factors)
    frames, usable = figures.frames, figures.coordinates.masked.frames
    rows = []
    for index, name in enumerate(skeleton.coordinates):
        low, high = skeleton.coordinate_ranges[index] * factors[index]
        rows.append(
            {
                "coordinate": name,
                "unit": "deg" if skeleton.coordinate_rotational[index] else "m",
                "kind": _kind(skeleton, index, undetermined),
                "model_low": float(low),
                "model_high": float(high),
                "masked_share_percent": 100 * (1 - int(usable[index]) / frames) if frames else None,
                **unmasked[index],
                **_prefixed("masked_", masked[index]),
            }
        )
    return rows


def _ranges(sums: CoordinateSums, factors: np.ndarray) -> list[Row]:
    quantiles = {
        name: COORDINATE_BINS.quantile(sums.bins, share) * factors
        for name, share in _SHARES.items()
    }
    counts = {"below": sums.below, "above": sums.above, "at_limit": sums.at_limit}
    rows = []
    for index, frames in enumerate(sums.frames):
        low = sums.smallest[index] * factors[index]
        high = sums.largest[index] * factors[index]
        rows.append(
            {
                "frames": int(frames),
                "smallest": float(low),
                # A bin's middle may lie beyond the extremes, which are exact.
                **{n: float(np.clip(q[index], low, high)) for n, q in quantiles.items()},
                "largest": float(high),
                **{
                    f"{name}_percent": 100 * int(count[index]) / int(frames) if frames else None
                    for name, count in counts.items()
                },
            }
        )
    return rows


def _kind(skeleton: Skeleton, index: int, undetermined: Sequence[str]) -> str:
    """What a reader has to know of a coordinate to judge its figures."""
    name = skeleton.coordinates[index]
    if name in skeleton.root_coordinates:
        return "root"
    if name in undetermined:
        return "undetermined"
    if name in skeleton.coupled:
        return "coupled"
    return "locked" if skeleton.coordinate_locked[index] else "free"


def trial_rows(trials: Sequence[TrialFigures]) -> list[Row]:
    """Rows of `QUALITY_TRIALS`."""
    return [asdict(trial) for trial in trials]


def plain(value: Any) -> Any:
    """Rows with None for NaN and infinity, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _prefixed(prefix: str, row: Mapping[str, Any]) -> Row:
    return {f"{prefix}{key}": value for key, value in row.items()}
