"""Quality of a data set's labels in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

from d3ke_platform.data_set import DataSet
from d3ke_platform.quality.label_figures import WEIGHTED, LabelFigures, read_label_figures
from d3ke_platform.quality.sums import ErrorSums


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
    return label_summary(read_label_figures(data))


def label_summary(figures: LabelFigures) -> LabelSummary:
    """The few numbers of figures that were read already."""
    sums = figures.overall.unmasked
    return LabelSummary(
        trials=len(figures.trials),
        frames=figures.frames,
        marker_rms_mm=_rms_mm(sums),
        marker_rms_mm_by_subject={
            name: _rms_mm(groups.unmasked) for name, groups in figures.by_subject.items()
        },
        share_above_20_mm=_ratio(sums.far[WEIGHTED], sums.measured[WEIGHTED]),
        usable_coordinates=_ratio(
            figures.coordinates.masked.frames.sum(),
            figures.frames * len(figures.meaning.coordinates),
        ),
    )


def _rms_mm(sums: ErrorSums) -> float:
    value = sums.figures(WEIGHTED)["rms_mm"]
    return float("nan") if value is None else round(value, 2)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
