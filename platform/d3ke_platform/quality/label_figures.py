"""One pass over the LABELS of a data set: sums by marker, subject, movement and coordinate.

A trial's table is in memory only while it is summed up, so that memory follows the number of
subjects and trials (a short row each), not of frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.quality.sums import (
    FAR_M,
    RANGE_TOLERANCE_M,
    RANGE_TOLERANCE_RAD,
    Both,
    CoordinateSums,
    ErrorSums,
)
from d3ke_platform.schema import LABELS

WEIGHTED, UNWEIGHTED = 0, 1
"""Rows of sums over groups of markers: those that inverse kinematics followed, the others."""
_COLUMNS = ["marker_error_m", "marker_mask", "coordinates", "coordinate_mask", "converged"]
_READERS = 2
"""Files read at once: one is decoded while another is summed up."""


@dataclass(frozen=True, kw_only=True)
class LabelMeaning:
    """What the columns of LABELS stand for in one data set."""

    markers: tuple[str, ...]
    weights: FloatArray
    """[M] in inverse kinematics, in the order of `markers`."""
    coordinates: tuple[str, ...]
    ranges: FloatArray
    """[Q, 2] rad or m, of the model."""
    tolerance: FloatArray
    """[Q] rad or m, how far off the end of its range a coordinate counts as on it."""
    threshold_m: float
    """The data set's limit for a well-fitted marker."""

    @classmethod
    def of(cls, data: DataSet) -> LabelMeaning:
        """Of a data set's definitions."""
        skeleton, marker_set = data.skeleton(), data.marker_set()
        weights = dict(zip(marker_set.names, marker_set.ik_weights, strict=True))
        rotational = skeleton.coordinate_rotational
        settings: Mapping[str, Any] = data.settings.get("labels", {})
        return cls(
            markers=skeleton.markers,
            weights=np.array([float(weights.get(name, 0.0)) for name in skeleton.markers]),
            coordinates=skeleton.coordinates,
            ranges=np.asarray(skeleton.coordinate_ranges),
            tolerance=np.where(rotational, RANGE_TOLERANCE_RAD, RANGE_TOLERANCE_M),
            threshold_m=float(settings.get("marker_threshold_m", FAR_M)),
        )

    @property
    def groups(self) -> tuple[BoolArray, BoolArray]:
        """Masks [M] of the rows WEIGHTED and UNWEIGHTED."""
        return self.weights > 0.0, self.weights <= 0.0


@dataclass(frozen=True, kw_only=True)
class TrialFigures:
    """How well the model follows the weighted markers of one trial."""

    trial_id: str
    subject: str
    movement: str
    frames: int
    rms_mm: float
    """NaN: no weighted marker was measured."""
    masked_rms_mm: float
    """Without what the 2 cm rule leaves out."""
    max_mm: float
    over_percent: float
    """Share of marker-frames over the threshold."""
    unconverged: int
    """Frames that the solver did not finish; all of them are masked."""
    masked_percent: float
    """Share of coordinate values that are no labels."""
    worst_row: int
    """Row of LABELS with the largest RMS over its markers; -1 without any."""
    worst_row_rms_mm: float
    worst_marker: str
    """Weighted marker with the largest RMS over the trial."""


@dataclass(eq=False, kw_only=True)
class LabelFigures:
    """Sums over all labels. Groups of markers have the rows WEIGHTED and UNWEIGHTED."""

    meaning: LabelMeaning
    by_marker: Both[ErrorSums]
    """[M]"""
    overall: Both[ErrorSums]
    """[2]"""
    coordinates: Both[CoordinateSums]
    """[Q]"""
    by_subject: dict[str, Both[ErrorSums]] = field(default_factory=dict)
    """[2] each."""
    by_movement: dict[str, Both[ErrorSums]] = field(default_factory=dict)
    """[2] each."""
    trials: list[TrialFigures] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    """Trial -> why its labels could not be read."""

    @classmethod
    def empty(cls, meaning: LabelMeaning) -> LabelFigures:
        """Of no labels."""
        return cls(
            meaning=meaning,
            by_marker=_no_errors(len(meaning.markers)),
            overall=_no_errors(2),
            coordinates=Both(
                unmasked=CoordinateSums.zeros(len(meaning.coordinates)),
                masked=CoordinateSums.zeros(len(meaning.coordinates)),
            ),
        )

    @property
    def frames(self) -> int:
        """Label rows of all trials."""
        return sum(trial.frames for trial in self.trials)

    @property
    def unconverged(self) -> int:
        """Label rows that the solver did not finish."""
        return sum(trial.unconverged for trial in self.trials)

    def worst_trials(self, count: int) -> list[TrialFigures]:
        """Those with the largest RMS, worst first."""
        known = [trial for trial in self.trials if np.isfinite(trial.rms_mm)]
        return sorted(known, key=lambda trial: (-trial.rms_mm, trial.trial_id))[:count]


