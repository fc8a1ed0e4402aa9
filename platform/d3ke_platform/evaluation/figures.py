"""Figures of the evaluation's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from d3ke_platform.evaluation.comparison import METHODS, RecordingComparison
from d3ke_platform.evaluation.label_quality import LabelQuality
from d3ke_platform.evaluation.metrics import EvaluationMetrics
from d3ke_platform.evaluation.plotting import (
    COLORS,
    Picture,
    legend,
    panels,
    picture,
    series_color,
    title,
)

_CURVES = 6
_WORST_MARKERS = 20
_PREFERRED = (
    "knee_angle_r",
    "hip_flexion_r",
    "elbow_flexion",
    "shoulder_elv",
    "hip_adduction_l",
    "ankle_angle_r",
)


def angle_curves(
    comparisons: Sequence[RecordingComparison], metrics: EvaluationMetrics
) -> Picture | None:
    """Label and both networks over time, each coordinate in the trial where it moves most."""
    chosen = curve_coordinates(metrics)
    if not chosen:
        return None
    rows = -(-len(chosen) // 2)
    figure, axes = panels(rows, 2, width=10, height=2.3 * rows)
    for axis in axes.flat[len(chosen) :]:
        axis.set_visible(False)
    for axis, name in zip(axes.flat, chosen, strict=False):
        index = metrics.coordinates.index(name)
        ranges = [float(np.ptp(c.truth.coordinates[:, index])) for c in comparisons]
        item = comparisons[int(np.argmax(ranges))]
        time_s = item.truth.time_s
        label = np.degrees(item.truth.coordinates[:, index])
        axis.plot(time_s, label, color=COLORS["label"], linewidth=2.2, label="Label (OpenSim)")
        for method in ("per_frame", "sequence"):
            if method in item.estimates:
                values = np.degrees(item.estimates[method].coordinates[:, index])
                width = 1.0 if method == "per_frame" else 1.8
                axis.plot(
                    time_s, values, color=COLORS[method], linewidth=width, label=METHODS[method]
                )
        recording = item.recording
        title(axis, f"{name}  ·  {recording['movement']}, {recording['camera']} camera")
        axis.set_ylabel("angle [°]")
    for axis in axes[-1]:
        axis.set_xlabel("time [s]")
    legend(axes.flat[0])
    return picture(
        figure,
        heading="Angles over time",
        caption="Held-out subjects. Each coordinate is shown in the trial where its label has the "
        "largest range.",
    )


def curve_coordinates(metrics: EvaluationMetrics) -> list[str]:
    """Familiar coordinates among those that move, then those that move most."""
    deviation = metrics.labels.angles.std(axis=0)
    by_motion = sorted(metrics.groups["moving"], key=lambda index: -deviation[index])
    names = [metrics.coordinates[index] for index in by_motion]
    familiar = [name for name in _PREFERRED if name in names]
    return [*familiar, *(name for name in names if name not in familiar)][:_CURVES]


def error_bars(metrics: EvaluationMetrics) -> Picture | None:
    """Masked MAE of every moving coordinate, by method."""
    rows = {(r["coordinate"], r["method"]): r for r in metrics.tables["coordinates"]}
    names = sorted(metrics.moving, key=lambda n: -(rows[n, "mean_angle"].get("mae_deg") or 0.0))
    if not names:
        return None
    figure, axes = panels(1, 1, width=10, height=1.2 + 0.27 * len(names))
    axis = axes[0, 0]
    place = np.arange(len(names))
    for method in metrics.methods:
        values = [rows[name, method].get("mae_deg", np.nan) for name in names]
        if method == "mean_angle":
            axis.barh(place, values, height=0.7, color=COLORS[method], label=METHODS[method])
        else:
            marker = "o" if method == "per_frame" else "D"
            axis.plot(values, place, marker, color=COLORS[method], label=METHODS[method])
    axis.set_yticks(place, names)
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("mean absolute error [°]")
    legend(axis, loc="lower right")
    return picture(
        figure,
        heading="Error of every moving coordinate",
        caption="Left of the end of the grey bar = better than always saying the training mean. "
        "Frames whose label cannot be trusted (2 cm rule) are left out.",
    )


def scatter(metrics: EvaluationMetrics) -> Picture | None:
    """Label against the final method's estimate for a few coordinates, every frame a dot."""
    method = "sequence" if "sequence" in metrics.methods else "per_frame"
    chosen = curve_coordinates(metrics)[:4]
    if not chosen:
        return None
    figure, axes = panels(1, len(chosen), width=10, height=2.8)
    for axis, name in zip(axes[0], chosen, strict=True):
        index = metrics.coordinates.index(name)
        use = metrics.labels.mask[:, index]
        label = np.degrees(metrics.labels.angles[use, index])
        estimate = np.degrees(metrics.methods[method].angles[use, index])
        if not label.size:
            continue
        low, high = min(label.min(), estimate.min()), max(label.max(), estimate.max())
        axis.plot([low, high], [low, high], color=COLORS["mean_angle"], linewidth=1)
        axis.scatter(label, estimate, s=5, alpha=0.45, color=COLORS[method], linewidths=0)
        title(axis, name)
        axis.set_xlabel("label [°]")
    axes[0, 0].set_ylabel(f"{METHODS[method].lower()} [°]")
    return picture(
        figure,
        heading="Estimate against label",
        caption="Every dot is a frame; the line is equality.",
    )


