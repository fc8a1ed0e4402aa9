"""How well OpenSim's model follows the markers the labels were made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke_platform.data_set import DataSet
from d3ke_platform.schema import LABELS
from d3ke_platform.storage import exists, read_table

FAR_M = 0.020
"""The paper's 2 cm rule."""


@dataclass(frozen=True, kw_only=True)
class LabelQuality:
    """Distances between measured and model markers, over all frames of all labelled trials.

    Only markers that inverse kinematics was asked to follow (weight above 0) count.
    """

    rms_by_subject_m: dict[str, float]
    rms_by_marker_m: dict[str, float]
    rms_m: float
    far_share: float
    """Share of marker-frames beyond 2 cm."""
    frames: int
    trials: int
    usable_share: float
    """Share of (frame, coordinate) labels that the 2 cm rule keeps."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, millimetres and percent."""
        return {
            "marker_rms_mm": 1e3 * self.rms_m,
            "marker_rms_mm_by_subject": _millimetres(self.rms_by_subject_m),
            "marker_rms_mm_by_marker": _millimetres(self.rms_by_marker_m),
            "markers_beyond_20_mm_percent": 100 * self.far_share,
            "usable_coordinate_labels_percent": 100 * self.usable_share,
            "frames": self.frames,
            "trials": self.trials,
        }


def label_quality(data: DataSet) -> LabelQuality | None:
    """Quality of all labels of a data set, None when it has none."""
    names = data.skeleton().markers
    weights = dict(zip(data.marker_set().names, data.marker_set().ik_weights, strict=True))
    followed = np.array([weights.get(name, 0.0) > 0 for name in names])
    errors: dict[str, list[FloatArray]] = {}
    usable, trials = [], 0
    columns = ["marker_error_m", "coordinate_mask"]
    for trial in data.trials():
        uri = data.label_uri(trial["trial_id"])
        if not exists(uri):
            continue
        labels = LABELS.to_numpy(read_table(uri, columns), columns)
        errors.setdefault(trial["subject"], []).append(labels["marker_error_m"][:, followed])
        usable.append(labels["coordinate_mask"])
        trials += 1
    if not trials:
        return None
    by_subject = {subject: np.concatenate(parts) for subject, parts in sorted(errors.items())}
    everything = np.concatenate(list(by_subject.values()))
    kept = [name for name, follow in zip(names, followed, strict=True) if follow]
    by_marker = zip(kept, everything.T, strict=True)
    return LabelQuality(
        rms_by_subject_m={subject: rms(values) for subject, values in by_subject.items()},
        rms_by_marker_m={
            name: rms(values) for name, values in by_marker if np.isfinite(values).any()
        },
        rms_m=rms(everything),
        far_share=float((everything[np.isfinite(everything)] > FAR_M).mean()),
        frames=len(everything),
        trials=trials,
        usable_share=float(np.concatenate(usable).mean()),
    )


def rms(distances: FloatArray) -> float:
    """Root mean square of the finite values; NaN without any."""
    known = distances[np.isfinite(distances)]
    return float(np.sqrt((known**2).mean())) if known.size else float("nan")


def _millimetres(values: dict[str, float]) -> dict[str, float]:
    return {name: 1e3 * value for name, value in values.items()}
