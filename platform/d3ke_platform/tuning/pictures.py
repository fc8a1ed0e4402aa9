"""Pictures of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize

from d3ke.arrays import FloatArray
from d3ke_platform.evaluation.plotting import Picture, legend, panels, picture, series_color, title
from d3ke_platform.tuning.ledger import Ledger, TrialRecord, curve
from d3ke_platform.tuning.parameters import Choice, Parameter, Range, label
from d3ke_platform.tuning.pareto import POSITION, SPEED, front_of, number
from d3ke_platform.tuning.space import SearchSpace

_COLORS = colormaps["viridis"]
_BEST, _RECIPE, _FAINT = "#b5493b", "#20242a", "#c3c8ce"
_SHOWN_SHARE = 0.9
"""Lines are coloured over the best nine tenths of the errors; the worst would hide the rest."""


def parallel_coordinates(space: SearchSpace, records: Sequence[TrialRecord]) -> Picture | None:
    """Every trial a line across its parameters to its error."""
    valued = _valued(records)
    if len(valued) < 2:
        return None
    errors = np.array([number(record.value) for record in valued])
    scale = Normalize(errors.min(), max(np.quantile(errors, _SHOWN_SHARE), errors.min() + 1e-9))
    count = len(space.parameters) + 1
    figure, axes = panels(1, 1, width=10, height=4.2)
    axis = axes[0, 0]
    heights = np.stack(
        [
            *(_heights(p, [r.parameters[p.name] for r in valued]) for p in space.parameters),
            1 - np.clip(np.asarray(scale(errors)), 0, 1),
        ],
        axis=1,
    )
    best = int(errors.argmin())
    for index in np.argsort(-errors):
        own = valued[index].origin == "recipe"
        color = _BEST if index == best else _RECIPE if own else _COLORS(1 - scale(errors[index]))
        # Equal values of several trials would lie on one line.
        offset = 0.0 if index == best else 0.012 * ((index * 7919) % 5 - 2)
        line = np.r_[heights[index, :-1] + offset, heights[index, -1]]
        text = "best" if index == best else "recipe's own setting" if own else None
        axis.plot(
            range(count),
            line,
            color=color,
            linewidth=2.4 if text else 1.1,
            linestyle="--" if own and index != best else "-",
            alpha=1.0 if text else 0.75,
            zorder=5 if text else 2,
            label=text,
        )
    _name_axes(axis, space.parameters, errors.min(), float(scale.vmax or 0.0))
    legend(axis, loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2)
    return picture(
        figure,
        heading="Parameters and error",
        caption="Every line is a trial; bright lines end at low errors (right axis, lower error "
        "higher up). Lines that meet at one height of an axis show which of its values matter.",
    )


def history(ledger: Ledger, records: Sequence[TrialRecord]) -> Picture | None:
    """Error of every trial in order, with the best so far, and all learning curves."""
    valued = _valued(records)
    if not valued:
        return None
    figure, axes = panels(1, 2, width=10, height=3.2)
    order, curves = axes[0]
    groups = (("finished", "o", series_color(0)), ("stopped", "x", _FAINT))
    for state, marker, color in groups:
        mine = [r for r in valued if r.state == state]
        if mine:
            numbers = [r.number for r in mine]
            values = [number(r.value) for r in mine]
            order.plot(numbers, values, marker, color=color, label=state, zorder=3)
    numbers = [r.number for r in valued]
    lowest = np.minimum.accumulate([number(r.value) for r in valued])
    order.step(numbers, lowest, where="post", color=_BEST, linewidth=1.4, label="best so far")
    title(order, "Trials in order")
    order.set(xlabel="trial", ylabel="validation error [°]")
    order.xaxis.get_major_locator().set_params(integer=True)
    best = min(valued, key=lambda r: number(r.value))
    for record in valued:
        points = curve(ledger.rows(record.number), ledger.metric)
        is_best = record is best
        curves.plot(
            list(points),
            list(points.values()),
            color=_BEST if is_best else series_color(0) if record.state == "finished" else _FAINT,
            linewidth=2 if is_best else 0.9,
            zorder=4 if is_best else 2,
        )
    title(curves, "Epochs of every trial")
    curves.set(xlabel="epoch", ylabel="validation error [°]")
    curves.xaxis.get_major_locator().set_params(integer=True)
    _robust_limits(
        curves, [v for r in valued for v in curve(ledger.rows(r.number), ledger.metric).values()]
    )
    legend(order)
    return picture(
        figure,
        heading="How the search went",
        caption="Left: the lowest error of each trial. Right: grey lines were stopped by ASHA, "
        "because they were not among the best at a rung; red is the best trial.",
    )


def front(records: Sequence[TrialRecord]) -> Picture | None:
    """Error against mean velocity, with the front and what the labels' own velocity is."""
    valued = [r for r in _valued(records) if r.errors.get(SPEED) is not None]
    if len(valued) < 2:
        return None
    figure, axes = panels(1, 1, width=10, height=3.6)
    axis = axes[0, 0]
    errors = [number(r.value) for r in valued]
    speeds = [number(r.errors[SPEED]) for r in valued]
    shades = [number(r.errors.get(POSITION)) for r in valued]
    points = axis.scatter(errors, speeds, c=shades, cmap="viridis_r", s=34, zorder=3, linewidths=0)
    bar = figure.colorbar(points, ax=axis)
    bar.set_label("bony landmarks, MPBLPE [mm]", fontsize=9, color="#3a4048")
    bar.ax.tick_params(labelsize=8.5, color="#5b6570", labelcolor="#5b6570")
    bar.outline.set_visible(False)
    best = front_of(valued, (SPEED,))
    axis.plot(
        [number(r.value) for r in best],
        [number(r.errors[SPEED]) for r in best],
        color=_BEST,
        linewidth=1.4,
        marker="o",
        markerfacecolor="none",
        markersize=9,
        label="Pareto front",
    )
    truth = next((r.errors.get("mv_main_label_deg_s") for r in valued), None)
    if truth is not None:
        _mark_truth(axis, truth, min(speeds), max(speeds))
    own = next((r for r in valued if r.origin == "recipe"), None)
    if own is not None:
        axis.plot(
            number(own.value),
            number(own.errors[SPEED]),
            "*",
            color=_RECIPE,
            markersize=13,
            label="recipe's own setting",
            zorder=4,
        )
    axis.set(xlabel="validation error [°]", ylabel="mean velocity MV [°/s]")
    legend(axis)
    return picture(
        figure,
        heading="Error against steadiness",
        caption="A trial on the red line is not beaten in both at once. Velocity far above the "
        "labels' own is jitter, below it motion that is smoothed away.",
    )