def label_errors(quality: LabelQuality) -> Picture:
    """Marker RMS by subject and of the worst markers."""
    subjects = quality.summary.marker_rms_mm_by_subject
    worst = sorted(quality.rms_mm_by_marker.items(), key=lambda item: -item[1])[:_WORST_MARKERS]
    height = 0.9 + 0.2 * max(len(subjects), len(worst))
    figure, axes = panels(1, 2, width=10, height=height)
    groups = (
        ("By subject", list(subjects.items()), series_color(0), 10.0),
        (f"Worst {len(worst)} markers", worst, series_color(2), 20.0),
    )
    for axis, (text, items, color, limit) in zip(axes[0], groups, strict=True):
        place = np.arange(len(items))
        axis.barh(place, [value for _, value in items], height=0.65, color=color)
        axis.set_yticks(place, [name for name, _ in items], fontsize=8)
        axis.set_ylim(max(len(items), _WORST_MARKERS // 2) - 0.5, -0.5)
        axis.grid(visible=False, axis="y")
        axis.axvline(limit, color="#b5493b", linewidth=1, linestyle="--")
        title(axis, text)
        axis.set_xlabel("marker RMS [mm]")
    return picture(
        figure,
        heading="Marker errors of the labels",
        caption="Distance between the marker and the same marker on the scaled OpenSim model after "
        "inverse kinematics, all trials. Dashed: 10 mm for a subject, 20 mm (the paper's rule) for "
        "a marker.",
    )


def training_curves(rows: Sequence[Mapping[str, Any]]) -> Picture | None:
    """Loss and validation error of every epoch, from the run's progress file."""
    stages = [s for s in ("frame", "sequence") if any(r["stage"] == s for r in rows)]
    if not stages:
        return None
    figure, axes = panels(1, 2 * len(stages), width=10, height=2.5)
    names = {"frame": "Per-frame network", "sequence": "Sequence network"}
    for number, stage in enumerate(stages):
        mine = [row for row in rows if row["stage"] == stage]
        loss, error = axes[0, 2 * number], axes[0, 2 * number + 1]
        trained = [row for row in mine if "loss_total" in row]
        loss.plot(
            [r["epoch"] for r in trained],
            [r["loss_total"] for r in trained],
            marker=".",
            color=series_color(0),
        )
        for index, group in enumerate(("main", "legs", "all")):
            key = f"val_mae_{group}_deg"
            values = [row.get(key, np.nan) for row in mine]
            epochs = [row["epoch"] for row in mine]
            error.plot(epochs, values, marker=".", color=series_color(index), label=group)
        title(loss, names[stage])
        title(error, "Validation subjects")
        loss.set(ylabel="training loss", xlabel="epoch")
        error.set(ylabel="angle error [°]", xlabel="epoch")
        legend(error)
    return picture(
        figure,
        heading="Training",
        caption="Loss on the training subjects (equation 1) and mean absolute angle error on the "
        "validation subjects after every epoch.",
    )
