"""How well OpenSim's model follows the markers the labels were made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke_platform.data_set import DataSet
from d3ke_platform.pipelines.label_summary import LabelSummary, summarise_labels
from d3ke_platform.schema import LABELS
from d3ke_platform.storage import list_files, read_table


@dataclass(frozen=True, kw_only=True)
class LabelQuality:
    """Distances between measured and model markers, over all frames of all labelled trials.

    Only markers that inverse kinematics was asked to follow (weight above 0) count.
    """

    summary: LabelSummary
    rms_mm_by_marker: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values, millimetres and percent."""
        summary = self.summary
        return {
            "marker_rms_mm": summary.marker_rms_mm,
            "marker_rms_mm_by_subject": summary.marker_rms_mm_by_subject,
            "marker_rms_mm_by_marker": self.rms_mm_by_marker,
            "markers_beyond_20_mm_percent": 100 * summary.share_above_20_mm,
            "usable_coordinate_labels_percent": 100 * summary.usable_coordinates,
            "frames": summary.frames,
            "trials": summary.trials,
        }


def label_quality(data: DataSet) -> LabelQuality | None:
    """Quality of all labels of a data set, None when it has none."""
    files = list_files(data.uri("labels"), ".parquet")
    if not files:
        return None
    columns = ["marker_error_m"]
    errors = np.concatenate(
        [LABELS.to_numpy(read_table(file, columns), columns)["marker_error_m"] for file in files]
    )
    weights = dict(zip(data.marker_set().names, data.marker_set().ik_weights, strict=True))
    by_marker = dict(zip(data.skeleton().markers, errors.T, strict=True))
    return LabelQuality(
        summary=summarise_labels(data),
        rms_mm_by_marker={
            name: rms_mm(values)
            for name, values in by_marker.items()
            if weights.get(name, 0.0) > 0 and np.isfinite(values).any()
        },
    )


def rms_mm(distances_m: FloatArray) -> float:
    """Root mean square of the finite values [mm]; NaN without any."""
    known = distances_m[np.isfinite(distances_m)]
    return float(1e3 * np.sqrt((known**2).mean())) if known.size else float("nan")