def _mark_truth(axis: Any, truth: float, low: float, high: float) -> None:
    """The labels' own velocity: a line, or where to look for it if it is far from all trials."""
    span = max(high - low, 0.02 * high)
    if low - span <= truth <= high + span:
        text = "labels' own velocity"
        axis.axhline(truth, color=_RECIPE, linewidth=1, linestyle="--", label=text)
        return
    above = truth > high
    axis.text(
        0.01,
        0.98 if above else 0.02,
        f"{'↑' if above else '↓'} labels' own velocity: {truth:.1f} °/s",
        transform=axis.transAxes,
        va="top" if above else "bottom",
        fontsize=8.5,
        color=_RECIPE,
    )


def _valued(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [r for r in records if r.value is not None and r.state != "failed"]


def _heights(parameter: Parameter, values: Sequence[Any]) -> FloatArray:
    """Places 0 .. 1 on the parameter's axis; values outside its range lie at its ends."""
    if isinstance(parameter, Choice):
        known = [label(value) for value in parameter.values]
        last = max(1, len(known) - 1)
        found = [known.index(label(v)) / last if label(v) in known else -0.08 for v in values]
        return np.array(found, float)
    low, high = _ends(parameter)
    numbers = np.array([float(value) for value in values])
    if parameter.log:
        numbers = np.log(numbers.clip(min=1e-300))
    return ((numbers - low) / (high - low)).clip(-0.08, 1.08)


def _ends(parameter: Range) -> tuple[float, float]:
    ends = np.array([parameter.low, parameter.high], float)
    low, high = np.log(ends) if parameter.log else ends
    return float(low), float(high)


def _name_axes(axis: Any, parameters: Sequence[Parameter], lowest: float, highest: float) -> None:
    """Vertical lines with the values at their ends, or at every choice."""
    axis.set_ylim(-0.14, 1.14)
    axis.set_xlim(-0.35, len(parameters) + 0.35)
    axis.grid(visible=False)
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_visible(False)
    for place, parameter in enumerate(parameters):
        axis.plot([place, place], [0, 1], color="#8a9099", linewidth=1, zorder=1)
        for height, text in _marks(parameter):
            _mark(axis, place, height, text)
    place = len(parameters)
    axis.plot([place, place], [0, 1], color="#20242a", linewidth=1.6, zorder=1)
    _mark(axis, place, 1, f"{lowest:.2f}°")
    _mark(axis, place, 0, f"≥ {highest:.2f}°")
    names = [p.name.partition(".")[2].replace(".", ".\n").replace("_", "_\n") for p in parameters]
    axis.set_xticks(range(place + 1), [*names, "error"], fontsize=8.5)
    axis.tick_params(axis="x", length=0)


def _marks(parameter: Parameter) -> list[tuple[float, str]]:
    if isinstance(parameter, Choice):
        last = max(1, len(parameter.values) - 1)
        return [(index / last, label(value)) for index, value in enumerate(parameter.values)]
    return [(0, f"{parameter.low:.3g}"), (1, f"{parameter.high:.3g}")]


def _mark(axis: Any, place: float, height: float, text: str) -> None:
    axis.text(
        place + 0.04,
        height,
        text,
        fontsize=8,
        va="center",
        color="#20242a",
        zorder=6,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
    )


def _robust_limits(axis: Any, values: Sequence[float]) -> None:
    """Leave the worst out of the picture: one diverged trial would flatten all others."""
    if values:
        low, high = min(values), float(np.quantile(values, 0.95))
        space = 0.06 * max(high - low, 1e-6)
        axis.set_ylim(low - space, high + space)
