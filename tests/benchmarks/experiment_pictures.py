"""Pictures of docs/experiments.md: speeds as bars, and angles of one recording as curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from experiment_parts import Experiments

from d3ke_platform.evaluation.comparison import RecordingComparison
from d3ke_platform.evaluation.plotting import COLORS, legend, panels, series_color, title

ANGLES = ("knee_angle_r", "hip_flexion_r", "shoulder_elv", "elbow_flexion")
QUALITY = 88


def draw(experiments: Experiments, bundles: dict[str, Path], estimates: str) -> None:
    """Write velocity.jpg and curves.jpg to the output.

    Args:
        experiments: what was measured.
        bundles: bundle with a sequence network, by its name.
        estimates: folder of the per-frame estimates.
    """
    _bars(experiments, bundles, estimates)
    _curves(experiments, bundles, estimates)


def _bars(experiments: Experiments, bundles: dict[str, Path], estimates: str) -> None:
    figure, axes = panels(1, 2, width=9.0, height=3.0)
    found = {name: experiments.errors(bundle, estimates) for name, bundle in bundles.items()}
    first = next(iter(found.values()))
    networks = [("per frame", first["per_frame"], COLORS["per_frame"])]
    networks += [(name, one["sequence"], COLORS["sequence"]) for name, one in found.items()]
    for axis, what, before, text in (
        (axes[0, 0], "mv_all", ("labels", "label"), "Mean velocity of all angles, deg/s"),
        (
            axes[0, 1],
            "velocity_error",
            ("standing still", "mean_angle"),
            "Error of the velocity of all angles, deg/s",
        ),
    ):
        rows = [(before[0], first[before[1]], COLORS[before[1]]), *networks]
        values = [getattr(row, what) for _, row, _ in rows]
        names, colors = [name for name, _, _ in rows], [color for _, _, color in rows]
        bars = axis.bar(names, values, color=colors, width=0.65)
        axis.bar_label(bars, [f"{value:.1f}" for value in values], fontsize=8, padding=2)
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(axis="x", visible=False)
        title(axis, text)
    _save(figure, experiments.root / "velocity.jpg")


def _curves(experiments: Experiments, bundles: dict[str, Path], estimates: str) -> None:
    compared = {
        name: experiments.compare(bundle, estimates, "test") for name, bundle in bundles.items()
    }
    index = _middle_walk(next(iter(compared.values())))
    predicted = experiments.data.predicted().coordinates
    figure, axes = panels(2, 2, width=8.0, height=4.6, sharex=True)
    for axis, angle in zip(axes.flat, ANGLES, strict=True):
        column = predicted.index(angle)
        first = next(iter(compared.values()))[index]
        time_s = first.truth.time_s
        per_frame = first.estimates["per_frame"]
        _line(axis, time_s, per_frame, column, COLORS["per_frame"], "per frame", 0.9)
        for number, (name, comparisons) in enumerate(compared.items()):
            estimate = comparisons[index].estimates["sequence"]
            color = series_color(0 if not number else number + 1)
            _line(axis, time_s, estimate, column, color, name, 1.4)
        _line(axis, time_s, first.truth, column, COLORS["label"], "label", 2.0)
        title(axis, f"{angle}, deg")
    for axis in axes[1]:
        axis.set_xlabel("s")
    legend(axes[0, 0], ncols=2)
    row = next(iter(compared.values()))[index].recording
    figure.suptitle(
        f"{row['movement']} of test person {row['subject']}, {row['camera']} camera", fontsize=9
    )
    _save(figure, experiments.root / "curves.jpg")


def _line(
    axis: Any, time_s: np.ndarray, motion: Any, column: int, color: str, name: str, width: float
) -> None:
    angles = np.degrees(motion.coordinates[:, column])
    axis.plot(time_s, angles, color=color, label=name, linewidth=width)


def _middle_walk(comparisons: list[RecordingComparison]) -> int:
    """The walking trial of the middle error: neither a good nor a bad one is picked."""
    walks = [i for i, one in enumerate(comparisons) if one.recording["movement"] == "walk"]
    chosen = walks or list(range(len(comparisons)))

    def error(index: int) -> float:
        one = comparisons[index]
        gap = np.abs(one.estimates["per_frame"].coordinates - one.truth.coordinates)
        return float(gap[one.truth.mask].mean())

    return sorted(chosen, key=error)[len(chosen) // 2]


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=130, pil_kwargs={"quality": QUALITY})
