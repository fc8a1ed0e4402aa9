"""A static pose for scaling, out of movements: the straightest frame at the subject's mean lengths.

Nobody has to stand in a T-pose. The frame in which legs, arms and trunk are straightest gives the
directions of the segments; their lengths are the medians over all frames of the subject, which are
steadier than any one frame. Both sides get the mean of theirs unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from d3ke.errors import InvalidInputError
from d3ke.kinematics import MarkerTrajectories

Points = Mapping[str, Float[np.ndarray, "T 3"]]
"""Landmark -> positions, m; NaN where missing."""

_LIMBS = (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
_LIMB_WEIGHTS = (2.0, 1.0)
_SEGMENTS: tuple[tuple[str, str], ...] = (
    # From a point to the next one outwards; "*" is left or right.
    ("mid_hip", "*_hip"),
    ("*_hip", "*_knee"),
    ("*_knee", "*_ankle"),
    ("*_ankle", "*_heel"),
    ("*_heel", "*_foot_index"),
    ("mid_hip", "mid_shoulder"),
    ("mid_shoulder", "*_shoulder"),
    ("*_shoulder", "*_elbow"),
    ("*_elbow", "*_wrist"),
    ("mid_shoulder", "mid_ear"),
    ("mid_ear", "*_ear"),
    ("mid_ear", "nose"),
    ("nose", "*_eye"),
)
_MIDDLES = ("hip", "shoulder", "ear")
_FEWEST_FRAMES = 5


def with_middles(points: Points) -> dict[str, Float[np.ndarray, "T 3"]]:
    """The points and the middles of hips, shoulders and ears."""
    middles = {
        f"mid_{part}": (points[f"right_{part}"] + points[f"left_{part}"]) / 2.0
        for part in _MIDDLES
        if f"right_{part}" in points and f"left_{part}" in points
    }
    return {**points, **middles}


def straightness(points: Points) -> Float[np.ndarray, " T"]:
    """How straight legs, arms and trunk are and how upright, 1 = entirely; NaN where not seen."""
    parts, weights = [], []
    for side in ("right", "left"):
        for limb, weight in zip(_LIMBS, _LIMB_WEIGHTS, strict=True):
            first, middle, last = (points[f"{side}_{joint}"] for joint in limb)
            length = _distance(first, middle) + _distance(middle, last)
            parts.append(_distance(first, last) / length)
            weights.append(weight)
    joined = with_middles(points)
    trunk = joined["mid_shoulder"] - joined["mid_hip"]
    parts.append(trunk[:, 1] / np.linalg.norm(trunk, axis=-1))
    weights.append(_LIMB_WEIGHTS[0])
    return np.asarray(np.average(parts, axis=0, weights=weights))


def straightest_frame(what: str, points: Points) -> tuple[int, float]:
    """The straightest frame in which all landmarks are seen, and its straightness.

    Raises:
        InvalidInputError: there is none; `what` names the trial.
    """
    whole = np.all([np.isfinite(position).all(axis=-1) for position in points.values()], axis=0)
    values = np.where(whole, straightness(points), np.nan)
    if not np.isfinite(values).any():
        gaps = {name: float(np.isnan(position[:, 0]).mean()) for name, position in points.items()}
        worst = sorted(gaps, key=lambda name: -gaps[name])[:3]
        listed = ", ".join(f"{name} {100 * gaps[name]:.0f} %" for name in worst)
        raise InvalidInputError(
            what, f"in no frame are all landmarks seen; most often missing: {listed}"
        )
    best = int(np.nanargmax(values))
    return best, float(values[best])


def choose_static_frame(
    what: str, trials: Mapping[str, MarkerTrajectories], *, trial: str, frame: int | None
) -> tuple[str, int]:
    """Trial and frame of a subject's static pose.

    Args:
        what: the subject, for messages.
        trials: those that were triangulated, by id.
        trial: where to look; "" = everywhere.
        frame: the frame; None = the straightest.

    Raises:
        InvalidInputError: the trial was rejected, lacks the frame, or no frame is whole.
    """
    if not trials:
        raise InvalidInputError(what, "all trials of this subject were rejected")
    if trial and trial not in trials:
        raise InvalidInputError(what, f"trial {trial} was rejected")
    if trial and frame is not None:
        count = len(trials[trial].times)
        if frame >= count:
            raise InvalidInputError(what, f"frame {frame} of {trial}, which has {count} frames")
        return trial, frame
    found: list[tuple[float, str, int]] = []
    problems: list[InvalidInputError] = []
    for name in [trial] if trial else sorted(trials):
        try:
            best, value = straightest_frame(f"trial {name}", by_name(trials[name]))
            found.append((value, name, best))
        except InvalidInputError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    return max(found)[1:]


def by_name(trial: MarkerTrajectories) -> dict[str, Float[np.ndarray, "T 3"]]:
    """Marker -> positions."""
    return {name: trial.marker(name) for name in trial.names}


def static_points(
    what: str,
    pose: Mapping[str, Float[np.ndarray, "3"]],
    trials: Sequence[Points],
    *,
    symmetric: bool,
) -> dict[str, Float[np.ndarray, "3"]]:
    """The pose with every segment at its median length over the trials.

    Args:
        what: the subject, for messages.
        pose: landmark -> position, m, of the chosen frame.
        trials: the subject's trials.
        symmetric: both sides get the mean of their lengths.

    Raises:
        InvalidInputError: a segment is seen in fewer than five frames.
    """
    chosen = {name: position[0] for name, position in with_middles(_as_frames(pose)).items()}
    lengths = _median_lengths(what, [with_middles(trial) for trial in trials], symmetric)
    placed = {"mid_hip": chosen["mid_hip"]}
    for (start, end), length in lengths.items():
        along = chosen[end] - chosen[start]
        placed[end] = placed[start] + along * (length / np.linalg.norm(along))
    return {name: placed.get(name, position) for name, position in pose.items()}


def _median_lengths(
    what: str, trials: Sequence[Points], symmetric: bool
) -> dict[tuple[str, str], float]:
    lengths: dict[tuple[str, str], float] = {}
    for segment in _SEGMENTS:
        sides = ("right", "left") if "*" in segment[1] else ("",)
        named = [tuple(end.replace("*", side) for end in segment) for side in sides]
        medians = [_median_length(what, start, end, trials) for start, end in named]
        shared = [float(np.mean(medians))] * len(medians) if symmetric else medians
        lengths |= {(start, end): value for (start, end), value in zip(named, shared, strict=True)}
    return lengths


def _median_length(what: str, start: str, end: str, trials: Sequence[Points]) -> float:
    lengths = np.concatenate([_distance(trial[start], trial[end]) for trial in trials])
    lengths = lengths[np.isfinite(lengths)]
    if len(lengths) < _FEWEST_FRAMES:
        raise InvalidInputError(
            what, f"{start} and {end} are seen together in {len(lengths)} frames only"
        )
    return float(np.median(lengths))


def _as_frames(pose: Mapping[str, Float[np.ndarray, "3"]]) -> dict[str, Float[np.ndarray, "T 3"]]:
    return {name: position[None] for name, position in pose.items()}


def _distance(
    first: Float[np.ndarray, "T 3"], second: Float[np.ndarray, "T 3"]
) -> Float[np.ndarray, " T"]:
    return np.asarray(np.linalg.norm(first - second, axis=-1))
