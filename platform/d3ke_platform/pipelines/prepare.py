"""Prepare a data set: recordings and marker trajectories -> labels and crops.

plan -> make units -> scale subjects -> label trials -> crop recordings -> summary. Each stage runs
on all workers and skips what is complete, so a broken-off run goes on where it stopped; items that
were rejected are tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.pipelines.label_summary import LabelSummary, label_summary
from d3ke_platform.pipelines.prepare_settings import (
    LabelSettings,
    PrepareSettings,
)
from d3ke_platform.pipelines.ray_data import identity, is_reject, reject_row, run_stage
from d3ke_platform.quality.label_figures import read_label_figures
from d3ke_platform.quality.report import write_quality
from d3ke_platform.schema import RECORDINGS, SUBJECTS, TRIALS
from d3ke_platform.sources import Source
from d3ke_platform.stages.crop import CropRecording
from d3ke_platform.stages.detect import DetectorChoice, choose_detector
from d3ke_platform.stages.label import LabelTrial, ScaleSubject
from d3ke_platform.stages.make import MakeUnit, unit_uri

Rows = list[dict[str, Any]]
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class PrepareSummary:
    """What a data set holds and how it came about; written as summary.json."""

    output: str
    subjects: int
    trials: int
    recordings: int
    """Recordings with crops."""
    labels: LabelSummary
    crops: int
    """Number of crops (frames)."""
    rejects: int
    seconds_by_stage: dict[str, float]
    """Wall-clock seconds in this run, stage by stage."""
    content_hash: str
    quality: str
    """The page on the quality of the labels."""


def prepare(settings: PrepareSettings, *, source: Source | None = None) -> PrepareSummary:
    """Prepare a data set on the connected Ray cluster (see `runtime.connect`).

    `source` replaces the one the settings name. Raises UsageError when the folder holds a data
    set of other settings, UnwritableError, SchemaVersionError, InvalidInputError when not a
    single trial could be labelled.
    """
    choice = choose_detector(
        settings.detector, pose_model=settings.pose_model, weights=settings.detector_weights
    )
    data = DataSet.create(
        settings.output,
        source=settings.source,
        settings=settings.identity(),
        overwrite=settings.overwrite,
    )
    source = source or settings.build_source()
    run = _Preparation(data, settings.actors or None, settings.trial_timeout_s)
    units = run.timed("plan", lambda: plan(data, source))
    run.make(source, units)
    run.scale(settings.labels)
    run.label(settings.labels)
    run.crop(choice)
    return run.finish()


def plan(data: DataSet, source: Source) -> Rows:
    """Units of the source; writes the data set's definitions and subjects the first time."""
    if storage.exists(data.uri("units.json")):
        return list(storage.read_json(data.uri("units.json")))
    from d3ke.kinematics import ScalingSettings
    from d3ke.skeleton import Skeleton

    planned = source.plan(Path(data.root))
    if planned.model_osim != data.model_osim:
        storage.write_atomically(
            data.model_osim,
            lambda path: planned.marker_set.apply_to_model(planned.model_osim, path),
        )
    Skeleton.from_osim(data.model_osim).save(data.resolve("skeleton.json"))
    planned.measurements.save(data.resolve("measurements.json"))
    planned.predicted.save(data.resolve("predicted.json"))
    planned.marker_set.save(data.resolve("marker_set.json"))
    storage.write_json(data.uri("scaling.json"), planned.scaling or ScalingSettings())
    if planned.notes:
        storage.write_json(data.uri("notes.json"), list(planned.notes))
    data.write_rows(SUBJECTS, planned.subjects)
    units = storage.plain(list(planned.units))
    storage.write_json(data.uri("units.json"), units)  # last: says that the rest is complete
    return list(units)


