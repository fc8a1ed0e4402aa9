"""A page per recording: a still with the skeleton, the angles over time, and what was scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from d3ke.arrays import ImageArray
from d3ke_platform import storage
from d3ke_platform.stages.scores_folder import ScoredVideo

if TYPE_CHECKING:
    from d3ke_platform.evaluation.plotting import Picture

_PAIRS = (
    ("hip flexion", "hip_flexion_r", "hip_flexion_l"),
    ("knee angle", "knee_angle_r", "knee_angle_l"),
    ("ankle angle", "ankle_angle_r", "ankle_angle_l"),
    ("elbow flexion", "elbow_flexion", "elbow_flexion_l"),
    ("shoulder elevation", "shoulder_elv", "shoulder_elv_l"),
)
_OTHERS = 6
_MOST_PEOPLE = 8


def write_page(
    target: Path,
    scored: ScoredVideo,
    skeleton: Any,
    people: Mapping[int, Mapping[str, np.ndarray]],
    still: ImageArray,
) -> None:
    """Write the page, atomically.

    Args:
        target: The .html file.
        scored: The recording.
        skeleton: The bundle's skeleton.
        people: Columns of RESULTS by person.
        still: A frame with the skeletons drawn in it, [H,W,3] RGB.
    """
    from d3ke_platform.evaluation.plotting import data_uri, jpeg_of

    shown = dict(list(people.items())[:_MOST_PEOPLE])
    text = (
        _environment()
        .get_template("recording.html.j2")
        .render(
            scored=scored,
            still=data_uri(jpeg_of(still), "jpeg"),
            curves=[_curves(skeleton, number, rows) for number, rows in shown.items()],
            left_out=len(people) - len(shown),
            rows=sum(len(rows["frame"]) for rows in people.values()),
            people=len(people),
        )
    )
    storage.write_bytes(target, text.encode())


def _environment() -> Environment:
    loader = PackageLoader("d3ke_platform.stages", "templates")
    return Environment(loader=loader, autoescape=select_autoescape(["html", "j2"]))


def shown_coordinates(skeleton: Any) -> list[tuple[str, list[tuple[str, str]]]]:
    """Panels: a title, and (label, coordinate) of each line. The pairs of sides people look for
    first; a model that has none of them shows its first rotations."""
    known = skeleton.coordinates
    panels = [
        (title, [("right", right), ("left", left)])
        for title, right, left in _PAIRS
        if right in known and left in known
    ]
    if panels:
        return panels
    root = set(skeleton.root_coordinates)
    names = [
        name
        for name, turns in zip(known, skeleton.coordinate_rotational, strict=True)
        if turns and name not in root
    ]
    return [(name, [(name, name)]) for name in names[:_OTHERS]]


def _curves(skeleton: Any, number: int, rows: Mapping[str, np.ndarray]) -> Picture:
    from d3ke_platform.evaluation.plotting import legend, panels, picture, series_color, title

    shown = shown_coordinates(skeleton)
    figure, axes = panels(-(-len(shown) // 2), 2, width=10, height=2.2 * -(-len(shown) // 2))
    # Where the person was away the line breaks off.
    gap = np.concatenate([[False], np.diff(rows["frame"]) != 1])
    for axis, (name, lines) in zip(axes.flat, shown, strict=False):
        for place, (label, coordinate) in enumerate(lines):
            values = rows["coordinates"][:, skeleton.coordinates.index(coordinate)]
            angle = np.where(gap, np.nan, np.degrees(values))
            axis.plot(rows["time_s"], angle, color=series_color(place), label=label, linewidth=1.0)
        title(axis, name)
        axis.set(ylabel="angle [°]", xlabel="time [s]")
    legend(axes.flat[0])
    return picture(
        figure,
        heading=f"Person {number}",
        caption=f"{len(rows['frame'])} frames; the person was detected in "
        f"{int((rows['confidence'] > 0).sum())} of them and interpolated in the others.",
    )
