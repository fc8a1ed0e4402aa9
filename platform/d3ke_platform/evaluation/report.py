"""The report page: one HTML file with everything in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3ke.networks import Bundle
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.evaluation import figures
from d3ke_platform.evaluation.comparison import METHODS, RecordingComparison
from d3ke_platform.evaluation.gates import Gate
from d3ke_platform.evaluation.label_quality import LabelQuality
from d3ke_platform.evaluation.metrics import EvaluationMetrics
from d3ke_platform.evaluation.page import environment
from d3ke_platform.evaluation.pictures import example_crops
from d3ke_platform.evaluation.plotting import Picture
from d3ke_platform.evaluation.real_video import real_video_pictures
from d3ke_platform.evaluation.settings import EvaluateSettings
from d3ke_platform.training.progress import read_rows


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything the page tells."""

    settings: EvaluateSettings
    bundle: Bundle
    data: DataSet
    data_hash: str
    comparisons: Sequence[RecordingComparison]
    metrics: EvaluationMetrics
    quality: LabelQuality | None
    gates: Sequence[Gate]
    rejects: Sequence[Mapping[str, Any]]


def write_report(path: Path, content: ReportContent) -> Path:
    """Write the page; returns its absolute path."""
    template = environment().get_template("report.html.j2")
    pictures = {name: shown for name, shown in _pictures(content).items() if shown}
    page = template.render(
        content=content,
        tables=content.metrics.tables,
        methods={name: METHODS[name] for name in content.metrics.methods},
        headline=content.metrics.headline(),
        quality=content.quality.to_json() if content.quality else None,
        pictures=pictures,
        model_hash=content.bundle.content_hash(),
        data_hash=content.data_hash,
    )
    storage.write_bytes(path, page.encode())
    return path.absolute()


def _pictures(content: ReportContent) -> dict[str, list[Picture]]:
    settings, metrics = content.settings, content.metrics
    run = settings.run or str(Path(settings.model).absolute().parent)
    joints = content.bundle.skeleton.joints
    sections: dict[str, list[Picture | None]] = {
        "angles": [
            figures.error_bars(metrics),
            figures.angle_curves(content.comparisons, metrics),
            figures.scatter(metrics),
        ],
        "crops": [example_crops(content.data, content.comparisons, joints, settings.examples)],
        "labels": [figures.label_errors(content.quality)] if content.quality else [],
        "training": [figures.training_curves(read_rows(Path(run) / "progress.jsonl"))],
        "real": [],
    }
    if settings.scores:
        sections["real"] += real_video_pictures(settings.scores, content.bundle.skeleton)
    return {
        name: [shown for shown in pictures if shown is not None]
        for name, pictures in sections.items()
    }