class _Preparation:
    """One run over a data set: what is left to do, rejects and seconds of each stage."""

    def __init__(self, data: DataSet, actors: int | None, timeout_s: float) -> None:
        self._data = data
        self._timeout_s = timeout_s
        self._actors = actors
        self._seconds: dict[str, float] = {}
        self._unscaled: dict[str, str] = {}

    def timed(self, name: str, work: Callable[[], Result]) -> Result:
        """Result of `work`, its seconds noted."""
        began = time.perf_counter()
        result = work()
        spent = self._seconds.get(name, 0.0) + time.perf_counter() - began
        self._seconds[name] = round(spent, 1)
        return result

    def make(self, source: Source, units: Rows) -> None:
        """Units that are not complete yet; then the tables of trials and recordings."""
        root = self._data.root
        done = self._finished("units", ".json")
        waiting = [unit for unit in units if unit["unit"] not in done]
        rejects: Rows = []
        for phase in sorted({unit.get("phase", 0) for unit in waiting}):
            now = [unit for unit in waiting if unit.get("phase", 0) == phase]
            rejects += self._run(MakeUnit, now, {"source": source, "root": root})
        self._data.write_rejects(MakeUnit.name, rejects)
        done = self._finished("units", ".json")
        made = [
            storage.read_json(unit_uri(root, unit["unit"]))
            for unit in units
            if unit["unit"] in done
        ]
        for table, key in ((TRIALS, "trials"), (RECORDINGS, "recordings")):
            rows = [row for unit in made for row in unit[key]]
            self._data.write_rows(table, sorted(rows, key=identity))

    def scale(self, settings: LabelSettings) -> None:
        """Subjects without a scaled model that have trials."""
        done = self._finished("subjects", ".parquet")
        performing = {row["subject"] for row in self._data.trials()}
        waiting = [row for row in self._data.subjects() if row["subject"] in performing - done]
        arguments = {
            "root": self._data.root,
            "place_markers": settings.place_markers,
            "timeout_s": self._timeout_s,
        }
        rejects = self._run(ScaleSubject, waiting, arguments)
        self._data.write_rejects(ScaleSubject.name, rejects)
        self._unscaled = {row["item"]: row["reason"] for row in rejects}

    def label(self, settings: LabelSettings) -> None:
        """Trials without labels; those of a subject that could not be scaled are rejected."""
        done = self._finished("labels", ".parquet")
        waiting = [row for row in self._data.trials() if row["trial_id"] not in done]
        arguments = {
            "root": self._data.root,
            "solver": settings.solver,
            "accuracy": settings.ik_accuracy,
            "regularization": settings.ik_regularization,
            "smoothness": settings.smoothness_of(self._data.description["source"]),
            "timeout_s": self._timeout_s,
            "marker_threshold_m": settings.marker_threshold_m,
        }
        rejects = [
            reject_row(
                row["trial_id"],
                LabelTrial.name,
                f"subject {row['subject']} was not scaled: {self._unscaled[row['subject']]}",
            )
            for row in waiting
            if row["subject"] in self._unscaled
        ]
        solvable = [row for row in waiting if row["subject"] not in self._unscaled]
        # Long trials first, so that none starts when the others are done.
        solvable.sort(key=lambda row: -row["frame_count"])
        rejects += self._run(LabelTrial, solvable, arguments)
        self._data.write_rejects(LabelTrial.name, rejects)

    def crop(self, detector: DetectorChoice) -> None:
        """Recordings without crops."""
        done = self._finished("crops", ".parquet")
        trials = {row["trial_id"]: row for row in self._data.trials()}
        waiting = [
            row
            | {
                "rate_hz": trials[row["trial_id"]]["rate_hz"],
                "label_count": trials[row["trial_id"]]["frame_count"],
            }
            for row in self._data.recordings()
            if row["recording_id"] not in done
        ]
        waiting.sort(key=lambda row: -row["frame_count"])
        arguments = {"root": self._data.root, "detector": tuple(detector)}
        rejects = self._run(CropRecording, waiting, arguments)
        self._data.write_rejects(CropRecording.name, rejects)

    def finish(self) -> PrepareSummary:
        """Write the page on label quality, then summary.json.

        Raises InvalidInputError when there is no label at all; the page tells why then.
        """
        data = self._data
        rejects = data.rejects()
        figures = self.timed("quality", lambda: read_label_figures(data))
        page = self.timed("quality", lambda: write_quality(data, figures))
        labels = label_summary(figures)
        if labels.trials == 0:
            reason = (
                f"; the first of {len(rejects)} rejects: {rejects[0]['reason'].rstrip('.')}"
                if rejects
                else ""
            )
            raise InvalidInputError(f"data set {data.root}", f"no trial could be labelled{reason}")
        crops = storage.list_files(data.uri("crops"), ".parquet")
        summary = PrepareSummary(
            output=data.root,
            subjects=len(self._finished("subjects", ".parquet")),
            trials=labels.trials,
            recordings=len(crops),
            crops=sum(storage.read_table(uri, ["frame"]).num_rows for uri in crops),
            labels=labels,
            rejects=len(rejects),
            seconds_by_stage=self._seconds,
            content_hash=data.content_hash(),
            quality=page,
        )
        storage.write_json(data.uri("summary.json"), summary)
        return summary

    def _finished(self, folder: str, suffix: str) -> set[str]:
        """Names of the items whose output is complete."""
        uris = storage.list_files(self._data.uri(folder), suffix)
        return {uri.rsplit("/", 1)[-1].removesuffix(suffix) for uri in uris}

    def _run(self, stage: type, items: Rows, arguments: dict[str, Any]) -> Rows:
        """Run a stage over the items; returns the reject rows."""
        name = str(stage.name)  # type: ignore[attr-defined]
        rows = self.timed(
            name,
            lambda: list(
                run_stage(items, stage, arguments=arguments, name=name, actors=self._actors)
            ),
        )
        return [row for row in rows if is_reject(row)]
