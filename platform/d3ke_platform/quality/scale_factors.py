"""The subjects' scale factors, and those that do not look like a person's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.schema import SUBJECT_LABELS

SMALLEST, LARGEST = 0.5, 2.0
"""No adult or child is scaled beyond these; a mixed-up unit is."""
_DEVIATIONS = 3.5
"""Robust standard deviations from the other subjects' that count as an outlier."""
_FEWEST = 5
_NARROWEST, _NARROWEST_OF_FEW = 0.03, 0.06
"""Least standard deviation assumed of a factor's logarithm: people differ by as much."""
_ASYMMETRY = 0.12
"""Relative difference of a factor's left and right side that is told."""


@dataclass(frozen=True, kw_only=True)
class ScaleFactors:
    """Factors of all scaled subjects."""

    subjects: tuple[str, ...]
    names: tuple[str, ...]
    """Measurements, or body axes where the data set has none."""
    values: FloatArray
    """[subjects, names]"""
    static_rms_mm: tuple[float, ...]
    """RMS distance of the markers in the static pose, by subject."""
    outliers: dict[str, dict[str, str]]
    """Subject -> factor -> what is odd about it."""

    def rows(self) -> list[dict[str, Any]]:
        """A row for every subject with all of its factors."""
        return [
            {
                "subject": subject,
                "static_marker_rms_mm": rms,
                "median": float(np.median(row)) if row.size else None,
                "factors": dict(zip(self.names, map(float, row), strict=True)),
                "outliers": self.outliers.get(subject, {}),
            }
            for subject, row, rms in zip(
                self.subjects, self.values, self.static_rms_mm, strict=True
            )
        ]


def read_scale_factors(data: DataSet) -> ScaleFactors:
    """Factors of every subject with a SUBJECT_LABELS table; unreadable ones are left out (the
    subject's trials have no labels then, which the page tells)."""
    rows = []
    for uri in storage.list_files(data.uri("subjects"), ".parquet"):
        try:
            rows += SUBJECT_LABELS.to_rows(storage.read_table(uri))
        except InvalidInputError:
            continue
    subjects = tuple(row["subject"] for row in rows)
    names, values = factors_of(data, rows)
    return ScaleFactors(
        subjects=subjects,
        names=names,
        values=values,
        static_rms_mm=tuple(1e3 * float(row["static_marker_rms_m"]) for row in rows),
        outliers=find_outliers(subjects, names, values),
    )


def factors_of(data: DataSet, rows: list[dict[str, Any]]) -> tuple[tuple[str, ...], FloatArray]:
    """Names of the factors and their values [rows, names], from rows of SUBJECT_LABELS.

    Measurements where the data set has some, else the body axes that any subject scales.
    """
    names = data.measurements().names
    if names or not rows:
        values = [row["measurement_factors"] for row in rows]
        return names, np.array(values, float).reshape(len(rows), len(names))
    scales = np.stack([row["body_scales"] for row in rows]).reshape(len(rows), -1)
    axes = [f"{body} {axis}" for body in data.skeleton().bodies for axis in "xyz"]
    scaled = (np.abs(scales - 1.0) > 1e-9).any(axis=0)
    return tuple(np.array(axes)[scaled].tolist()), scales[:, scaled]


def find_outliers(
    subjects: tuple[str, ...], names: tuple[str, ...], values: FloatArray
) -> dict[str, dict[str, str]]:
    """Odd factors of values [subjects, names], with the reason.

    A subject's size is taken out first (the median of its factors), so that a child is no
    outlier; what is left is compared with the other subjects' median by their median absolute
    deviation.
    """
    found: dict[str, dict[str, str]] = {}
    if not values.size:
        return found
    sound = np.asarray((np.isfinite(values) & (values > 0.0)).all(axis=1))
    if not sound.any():
        sound = np.ones(len(subjects), bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        shape = np.log(values)
        shape = shape - np.median(shape, axis=1, keepdims=True)
        middle = np.median(shape[sound], axis=0)
        spread = 1.4826 * np.median(np.abs(shape[sound] - middle), axis=0)
    few = sound.sum() < _FEWEST
    limit = _DEVIATIONS * np.maximum(spread, _NARROWEST_OF_FEW if few else _NARROWEST)
    pairs = left_and_right(names)
    for row, subject in enumerate(subjects):
        reasons = {}
        for column, name in enumerate(names):
            value, off = values[row, column], shape[row, column] - middle[column]
            other = pairs.get(column)
            if not SMALLEST <= value <= LARGEST:
                reasons[name] = f"{value:.2f}: not a person's size"
            elif not abs(off) <= limit[column]:
                reasons[name] = f"{value:.2f}: {100 * np.expm1(off):+.0f} % against other subjects"
            elif other is not None and abs(np.log(value / values[row, other])) > _ASYMMETRY:
                reasons[name] = f"{value:.2f}: {values[row, other]:.2f} on the other side"
        if reasons:
            found[subject] = reasons
    return found


def left_and_right(names: tuple[str, ...]) -> Mapping[int, int]:
    """Left factor -> right factor, as indices: femurY_l -> femurY, femur_l x -> femur_r x."""
    places = {name.replace("_", ""): index for index, name in enumerate(names)}
    pairs = {}
    for index, name in enumerate(names):
        if "_l" in name:
            for right in (name.replace("_l", "_r", 1), name.replace("_l", "", 1)):
                other = places.get(right.replace("_", ""), index)
                if other != index:
                    pairs[index] = other
    return pairs
