"""The tables of the evaluation: plain rows of numbers, units in the column names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from d3ke import metrics
from d3ke.arrays import BoolArray, FloatArray
from d3ke_platform.evaluation.body_scale import SHOWN_BODIES, BodyScales
from d3ke_platform.evaluation.frames import LabelFrames, Motion

Row = dict[str, Any]


def moving_coordinates(
    labels: LabelFrames, candidates: Sequence[int], threshold_deg: float
) -> list[int]:
    """Those of `candidates` whose label varies by more than `threshold_deg` (SD over all frames).

    About 40 of the 69 coordinates hardly move; any constant is nearly right for them.
    """
    deviation = np.degrees(labels.angles.std(axis=0))
    return [index for index in candidates if deviation[index] > threshold_deg]


def group_table(
    labels: LabelFrames, methods: Mapping[str, Motion], groups: Mapping[str, Sequence[int]]
) -> list[Row]:
    """Angle errors of every coordinate group and method, with and without the mask."""
    everything = np.ones(len(labels.recording), dtype=bool)
    return [
        {"group": group, "coordinates": len(columns), "method": name, "masked": masked}
        | angle_measures(labels, frames, columns, everything, masked=masked)
        for group, columns in groups.items()
        for name, frames in methods.items()
        for masked in (True, False)
    ]


def angle_measures(
    labels: LabelFrames,
    frames: Motion,
    columns: Sequence[int],
    rows: BoolArray,
    *,
    masked: bool,
) -> Row:
    """Errors of the angles `columns` over the frames `rows`.

    MAE, RMSE and SD (of the signed error) pool frames and coordinates. The series_ columns are
    those of table 6: computed for every time series (recording, coordinate), then median and
    interquartile range. MV is never masked: it needs neighbouring frames.
    """
    if not columns or not rows.any():
        return {}
    cut = np.ix_(rows, np.array(columns, int))
    estimate, label = frames.angles[cut], labels.angles[cut]
    use = labels.mask[cut] if masked else np.ones(label.shape, dtype=bool)
    result: Row = {
        "used_share": float(use.mean()),
        "mae_deg": metrics.mae_angle(estimate, label, use),
        "rmse_deg": metrics.rmse_angle(estimate, label, use),
        "sd_deg": metrics.sd_angle(estimate, label, use),
        "mv_deg_per_s": _mean(frames.angle_velocity[cut]),
        "label_mv_deg_per_s": _mean(labels.angle_velocity[cut]),
    }
    for name, values in series_measures(labels, frames, columns, rows, masked=masked).items():
        median, iqr = metrics.median_iqr(values)
        result |= {f"series_{name}_median": median, f"series_{name}_iqr": iqr}
    return result


def series_measures(
    labels: LabelFrames, frames: Motion, columns: Sequence[int], rows: BoolArray, *, masked: bool
) -> dict[str, FloatArray]:
    """MAE, RMSE [deg] and Pearson's rho of every (recording, coordinate): arrays [R,C]."""
    series = []
    for recording in np.unique(labels.recording[rows]):
        cut = np.ix_(rows & (labels.recording == recording), np.array(columns, int))
        mask = labels.mask[cut] if masked else None
        series.append(metrics.series_errors(frames.angles[cut], labels.angles[cut], mask))
    return {
        "mae_deg": np.array([one.mae_degrees for one in series]),
        "rmse_deg": np.array([one.rmse_degrees for one in series]),
        "rho": np.array([one.correlation for one in series]),
    }


def pose_table(labels: LabelFrames, methods: Mapping[str, Motion], bodies: BodyScales) -> list[Row]:
    """Bony landmarks, body scale and pelvis orientation by method (tables 1 and 4)."""
    everything = np.ones(len(labels.recording), dtype=bool)
    return [
        {"method": name} | pose_measures(labels, frames, bodies, everything)
        for name, frames in methods.items()
    ]


