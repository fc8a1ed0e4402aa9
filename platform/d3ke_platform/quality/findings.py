"""What a person should look at first: sentences made from the tables by fixed rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from d3ke_platform.quality.label_figures import LabelFigures
from d3ke_platform.quality.scale_factors import ScaleFactors
from d3ke_platform.quality.tables import Row

SUBJECT_RMS_MM = 10.0
"""A subject's marker RMS above this is told: the project's gate for its own labels."""
_UNLIKE_OTHERS = 2.0
"""Times the median of all trials that a trial's RMS is told at."""
_MASKED_PERCENT = 10.0
_OUT_OF_RANGE_PERCENT = 0.1
_AT_LIMIT_PERCENT = 20.0
_NAMED = 6


def findings(
    figures: LabelFigures,
    *,
    counts: Mapping[str, Any],
    tables: Mapping[str, Sequence[Row]],
    scales: ScaleFactors,
    unreadable: Collection[str],
) -> list[str]:
    """Sentences, the graver first; none when nothing stands out.

    Args:
        figures: Sums over the labels.
        counts: trials_planned, trials_labelled, rejects.
        tables: Rows by subject, marker and coordinate.
        scales: Factors of the subjects.
        unreadable: Trials and recordings whose files cannot be read.
    """
    return [
        *_missing(figures, counts, unreadable),
        *_markers(figures, tables),
        *_coordinates(tables["coordinate"]),
        *_scales(scales),
    ]


def _missing(
    figures: LabelFigures, counts: Mapping[str, Any], unreadable: Collection[str]
) -> Iterable[str]:
    lacking = counts["trials_planned"] - counts["trials_labelled"]
    if lacking > 0:
        yield (
            f"{lacking} of {counts['trials_planned']} trials have no labels; "
            "the reasons are under “Left out”."
        )
    elif counts["rejects"]:
        yield f"{counts['rejects']} items were rejected; the reasons are under “Left out”."
    if unreadable:
        yield f"Files that cannot be read: {_some(unreadable)}. Delete them and prepare again."
    if figures.unconverged:
        trials = [f"{t.trial_id} ({t.unconverged})" for t in figures.trials if t.unconverged]
        share = f"{figures.unconverged} of {figures.frames}"
        yield f"Frames that the solver did not finish, all masked: {share}, in {_some(trials)}."
    empty = [trial.trial_id for trial in figures.trials if not np.isfinite(trial.rms_mm)]
    if empty:
        yield f"Trials without a single measured marker that has a weight: {_some(empty)}."


def _markers(figures: LabelFigures, tables: Mapping[str, Sequence[Row]]) -> Iterable[str]:
    bad = [r for r in tables["subject"] if (r["rms_mm"] or 0.0) > SUBJECT_RMS_MM]
    if bad:
        names = _some(f"{r['subject']} ({r['rms_mm']:.1f} mm)" for r in _worst(bad))
        yield f"Subjects whose marker RMS is above {SUBJECT_RMS_MM:.0f} mm: {names}."
    limit_mm = 1e3 * figures.meaning.threshold_m
    weighted = [row for row in tables["marker"] if row["weight"] > 0.0]
    far = [row for row in weighted if (row["rms_mm"] or 0.0) > limit_mm]
    if far:
        names = _some(f"{r['marker']} ({r['rms_mm']:.0f} mm)" for r in _worst(far))
        yield (
            f"Markers whose RMS is above {limit_mm:.0f} mm: {names}. Their place on the model, "
            "their name or their weight may be wrong."
        )
    unseen = [row["marker"] for row in weighted if not row["marker_frames"]]
    if unseen and figures.frames:
        yield f"Markers with a weight that were never measured: {_some(unseen)}."
    rms = np.array([trial.rms_mm for trial in figures.trials if np.isfinite(trial.rms_mm)])
    odd = [
        f"{trial.trial_id} ({trial.rms_mm:.1f} mm)"
        for trial in figures.worst_trials(len(rms))
        if trial.rms_mm > _UNLIKE_OTHERS * np.median(rms)
    ]
    if odd:
        text = f"{_UNLIKE_OTHERS:.0f} times the median over trials ({np.median(rms):.1f} mm)"
        yield f"Trials whose marker RMS is above {text}: {_some(odd)}."


def _coordinates(rows: Sequence[Row]) -> Iterable[str]:
    masked = [
        row
        for row in rows
        if row["kind"] != "undetermined" and (row["masked_share_percent"] or 0) > _MASKED_PERCENT
    ]
    if masked:
        masked.sort(key=lambda row: -row["masked_share_percent"])
        names = _some(f"{r['coordinate']} ({r['masked_share_percent']:.0f} %)" for r in masked)
        yield f"Coordinates masked in more than {_MASKED_PERCENT:.0f} % of the frames: {names}."
    shares = {row["coordinate"]: beyond_percent(row) for row in rows}
    out = {name: share for name, share in shares.items() if share > _OUT_OF_RANGE_PERCENT}
    if out:
        ordered = sorted(out.items(), key=lambda item: -item[1])
        names = _some(f"{name} ({share:.1f} %)" for name, share in ordered)
        yield f"Usable angles beyond the model's range, share of frames: {names}."

    held = [
        row
        for row in rows
        if row["kind"] == "free" and (row["masked_at_limit_percent"] or 0.0) > _AT_LIMIT_PERCENT
    ]
    if held:
        held.sort(key=lambda row: -row["masked_at_limit_percent"])
        names = _some(f"{r['coordinate']} ({r['masked_at_limit_percent']:.0f} %)" for r in held)
        yield (
            f"Angles at an end of the model's range in more than {_AT_LIMIT_PERCENT:.0f} % of the "
            f"usable frames, where inverse kinematics was held back: {names}."
        )


def beyond_percent(row: Row) -> float:
    """Share [%] of a coordinate's usable frames beyond the model's range."""
    return float((row["masked_below_percent"] or 0) + (row["masked_above_percent"] or 0))


def _scales(scales: ScaleFactors) -> Iterable[str]:
    if scales.outliers:
        names = _some(
            f"{subject}: {factor} {text}"
            for subject, reasons in scales.outliers.items()
            for factor, text in reasons.items()
        )
        yield f"Scale factors that look odd: {names}."


def _worst(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -row["rms_mm"])


def _some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
