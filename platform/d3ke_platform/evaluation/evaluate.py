"""Held-out recordings: crops -> both networks -> tables against labels and baseline -> report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.errors import InvalidInputError
from d3ke.networks import Bundle
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet, write_rejects
from d3ke_platform.evaluation.baseline import MeanBaseline, mean_baseline
from d3ke_platform.evaluation.comparison import (
    METHODS,
    RecordingComparison,
    labelled_rows,
    method_estimate,
    read_estimates,
    truth_of,
)
from d3ke_platform.evaluation.gates import Gate, accuracy_gates, label_gates
from d3ke_platform.evaluation.label_quality import label_quality
from d3ke_platform.evaluation.metrics import EvaluationMetrics, measure
from d3ke_platform.evaluation.report import ReportContent, write_report
from d3ke_platform.evaluation.settings import EvaluateSettings, EvaluationSummary
from d3ke_platform.pipelines.ray_data import is_reject, run_stage
from d3ke_platform.stages.estimate import EstimateArrays, EstimateCrops
from d3ke_platform.stages.refine import SequenceRefiner
from d3ke_platform.training.samples import load_samples


def evaluate(
    settings: EvaluateSettings, *, more_gates: Callable[[], Sequence[Gate]] = tuple
) -> EvaluationSummary:
    """Evaluate a bundle; needs a connection to Ray (see `runtime.connect`).

    `more_gates` is asked for further gates when everything else is measured, so that they are on
    the report page. Estimates are kept below the output, by model and data, and reused.

    Raises:
        InvalidInputError: nothing to evaluate.
        UsageError: the data set or the output folder cannot be used.
    """
    return Evaluation(settings).run(more_gates)


class Evaluation:
    """One call of `evaluate`."""

    def __init__(self, settings: EvaluateSettings) -> None:
        """Open data, model and output; needs no Ray, so that bad settings fail at once."""
        self._started = time.perf_counter()
        self._settings = settings
        storage.make_folder(settings.output)
        data = DataSet.open(settings.data)
        # Loaded here, not in the actors only: a broken bundle is one clear error.
        self._refiner = SequenceRefiner(settings.model)
        self._bundle: Bundle = self._refiner.bundle
        if data.skeleton().content_hash() != self._bundle.skeleton.content_hash():
            raise InvalidInputError(
                settings.model,
                f"has another skeleton than the data set {settings.data}",
                "Evaluate it on data prepared with the model it was trained with.",
            )
        # A model of one region is judged by its own coordinates.
        self._data = DataSet.open(
            settings.data, coordinates=self._bundle.head.predicted.coordinates
        )
        self._data_hash = self._data.content_hash()
        self._recordings = [r for r in self._data.recordings() if r["split"] == settings.split]
        self._rejects: list[dict[str, Any]] = []

    def run(self, more_gates: Callable[[], Sequence[Gate]] = tuple) -> EvaluationSummary:
        """Everything, in order; needs a connection to Ray."""
        comparisons = self.compare(self._estimate())
        metrics = measure(
            comparisons,
            head=self._bundle.head,
            moving_threshold_deg=self._settings.moving_threshold,
        )
        quality = label_quality(self._data)
        gates = [*accuracy_gates(metrics.tables["groups"]), *label_gates(quality), *more_gates()]
        self._write(metrics, quality.to_json() if quality else None, gates)
        report = write_report(
            Path(self._settings.output) / "report.html",
            ReportContent(
                settings=self._settings,
                bundle=self._bundle,
                data=self._data,
                data_hash=self._data_hash,
                comparisons=comparisons,
                metrics=metrics,
                quality=quality,
                gates=gates,
                rejects=self._rejects,
            ),
        )
        return EvaluationSummary(
            output=str(self._settings.output),
            report=str(report),
            recordings=len(comparisons),
            frames=metrics.frames,
            rejects=len(self._rejects),
            seconds=round(time.perf_counter() - self._started, 1),
            headline=metrics.headline(),
        )

    def _estimate(self) -> dict[str, str]:
        """Per-frame estimates of all recordings: recording_id -> uri of the ESTIMATES table."""
        key = storage.settings_hash([self._bundle.content_hash(), self._data_hash])
        folder = storage.join(self._settings.output, "estimates", key)
        items = []
        for recording in self._recordings:
            name = recording["recording_id"]
            items.append(
                {
                    "item": name,
                    "recording_id": name,
                    "crops_uri": self._data.crop_uri(name),
                    "estimates_uri": storage.join(folder, f"{name}.parquet"),
                }
            )
        done = {}
        missing = [i for i in items if not storage.exists(i["estimates_uri"])]
        for row in self._run_stage(missing) if missing else ():
            if is_reject(row):
                self._rejects.append(row)
        for item in items:
            if storage.exists(item["estimates_uri"]):
                done[item["recording_id"]] = item["estimates_uri"]
        return done

    def _run_stage(self, items: list[dict[str, Any]]) -> Any:
        settings = self._settings
        return run_stage(
            items,
            EstimateCrops,
            arguments={
                "bundle_folder": settings.model,
                "device": settings.device,
                "batch_size": settings.batch_size,
            },
            name="estimate",
        )

    def compare(self, estimates: Mapping[str, str]) -> list[RecordingComparison]:
        """Labels, baseline and both networks of every recording that has estimates and labels."""
        baseline = self._baseline()
        comparisons = []
        for recording in self._recordings:
            uri = estimates.get(recording["recording_id"])
            if uri and storage.exists(self._data.label_uri(recording["trial_id"])):
                comparison = self._compare(recording, read_estimates(uri), baseline)
                if len(comparison.truth.frame):
                    comparisons.append(comparison)
        if not comparisons:
            raise InvalidInputError(
                f"split {self._settings.split!r} of {self._settings.data}",
                "no recording has both crops and labels",
                "See the rejects of the data set.",
            )
        return comparisons

    def _baseline(self) -> MeanBaseline:
        samples = load_samples(self._data, "train")
        cameras = {r["recording_id"]: r["camera"] for r in self._data.recordings()}
        by_recording = np.array([cameras[name] for name in samples.recording_ids])
        return mean_baseline(
            coordinates=samples.coordinates,
            coordinate_mask=samples.coordinate_mask,
            factors=samples.factors,
            root_rotation=samples.root_rotation,
            cameras=by_recording[samples.recording],
        )

    def _compare(
        self,
        recording: Mapping[str, Any],
        columns: dict[str, np.ndarray],
        baseline: MeanBaseline,
    ) -> RecordingComparison:
        skeleton, predicted = self._bundle.skeleton, self._bundle.head.predicted
        landmarks = skeleton.index_of("marker", predicted.bony_landmarks)
        kept, rows, labels = labelled_rows(self._data, recording, columns["frame"])
        rotation = columns["crop_rotation"][kept]
        refined = self._refiner.refine(columns, fps=float(recording["fps"]))
        by_method = {
            "mean_angle": baseline.estimate(recording["camera"], len(kept)),
            "per_frame": EstimateArrays(
                coordinates=columns["coordinates"][kept],
                root_rotation=columns["root_rotation"][kept],
                factors=columns["measurement_factors"][kept],
            ),
        }
        if self._bundle.sequence is not None:
            by_method["sequence"] = EstimateArrays(*(values[kept] for values in refined))
        return RecordingComparison(
            recording=recording,
            truth=truth_of(
                labels,
                rows,
                frames=columns["frame"][kept],
                predicted=skeleton.index_of("coordinate", predicted.coordinates),
                landmarks=landmarks,
            ),
            crop_intrinsics=columns["crop_intrinsics"][kept],
            crop_rotation=rotation,
            crop_translation=columns["crop_translation"][kept],
            estimates={
                name: method_estimate(self._bundle.head, estimate, rotation, landmarks)
                for name, estimate in by_method.items()
            },
        )

    def _write(
        self, metrics: EvaluationMetrics, quality: dict[str, Any] | None, gates: Sequence[Gate]
    ) -> None:
        output = self._settings.output
        write_rejects(output, "evaluate", self._rejects)
        content = {
            "settings": asdict(self._settings),
            "model": self._bundle.content_hash(),
            "data": self._data_hash,
            "methods": METHODS,
            "headline": metrics.headline(),
            "moving_coordinates": metrics.moving,
            "recordings": metrics.recordings,
            "frames": metrics.frames,
            "tables": metrics.tables,
            "label_quality": quality,
            "gates": [gate.to_json() for gate in gates],
        }
        storage.write_json(storage.join(output, "metrics.json"), without_nan(content))
        storage.write_bytes(storage.join(output, "metrics.csv"), metrics.csv().encode())


def without_nan(value: Any) -> Any:
    """JSON has no NaN: it becomes null."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
