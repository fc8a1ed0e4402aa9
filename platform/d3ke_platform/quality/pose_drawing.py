"""A pose in two dimensions: bones, measured markers as dots, model markers as rings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.collections import LineCollection

from d3ke.arrays import FloatArray, IntArray
from d3ke_platform.stages.overlay import LEFT, RIGHT, Bones

_INK, _RED, _GREY, _PALE = "#20242a", "#c4342b", "#8a9099", "#cfd4da"
_SIDES = {RIGHT: "#d98324", LEFT: "#1f6fb2"}
_FLOOR_REACH_M = 0.6
"""The floor is drawn when the lowest point is no higher than this above it."""


@dataclass(frozen=True, kw_only=True)
class PoseDrawing:
    """What is drawn of a skeleton."""

    bones: Bones
    shown: IntArray
    """Indices of the markers drawn: those that inverse kinematics followed."""
    names: tuple[str, ...]
    """[M] of all markers."""
    holders: IntArray
    """[M] joint that moves each marker's body; -1 = ground."""
    far_m: float
    """Distances over it get red dots."""

    def furthest(self, errors_m: FloatArray, count: int) -> list[int]:
        """Indices of the drawn markers with the largest of errors [M], at most `count`."""
        known = [int(i) for i in self.shown if np.isfinite(errors_m[i])]
        return sorted(known, key=lambda i: -errors_m[i])[:count]


def draw_pose(
    axis: Any,
    drawing: PoseDrawing,
    joints: FloatArray,
    measured: FloatArray,
    model: FloatArray,
    *,
    halo: bool = False,
) -> None:
    """Draw joints [J,2], measured [M,2] and model markers [M,2]; `halo`: over a photograph."""
    held = [i for i in drawing.shown if drawing.holders[i] >= 0]
    sticks = np.stack([joints[drawing.holders[held]], model[held]], axis=1)
    if not halo:
        axis.add_collection(LineCollection(list(sticks), colors=_PALE, linewidths=0.7, zorder=1.5))
    effects = [patheffects.withStroke(linewidth=3.6, foreground="white", alpha=0.75)]
    ends = np.concatenate([joints, model])[drawing.bones.pairs]
    visible = np.isfinite(ends).all(axis=(1, 2))
    colors = [_SIDES.get(color, _INK) for color in drawing.bones.colors]
    axis.add_collection(
        LineCollection(
            list(ends[visible]),
            colors=[color for color, seen in zip(colors, visible, strict=True) if seen],
            linewidths=1.9,
            capstyle="round",
            path_effects=effects if halo else None,
            zorder=2,
        )
    )
    dots, rings = measured[drawing.shown], model[drawing.shown]
    both = np.isfinite(dots).all(axis=1) & np.isfinite(rings).all(axis=1)
    lines = np.stack([dots, rings], axis=1)[both]
    axis.add_collection(LineCollection(list(lines), colors=_RED, linewidths=1.3, zorder=3))
    edge = "white" if halo else _INK
    axis.plot(*rings.T, "o", markersize=3.8, markerfacecolor="none", markeredgecolor=edge,
              markeredgewidth=0.7, linestyle="none", zorder=4)  # fmt: skip
    axis.plot(*dots.T, "o", markersize=1.9, color="#2fa05a", linestyle="none", zorder=5)
    axis.set_aspect("equal")


def draw_floor(axis: Any, points: FloatArray) -> None:
    """Limits around points [n,2] m (across, up), and the floor where it is near."""
    points = points[np.isfinite(points).all(axis=1)]
    low, high = points.min(axis=0), points.max(axis=0)
    if -_FLOOR_REACH_M < low[1] < _FLOOR_REACH_M:
        low[1] = min(low[1], 0.0)
        axis.axhspan(-10.0, 0.0, color="#eef0f2", zorder=0)
        axis.axhline(0.0, color=_GREY, linewidth=1.0, zorder=1)
    # One scale in all views of all trials would waste room on the small: a square around each.
    size = 1.16 * max(high[1] - low[1], high[0] - low[0])
    middle = (low + high) / 2
    axis.set_xlim(middle[0] - 0.5 * size, middle[0] + 0.5 * size)
    axis.set_ylim(middle[1] - 0.5 * size, middle[1] + 0.5 * size)
    axis.set_xticks([])
    axis.set_yticks(np.arange(0.0, high[1] + 0.1, 0.5))
    axis.tick_params(labelsize=7.5, length=0)
    axis.grid(visible=False, axis="x")
    for side in axis.spines.values():
        side.set_visible(False)


def name_markers(
    axis: Any,
    drawing: PoseDrawing,
    measured: FloatArray,
    errors_m: FloatArray,
    named: Sequence[int],
) -> None:
    """Names and errors [mm] beside the markers `named`, in columns left and right of the pose."""
    left, right = axis.get_xlim()
    bottom, top = axis.get_ylim()
    middle, gap = (left + right) / 2, 0.055 * (top - bottom)
    for on_right in (False, True):
        mine = [i for i in named if (measured[i, 0] > middle) == on_right]
        mine.sort(key=lambda i: measured[i, 1])
        heights = spread_upwards([float(measured[i, 1]) for i in mine], gap)
        for index, height in zip(mine, heights, strict=True):
            place = right if on_right else left
            x, y = measured[index]
            axis.plot([x, place], [y, height], color=_GREY, linewidth=0.6, zorder=5.5)
            axis.text(
                place,
                height,
                f"{drawing.names[index]} {1e3 * errors_m[index]:.0f} mm",
                ha="right" if on_right else "left",
                va="center",
                fontsize=7.5,
                color=_RED if errors_m[index] > drawing.far_m else _INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.9},
                zorder=6,
            )


def spread_upwards(heights: list[float], gap: float) -> list[float]:
    """Ascending heights moved up so that neighbours are at least `gap` apart."""
    result: list[float] = []
    for height in heights:
        result.append(max(height, result[-1] + gap) if result else height)
    return result
