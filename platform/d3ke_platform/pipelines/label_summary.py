"""Quality of a data set's labels in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.schema import LABELS

FAR_M = 0.02
"""The paper's limit for a well-fitted marker (section 2.1.1)."""
_COLUMNS = ["subject", "marker_error_m", "coordinate_mask"]


@dataclass(frozen=True, kw_only=True)
class LabelSummary:
    """How well the scaled models follow the measured markers that carry a weight."""

    trials: int
    frames: int
    marker_rms_mm: float
    """Root mean square distance of model and measured markers, mm."""
    marker_rms_mm_by_subject: dict[str, float]
    share_above_20_mm: float
    """Share of all marker-frames with a larger distance."""
    usable_coordinates: float
    """Share of coordinate values that are usable as labels."""


def summarise_labels(data: DataSet) -> LabelSummary:
    """Read all LABELS of a data set; zero trials give NaN figures."""
    weights = dict(zip(data.marker_set().names, data.marker_set().ik_weights, strict=True))
    weighted = np.array([weights.get(name, 0.0) > 0.0 for name in data.skeleton().markers])
    squares: dict[str, list[np.ndarray]] = {}
    usable: list[np.ndarray] = []
    uris = storage.list_files(data.uri("labels"), ".parquet")
    for uri in uris:
        columns = LABELS.to_numpy(storage.read_table(uri, _COLUMNS), _COLUMNS)
        errors = columns["marker_error_m"][:, weighted]
        subject = str(columns["subject"][0])
        squares.setdefault(subject, []).append(np.square(errors[np.isfinite(errors)]))
        usable.append(columns["coordinate_mask"])
    by_subject = {name: np.concatenate(parts) for name, parts in sorted(squares.items())}
    everything = np.concatenate([*by_subject.values(), np.zeros(0)])
    return LabelSummary(
        trials=len(uris),
        frames=sum(len(mask) for mask in usable),
        marker_rms_mm=_rms_mm(everything),
        marker_rms_mm_by_subject={name: _rms_mm(part) for name, part in by_subject.items()},
        share_above_20_mm=_mean(everything > FAR_M**2),
        usable_coordinates=_mean(np.concatenate(usable) if usable else np.zeros(0)),
    )


def _rms_mm(squares: np.ndarray) -> float:
    return round(float(np.sqrt(_mean(squares)) * 1e3), 2)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
