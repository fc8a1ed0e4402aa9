"""Figures of the report's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from d3ke_platform.evaluation.plotting import (
    Picture,
    legend,
    panels,
    picture,
    series_color,
)
from d3ke_platform.quality.label_figures import UNWEIGHTED, WEIGHTED, LabelFigures
from d3ke_platform.quality.scale_factors import ScaleFactors
from d3ke_platform.quality.sums import ERROR_BINS
from d3ke_platform.quality.tables import Row

BLUE, ORANGE, RED = series_color(0), series_color(1), series_color(4)
_PALE, _GREY, _INK = "#b9d3ea", "#d9dde2", "#20242a"
_MOST_BARS = 60
_ROW_INCHES = 0.19


def error_bars(
    rows: Sequence[Row], key: str, *, heading: str, caption: str, limit_mm: float, columns: int = 2
) -> Picture | None:
    """RMS of every row (bar), after the mask (dot) and 95th percentile (tick), worst first."""
    known = sorted((r for r in rows if r["rms_mm"] is not None), key=lambda r: -r["rms_mm"])
    if not known:
        return None
    shown = known[:_MOST_BARS]
    columns = min(columns, 1 + (len(shown) - 1) // 8)
    each = -(-len(shown) // columns)
    figure, axes = panels(1, columns, width=10, height=0.95 + _ROW_INCHES * max(each, 4))
    reach = 1.04 * max(max(row["p95_mm"], row["rms_mm"]) for row in shown)
    for number, axis in enumerate(axes[0]):
        part = shown[number * each : (number + 1) * each]
        place = np.arange(len(part))
        rms = [row["rms_mm"] for row in part]
        colors = [RED if value > limit_mm else BLUE for value in rms]
        axis.barh(place, rms, height=0.66, color=colors, alpha=0.75, label="RMS")
        masked = [np.nan if r["masked_rms_mm"] is None else r["masked_rms_mm"] for r in part]
        axis.plot(masked, place, "o", color=_INK, markersize=3.2, label="RMS after the mask")
        p95 = [row["p95_mm"] for row in part]
        axis.plot(p95, place, "|", color=_INK, markersize=7, label="95th percentile")
        axis.set_yticks(place, [str(row[key]) for row in part], fontsize=8)
        axis.set_ylim(max(each, 4) - 0.4, -0.6)
        axis.set_xlim(0, max(reach, 1e-3))
        axis.grid(visible=False, axis="y")
        if limit_mm < reach:
            axis.axvline(limit_mm, color=RED, linewidth=1, linestyle="--")
        axis.set_xlabel("distance [mm]")
    _legend_above(figure, axes[0, -1])
    if len(known) > len(shown):
        caption += f" The worst {len(shown)} of {len(known)}; all are in the table."
    return picture(figure, heading=heading, caption=caption)


def _legend_above(figure: Any, axis: Any) -> None:
    """Explains a figure without covering a bar."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=4, fontsize=8, frameon=False)


def error_distribution(figures: LabelFigures) -> Picture | None:
    """Histogram of all distances, of weighted markers and of the others."""
    bins = figures.overall.unmasked.bins
    if not bins[WEIGHTED].any():
        return None
    limit_mm = 1e3 * figures.meaning.threshold_m
    edges = np.arange(0.0, 3.0 * limit_mm + 0.5, 1.0)
    figure, axes = panels(1, 1, width=10, height=2.2)
    axis = axes[0, 0]
    for row, color, name in (
        (WEIGHTED, BLUE, "markers with a weight"),
        (UNWEIGHTED, ORANGE, "markers without"),
    ):
        if bins[row].any():
            shares = 100.0 * bins[row] / bins[row].sum()
            # Everything beyond the axis is in the last bar.
            values = np.minimum(1e3 * ERROR_BINS.centers, edges[-1] - 0.5)
            heights, _ = np.histogram(values, bins=edges, weights=shares)
            axis.stairs(heights, edges, color=color, fill=row == WEIGHTED, alpha=0.75, label=name)
    axis.axvline(limit_mm, color=RED, linewidth=1, linestyle="--")
    axis.set(xlabel="distance of measured and model marker [mm]", ylabel="marker-frames [%]")
    axis.set_xlim(0, edges[-1])
    legend(axis)
    return picture(
        figure,
        heading="All distances",
        caption=f"Dashed: the {limit_mm:.0f} mm beyond which a marker masks the coordinates of its "
        "joint. The last bar holds everything further out.",
    )