def read_label_figures(data: DataSet) -> LabelFigures:
    """Figures of all LABELS of a data set; without any they are empty.

    A file that cannot be read is told in `unreadable` and left out.
    """
    figures = LabelFigures.empty(LabelMeaning.of(data))
    performed = {row["trial_id"]: row for row in data.trials()}
    for trial_id, read in _read_ahead(storage.list_files(data.uri("labels"), ".parquet")):
        try:
            columns = read.result()
        except InvalidInputError as error:
            figures.unreadable[trial_id] = str(error)
            continue
        trial = performed.get(trial_id, {})
        names = {key: str(trial.get(key, "unknown")) for key in ("subject", "movement")}
        add_trial(figures, columns, trial_id=trial_id, **names)
    figures.by_subject = dict(sorted(figures.by_subject.items()))
    figures.by_movement = dict(sorted(figures.by_movement.items()))
    return figures


def add_trial(
    figures: LabelFigures,
    columns: Mapping[str, np.ndarray],
    *,
    trial_id: str,
    subject: str,
    movement: str,
) -> None:
    """Add the label columns of one trial, in place."""
    meaning = figures.meaning
    distances, fitted = columns["marker_error_m"], columns["marker_mask"]
    values, usable = columns["coordinates"], columns["coordinate_mask"]
    limit = meaning.threshold_m
    by_marker = Both(
        unmasked=ErrorSums.of(distances, threshold_m=limit),
        masked=ErrorSums.of(np.where(fitted, distances, np.nan), threshold_m=limit),
    )
    limits = {"ranges": meaning.ranges, "tolerance": meaning.tolerance}
    coordinates = Both(
        unmasked=CoordinateSums.of(values, **limits),
        masked=CoordinateSums.of(np.where(usable, values, np.nan), **limits),
    )
    groups = Both(
        unmasked=by_marker.unmasked.grouped(meaning.groups),
        masked=by_marker.masked.grouped(meaning.groups),
    )
    figures.by_marker.add(by_marker)
    figures.coordinates.add(coordinates)
    figures.overall.add(groups)
    figures.by_subject.setdefault(subject, _no_errors(2)).add(groups)
    figures.by_movement.setdefault(movement, _no_errors(2)).add(groups)
    fit = groups.unmasked.figures(WEIGHTED)
    masked = 100.0 * (1.0 - usable.mean()) if usable.size else float("nan")
    figures.trials.append(
        TrialFigures(
            trial_id=trial_id,
            subject=subject,
            movement=movement,
            frames=len(values),
            unconverged=int((~columns["converged"]).sum()),
            masked_percent=float(masked),
            rms_mm=_number(fit["rms_mm"]),
            masked_rms_mm=_number(groups.masked.figures(WEIGHTED)["rms_mm"]),
            max_mm=_number(fit["max_mm"]),
            over_percent=_number(fit["over_percent"]),
            **_worst(distances, meaning),
        )
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _worst(distances: FloatArray, meaning: LabelMeaning) -> dict[str, Any]:
    """The worst row and the worst marker of a trial, by RMS over the weighted markers."""
    columns = np.flatnonzero(meaning.groups[WEIGHTED])
    squares = np.square(distances[:, columns])
    known = np.isfinite(squares)
    squares = np.where(known, squares, 0.0)
    if not known.any():
        return {"worst_row": -1, "worst_row_rms_mm": float("nan"), "worst_marker": ""}
    by_row = squares.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    by_marker = squares.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    row = int(by_row.argmax())
    return {
        "worst_row": row,
        "worst_row_rms_mm": float(1e3 * np.sqrt(by_row[row])),
        "worst_marker": meaning.markers[columns[int(by_marker.argmax())]],
    }


def _no_errors(count: int) -> Both[ErrorSums]:
    return Both(unmasked=ErrorSums.zeros(count), masked=ErrorSums.zeros(count))


def _read_ahead(uris: Iterable[str]) -> Iterator[tuple[str, Future[dict[str, np.ndarray]]]]:
    """Trial and the columns of its file, in order, a few files ahead of their use."""
    waiting: deque[tuple[str, Future[dict[str, np.ndarray]]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for uri in uris:
            waiting.append((PurePosixPath(uri).stem, pool.submit(_columns, uri)))
            if len(waiting) > _READERS:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()


def _columns(uri: str) -> dict[str, np.ndarray]:
    return LABELS.to_numpy(storage.read_table(uri, _COLUMNS), _COLUMNS)
