"""How well OpenSim's model follows the markers the labels were made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from d3ke_platform.data_set import DataSet
from d3ke_platform.pipelines.label_summary import LabelSummary, label_summary
from d3ke_platform.quality.label_figures import read_label_figures


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
    figures = read_label_figures(data)
    if not figures.trials:
        return None
    by_marker = {
        name: figures.by_marker.unmasked.figures(index)["rms_mm"]
        for index, name in enumerate(figures.meaning.markers)
        if figures.meaning.weights[index] > 0.0
    }
    return LabelQuality(
        summary=label_summary(figures),
        rms_mm_by_marker={name: rms for name, rms in by_marker.items() if rms is not None},
    )