def masked_shares(rows: Sequence[Row]) -> Picture | None:
    """Share of the frames in which a coordinate is no label."""
    shown = [row for row in rows if row["masked_share_percent"]]
    if not shown:
        return None
    shown.sort(key=lambda row: -row["masked_share_percent"])
    number_masked = len(shown)
    shown = shown[:_MOST_BARS]
    columns = min(2, 1 + (len(shown) - 1) // 8)
    each = -(-len(shown) // columns)
    figure, axes = panels(1, columns, width=10, height=0.95 + _ROW_INCHES * max(each, 4))
    reach = 1.05 * shown[0]["masked_share_percent"]
    for number, axis in enumerate(axes[0]):
        part = shown[number * each : (number + 1) * each]
        place = np.arange(len(part))
        axis.barh(place, [r["masked_share_percent"] for r in part], height=0.66, color=ORANGE)
        axis.set_yticks(place, [row["coordinate"] for row in part], fontsize=8)
        axis.set_ylim(max(each, 4) - 0.4, -0.6)
        axis.set_xlim(0, reach)
        axis.grid(visible=False, axis="y")
        axis.set_xlabel("frames masked [%]")
    return picture(
        figure,
        heading="Share masked, by coordinate",
        caption="Frames in which a marker of full weight of the coordinate's joint is off by more "
        f"than the threshold. Shown are the {len(shown)} most masked of {number_masked} that ever "
        "are.",
    )


def ranges(rows: Sequence[Row], unit: str) -> Picture | None:
    """Model's range (grey), 1 to 99 % (thick) and extremes (thin) of the coordinates of a unit."""
    shown = [row for row in rows if row["unit"] == unit and row["frames"]]
    if not shown:
        return None
    columns = 2 if len(shown) > 8 else 1
    each = -(-len(shown) // columns)
    figure, axes = panels(1, columns, width=10, height=1.0 + _ROW_INCHES * max(each, 3))
    for number, axis in enumerate(axes[0]):
        _draw_ranges(axis, shown[number * each : (number + 1) * each], each)
        axis.set_xlabel("angle [°]" if unit == "deg" else "position [m]")
    _legend_above(figure, axes[0, -1])
    return picture(
        figure,
        heading="Angles against the model's ranges" if unit == "deg" else "Translations",
        caption="Grey: what the model allows. Thick: 1 to 99 % of the usable frames, thin: their "
        "extremes, tick: median; pale: extremes of all frames, masked ones too. Red: some usable "
        "frame lies beyond the range.",
    )


def _draw_ranges(axis: Any, rows: Sequence[Row], each: int) -> None:
    data = [row[key] for row in rows for key in ("smallest", "largest")]
    low, high = min(data), max(data)
    pad = 0.08 * (high - low) or 1.0
    for place, row in enumerate(rows):
        # A range far beyond the data (1800 degrees) would leave no room for the data.
        left, right = max(row["model_low"], low - pad), min(row["model_high"], high + pad)
        if right > left:
            axis.barh(place, right - left, left=left, height=0.8, color=_GREY, linewidth=0)
        axis.plot([row["smallest"], row["largest"]], [place] * 2, color=_PALE, linewidth=3.2)
        if not row["masked_frames"]:
            continue
        out = (row["masked_below_percent"] or 0) + (row["masked_above_percent"] or 0) > 0
        color = RED if out else BLUE
        extremes = [row["masked_smallest"], row["masked_largest"]]
        axis.plot(extremes, [place] * 2, color=color, linewidth=1.2)
        inner = [row["masked_low_1"], row["masked_high_99"]]
        axis.plot(inner, [place] * 2, color=color, linewidth=4.2, solid_capstyle="butt")
        axis.plot(row["masked_median"], place, "|", color=_INK, markersize=6)
    axis.plot([], [], color=_GREY, linewidth=7, label="model's range")
    axis.plot([], [], color=BLUE, linewidth=4.2, label="1 to 99 %")
    axis.plot([], [], color=RED, linewidth=4.2, label="beyond the range")
    axis.set_yticks(range(len(rows)), [row["coordinate"] for row in rows], fontsize=7.5)
    axis.set_ylim(max(each, 3) - 0.4, -0.6)
    axis.set_xlim(low - pad, high + pad)
    axis.grid(visible=False, axis="y")


def scale_chart(scales: ScaleFactors) -> Picture | None:
    """Every subject a dot in the column of a factor; odd ones red and named."""
    if not scales.values.size:
        return None
    figure, axes = panels(1, 1, width=10, height=3.6)
    axis = axes[0, 0]
    count = len(scales.subjects)
    spread = np.linspace(-0.25, 0.25, count) if count > 1 else np.zeros(1)
    for column, name in enumerate(scales.names):
        odd = np.array([name in scales.outliers.get(s, {}) for s in scales.subjects])
        values = scales.values[:, column]
        size, alpha = (10, 0.7) if count <= 60 else (4, 0.4)
        axis.scatter(column + spread[~odd], values[~odd], s=size, color=BLUE, alpha=alpha, lw=0)
        axis.scatter(column + spread[odd], values[odd], s=16, color=RED, lw=0, zorder=3)
        for row in np.flatnonzero(odd)[:3]:
            axis.annotate(
                scales.subjects[row],
                (column + spread[row], values[row]),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=RED,
            )
        middle = float(np.median(values))
        axis.plot([column - 0.36, column + 0.36], [middle] * 2, color=_INK, linewidth=1)
    axis.axhline(1.0, color=_GREY, linewidth=1)
    axis.set_xticks(range(len(scales.names)), scales.names, rotation=90, fontsize=7.5)
    axis.set_xlim(-0.8, len(scales.names) - 0.2)
    axis.grid(visible=False, axis="x")
    axis.set_ylabel("factor on the model [–]")
    return picture(
        figure,
        heading="Scale factors",
        caption="Every dot is a subject, the line their median; 1 is the unscaled model. Red: "
        "unlike the other subjects once a subject's size is taken out, unlike its other side, or "
        "no person's size.",
    )
