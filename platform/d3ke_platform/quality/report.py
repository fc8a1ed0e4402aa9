"""The label-quality page of a data set, and its figures as files.

quality.html is the page, one file; quality.json holds every figure on it, quality_trials.parquet a
row per trial (`tables.QUALITY_TRIALS`). Sections of sources come from the folder quality/ (see
`sections`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.evaluation.page import environment
from d3ke_platform.evaluation.plotting import Picture
from d3ke_platform.quality import charts, tables
from d3ke_platform.quality.findings import SUBJECT_RMS_MM, findings
from d3ke_platform.quality.label_figures import LabelFigures
from d3ke_platform.quality.reject_groups import group_rejects, relative
from d3ke_platform.quality.scale_factors import ScaleFactors, read_scale_factors
from d3ke_platform.quality.sections import read_sections
from d3ke_platform.quality.storage_use import FIGURES, PAGE, TRIALS_TABLE, storage_use
from d3ke_platform.quality.trial_pictures import worst_trial_pictures

WORST_TRIALS = 10
_FORMAT, _VERSION = "d3ke.quality", 1
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Quality:
    """All figures of the page: `content` is what quality.json holds."""

    content: dict[str, Any]
    scales: ScaleFactors


def write_quality(data: DataSet, figures: LabelFigures, *, worst: int = WORST_TRIALS) -> str:
    """Write the page and its files into the data set; returns the page's location.

    A data set without labels gets a page that says so. Raises UnwritableError.
    """
    quality = collect(data, figures)
    content = quality.content
    storage.write_json(data.uri(FIGURES), content)
    rows = tables.trial_rows(figures.trials)
    storage.write_table(data.uri(TRIALS_TABLE), tables.QUALITY_TRIALS.from_rows(rows))
    template = environment(_TEMPLATES).get_template("quality.html.j2")
    page = template.render(
        quality=content,
        sections=read_sections(data),
        settings=flattened(data.settings),
        pictures=_charts(quality) | {"worst": worst_trial_pictures(data, figures, count=worst)},
        threshold_mm=1e3 * figures.meaning.threshold_m,
        subject_mm=SUBJECT_RMS_MM,
        files={"json": FIGURES, "trials": TRIALS_TABLE},
        distribution=_shown(charts.error_distribution(figures)),
    )
    storage.write_bytes(data.uri(PAGE), page.encode())
    return data.uri(PAGE)


def collect(data: DataSet, figures: LabelFigures) -> Quality:
    """Every figure of a data set as plain values."""
    marker_set = data.marker_set()
    scales = read_scale_factors(data)
    rejects = data.rejects()
    use = storage_use(data, labels=figures.frames)
    by_name = {row["subject"]: row for row in data.subjects()}
    subject_rows = [
        {"split": by_name.get(row["subject"], {}).get("split"), **row}
        for row in tables.group_rows(figures, "subject")
    ]
    rows = {
        "subject": subject_rows,
        "movement": tables.group_rows(figures, "movement"),
        "marker": tables.marker_rows(figures, marker_set),
        "coordinate": tables.coordinate_rows(figures, data.skeleton(), marker_set.undetermined),
    }
    counts = _counts(data, figures, scales, use) | {"rejects": len(rejects)}
    broken: dict[str, str] = figures.unreadable | use.pop("unreadable_crops")
    unreadable = {name: relative(reason, data.root) for name, reason in broken.items()}
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "source": data.description["source"],
        "settings_hash": data.description["settings_hash"],
        "settings": data.settings,
        "threshold_mm": 1e3 * figures.meaning.threshold_m,
        "findings": findings(
            figures, counts=counts, tables=rows, scales=scales, unreadable=unreadable
        ),
        "counts": counts,
        "overall": tables.overall(figures),
        "subjects": rows["subject"],
        "movements": rows["movement"],
        "markers": rows["marker"],
        "coordinates": rows["coordinate"],
        "scale_factors": scales.rows(),
        "rejects": group_rejects(rejects, data.root),
        "unreadable": unreadable,
        "storage": use,
        "worst_trials": tables.trial_rows(figures.worst_trials(WORST_TRIALS)),
    }
    return Quality(content=tables.plain(content), scales=scales)


def _counts(
    data: DataSet, figures: LabelFigures, scales: ScaleFactors, use: Mapping[str, Any]
) -> dict[str, Any]:
    """How much there is, planned and done, in all and by split."""
    subjects, trials, recordings = data.subjects(), data.trials(), data.recordings()
    rates = {row["trial_id"]: row["rate_hz"] for row in trials}
    seconds = sum(t.frames / rates[t.trial_id] for t in figures.trials if t.trial_id in rates)
    split_of = {row["trial_id"]: row["split"] for row in trials}
    splits: dict[str, dict[str, int]] = {}
    for subject in subjects:
        row = splits.setdefault(subject["split"], {"subjects": 0, "trials": 0, "frames": 0})
        row["subjects"] += 1
    for trial in figures.trials:
        if trial.trial_id in split_of:
            row = splits.setdefault(
                split_of[trial.trial_id], {"subjects": 0, "trials": 0, "frames": 0}
            )
            row["trials"] += 1
            row["frames"] += trial.frames
    return {
        "subjects_planned": len(subjects),
        "subjects_scaled": len(scales.subjects),
        "trials_planned": len(trials),
        "trials_labelled": len(figures.trials),
        "label_frames": figures.frames,
        "label_seconds": seconds,
        "recordings_planned": len(recordings),
        "recordings_with_crops": use["recordings_with_crops"],
        "crops": use["crops"],
        "splits": splits,
    }


def _charts(quality: Quality) -> dict[str, list[Picture]]:
    content = quality.content
    limit_mm = content["threshold_mm"]
    explained = (
        "Distance between the measured marker and the same marker on the scaled model after "
        "inverse kinematics, markers with a weight. Bar: RMS, dot: RMS without what the "
        f"{limit_mm:.0f} mm rule masks, tick: 95th percentile."
    )
    drawn = {
        "subjects": [
            charts.error_bars(
                content["subjects"],
                "subject",
                heading="Marker error by subject",
                caption=f"{explained} Red: above {SUBJECT_RMS_MM:.0f} mm.",
                limit_mm=SUBJECT_RMS_MM,
            )
        ],
        "movements": [
            charts.error_bars(
                content["movements"],
                "movement",
                heading="Marker error by movement",
                caption=f"As above; red: above {SUBJECT_RMS_MM:.0f} mm.",
                limit_mm=SUBJECT_RMS_MM,
            )
        ],
        "markers": [
            charts.error_bars(
                [row for row in content["markers"] if row["weight"] > 0.0],
                "marker",
                heading="Marker error by marker",
                caption=f"As above; red: above {limit_mm:.0f} mm.",
                limit_mm=limit_mm,
            )
        ],
        "masked": [charts.masked_shares(content["coordinates"])],
        "ranges": [charts.ranges(content["coordinates"], unit) for unit in ("deg", "m")],
        "scales": [charts.scale_chart(quality.scales)],
    }
    return {name: [one for one in shown if one] for name, shown in drawn.items()}


def _shown(chart: Picture | None) -> list[Picture]:
    return [chart] if chart else []


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted name -> text."""
    result: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            result |= flattened(value, f"{prefix}{key}.")
        else:
            listed = isinstance(value, (list, tuple))
            result[f"{prefix}{key}"] = ", ".join(map(str, value)) if listed else str(value)
    return result