def pose_measures(labels: LabelFrames, frames: Motion, bodies: BodyScales, rows: BoolArray) -> Row:
    """Errors over the frames `rows` that do not belong to a single angle."""
    label = labels.landmarks[rows]
    measured = np.asarray(np.isfinite(label).all(axis=-1))
    scale, millimetres = bodies.errors(frames.factors[rows], labels.factors[rows])
    return {
        "mpblpe_mm": metrics.mpblpe(frames.landmarks[rows], label, measured),
        "mae_body_mm": _mean(millimetres),
        "rmse_body": float(np.sqrt(_mean(scale**2))),
        "root_rotation_deg": metrics.rotation_error(
            frames.root_rotation[rows], labels.root_rotation[rows]
        ),
        "mv_landmarks_mm_per_s": _mean(frames.landmark_velocity[rows]),
        "label_mv_landmarks_mm_per_s": _mean(labels.landmark_velocity[rows]),
    }


def segment_table(
    labels: LabelFrames, methods: Mapping[str, Motion], bodies: BodyScales
) -> list[Row]:
    """Errors of scale and length of single bodies (table 2)."""
    rows = []
    for method, frames in methods.items():
        scale, millimetres = bodies.errors(frames.factors, labels.factors)
        for body in SHOWN_BODIES:
            if body in bodies.bodies:
                index = bodies.bodies.index(body)
                row: Row = {"segment": body, "method": method, "length_mm": bodies.length_mm(body)}
                row["mae_body_mm"] = _mean(millimetres[:, index])
                row["rmse_body"] = float(np.sqrt(_mean(scale[:, index] ** 2)))
                rows.append(row)
    return rows


def by_key_table(
    labels: LabelFrames,
    methods: Mapping[str, Motion],
    bodies: BodyScales,
    groups: Mapping[str, Sequence[int]],
    key: str,
) -> list[Row]:
    """Masked errors for every value of `key` ("camera", "movement" or "subject")."""
    names = getattr(labels, key)
    result = []
    for value in sorted(set(names.tolist())):
        rows = names == value
        for method, frames in methods.items():
            row: Row = {key: value, "method": method, "frames": int(rows.sum())}
            for group, columns in groups.items():
                measures = angle_measures(labels, frames, columns, rows, masked=True)
                row[f"mae_{group}_deg"] = measures.get("mae_deg")
                row[f"rho_{group}_median"] = measures.get("series_rho_median")
            result.append(row | pose_measures(labels, frames, bodies, rows))
    return result


def coordinate_table(
    labels: LabelFrames, methods: Mapping[str, Motion], names: Sequence[str]
) -> list[Row]:
    """Masked errors of every single coordinate."""
    everything = np.ones(len(labels.recording), dtype=bool)
    rows = []
    for index, name in enumerate(names):
        for method, frames in methods.items():
            row: Row = {"coordinate": name, "method": method}
            row["label_sd_deg"] = float(np.degrees(labels.angles[:, index].std()))
            rows.append(row | angle_measures(labels, frames, [index], everything, masked=True))
    return rows


def generalisation_table(
    labels: LabelFrames, methods: Mapping[str, Motion], columns: Sequence[int]
) -> list[Row]:
    """Table 6: spread over joint angles, movements and participants, apart by camera.

    Every time series gives MAE, RMSE and rho; their mean over all series of one joint angle,
    movement or participant is that value's figure; listed are median and interquartile range over
    the values. Masked.
    """
    result = []
    for method, frames in methods.items():
        for camera in sorted(set(labels.camera.tolist())):
            rows = labels.camera == camera
            series = series_measures(labels, frames, columns, rows, masked=True)
            first = np.unique(np.where(rows, labels.recording, -1), return_index=True)
            starts = first[1][first[0] >= 0]
            for grouping in ("joint angle", "movement", "participant"):
                row: Row = {"grouping": grouping, "camera": camera, "method": method}
                for name, values in series.items():
                    figures = _figures(values, grouping, labels, starts)
                    median, iqr = metrics.median_iqr(figures)
                    row |= {f"{name}_median": median, f"{name}_iqr": iqr}
                result.append(row)
    return result


def _figures(
    values: FloatArray, grouping: str, labels: LabelFrames, starts: np.ndarray
) -> FloatArray:
    """Mean of the series [R,C] for every joint angle, movement or participant.

    `starts` [R] is a frame of each series' recording.
    """
    if grouping == "joint angle":
        return np.array([_mean(column) for column in values.T])
    names = (labels.movement if grouping == "movement" else labels.subject)[starts]
    return np.array([_mean(values[names == name]) for name in sorted(set(names.tolist()))])


def _mean(values: FloatArray) -> float:
    """Mean of the finite values, NaN without any (and without NumPy's warning)."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
