"""Both trainings of a run, from a prepared data set to a model bundle."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from d3ke_platform.storage import DataSet, settings_hash
from d3ke_platform.tracking import RunTracker, git_commit
from d3ke_platform.training import checkpoint as saved
from d3ke_platform.training.build_bundle import build_bundle
from d3ke_platform.training.checkpoint import Progress
from d3ke_platform.training.estimates import EstimatePass, make_estimates
from d3ke_platform.training.frame_crops import streams
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.joint_stage import JointJob, split_weights
from d3ke_platform.training.progress import EpochPrinter, ProgressWatcher, Row
from d3ke_platform.training.run_folder import RunFolder
from d3ke_platform.training.samples import load_samples, require_disjoint_splits
from d3ke_platform.training.sequence_stage import SequenceJob
from d3ke_platform.training.sequences import frame_rate
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.training.trainer import (
    Job,
    Resources,
    choose_resources,
    fit,
    require_cpus_for_data,
)


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """What a run came to."""

    output: str
    """Folder of the run."""
    bundle: str
    """Folder of the model."""
    seconds: float
    """Wall time of this call."""
    training_frames: int
    validation_frames: int
    dropped: dict[str, int]
    """Training data that could not be used, by reason."""
    frame: dict[str, float]
    """Validation errors of the per-frame network at its best epoch."""
    sequence: dict[str, float]
    """Validation errors of the sequence network; empty without one."""
    joint: dict[str, float]
    """The same after both were fine-tuned together; empty where they were not."""
    mlflow_run_id: str


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Where the per-frame estimates of all recordings are."""

    training: tuple[str, ...]
    """Folders with every training recording, one per pass of augmentation."""
    validation: str
    """Folder with every validation recording."""


def train(settings: TrainSettings) -> TrainSummary:
    """Train both networks; needs a connection to Ray (see `runtime.connect`).

    A second call with the same settings continues: finished parts are skipped, an unfinished
    training goes on from its last checkpoint.

    Raises:
        RunMismatchError: `settings.output` holds a run with other settings or data.
        NonFiniteLossError, TrainingFailedError: see there.
    """
    return Training(settings).run()


class Training:
    """One call of `train`: the run's folder, its resources and its tracker."""

    def __init__(self, settings: TrainSettings) -> None:
        self._started = time.perf_counter()
        # Workers have working folders of their own.
        settings = replace(settings, frame=settings.frame.with_absolute_paths())
        self._settings = settings
        self._data = DataSet.open(settings.data, coordinates=settings.coordinates)
        self._data_hash = self._data.content_hash()
        self._resources = (
            Resources(workers=0)
            if settings.in_process
            else choose_resources(settings.workers, settings.workers_min)
        )
        require_disjoint_splits(self._data)
        # Loading the samples here finds unusable data before any worker is started.
        self._train = load_samples(self._data, "train")
        self._validation = load_samples(self._data, "validation")
        self._fps = frame_rate(
            self._data, self._train.recording_ids + self._validation.recording_ids
        )
        if streams(self._data, self._train, settings.frame):
            require_cpus_for_data(self._resources)
        # Begun last: what is refused leaves no run that has to be deleted.
        self._run = RunFolder(settings, self._data_hash)

    def run(self) -> TrainSummary:
        """Do what is not done yet."""
        tracker = self._tracker()
        succeeded = False
        try:
            self._log_epochs = _epoch_logger(tracker)
            metrics = self._parts(tracker)
            succeeded = True
        finally:
            tracker.finish(succeeded=succeeded)
        return TrainSummary(
            output=str(self._run.root),
            bundle=str(self._run.bundle),
            seconds=round(time.perf_counter() - self._started, 1),
            training_frames=len(self._train),
            validation_frames=len(self._validation),
            dropped=self._train.dropped,
            frame=metrics["frame"],
            sequence=metrics.get("sequence", {}),
            joint=metrics.get("joint", {}),
            mlflow_run_id=tracker.run_id,
        )

    def make_estimates(self, tracker: RunTracker) -> Estimates:
        """The per-frame network and its estimates alone, for trainings of sequence networks."""
        self._log_epochs = _epoch_logger(tracker)
        self._frame("frame")
        passes = self._estimates()
        return Estimates(training=passes, validation=str(self._run.part("estimates")))

    def adopt_frame(self, run: Path) -> None:
        """Take over the finished per-frame network of another run, with the same settings."""
        if self._run.done("frame") is None:
            _copy_whole(run / "frame" / "bundle", self._run.part("frame") / "bundle")
            record = json.loads((run / "run.json").read_text())
            self._run.mark("frame", record["parts"]["frame"])

    def _parts(self, tracker: RunTracker) -> dict[str, Any]:
        finished = self._run.done("bundle")
        if finished is not None:
            return finished
        metrics = {"frame": self._frame("frame")}
        if self._settings.sequence.enabled:
            passes = self._estimates()
            metrics["sequence"] = self._sequence(passes)
        if self._settings.joint.enabled:
            metrics["joint"] = self._joint()
        self._bundle(metrics)
        (self._run.root / "metrics.json").write_text(json.dumps(metrics, indent=1))
        tracker.log_metrics(
            {f"best/{stage}_{name}": v for stage, row in metrics.items() for name, v in row.items()}
        )
        tracker.log_folder(self._run.bundle, "bundle")
        return self._run.mark("bundle", metrics)

    def _frame(self, part: str, exclude: tuple[str, ...] = ()) -> dict[str, float]:
        """Train a per-frame network into the part's folder and make a bundle of it alone."""
        finished = self._run.done(part)
        if finished is not None:
            return finished
        job = FrameJob(
            data=self._data.root,
            settings=self._settings.frame,
            seed=self._settings.seed,
            exclude_subjects=exclude,
            coordinates=self._settings.coordinates,
            name=part,
        )
        errors = self._fit(job, part)
        weights = saved.load_weights(self._run.part(part))
        self._write_bundle(self._run.part(part) / "bundle", weights, None, errors)
        return self._run.mark(part, errors)

    def _sequence(self, passes: tuple[str, ...]) -> dict[str, float]:
        finished = self._run.done("sequence")
        if finished is not None:
            return finished
        job = SequenceJob(
            data=self._data.root,
            settings=self._settings.sequence,
            seed=self._settings.seed,
            training_passes=passes,
            validation_estimates=str(self._run.part("estimates")),
            coordinates=self._settings.coordinates,
        )
        return self._run.mark("sequence", self._fit(job, "sequence"))

    def _joint(self) -> dict[str, float]:
        finished = self._run.done("joint")
        if finished is not None:
            return finished
        job = JointJob(
            data=self._data.root,
            settings=self._settings.joint,
            frame=self._settings.frame,
            sequence=self._settings.sequence,
            frame_weights=str(self._run.part("frame")),
            sequence_weights=str(self._run.part("sequence")),
            seed=self._settings.seed,
            coordinates=self._settings.coordinates,
        )
        return self._run.mark("joint", self._fit(job, "joint"))

    def _fit(self, job: Job, part: str) -> dict[str, float]:
        """Train; the best weights go to the part's folder. Returns their validation errors."""
        folder = self._run.part(part)
        with self._log_epochs(self._run.progress):
            trained = fit(
                job,
                folder,
                # Ray continues whatever has the same name: the settings are part of it.
                run_name=f"{part}-{self._run.config_hash}",
                resources=self._resources,
                progress=self._run.progress,
                max_failures=self._settings.max_failures,
                deterministic=self._settings.deterministic,
            )
        saved.write_weights(trained.weights, folder / saved.BEST)
        return best_errors(trained.progress)

    def _estimates(self) -> tuple[str, ...]:
        """Estimate the recordings; folders with those of the training recordings."""
        folder = self._run.part("estimates")
        passes = [EstimatePass(folder=folder, recordings=self._validation.recording_ids)]
        recordings, count = self._train.recording_ids, self._settings.sequence.estimate_passes
        if self._settings.frame.cross_fit_folds:
            self._estimate("frame", passes)
            return (self._cross_fit(folder / "cross_fit"),)
        if count:
            training = [
                EstimatePass(
                    folder=folder / f"pass_{number}",
                    recordings=recordings,
                    seed=int(settings_hash([self._settings.seed, number])[:8], 16),
                )
                for number in range(count)
            ]
        else:
            training = [EstimatePass(folder=folder, recordings=recordings)]
        self._estimate("frame", passes + training)
        return tuple(str(one.folder) for one in training)

    def _cross_fit(self, folder: Path) -> str:
        """Estimate each training recording by a network that has not seen its subject."""
        of_recording = {r["recording_id"]: r["subject"] for r in self._data.recordings()}
        subjects = sorted({of_recording[name] for name in self._train.recording_ids})
        folds = self._settings.frame.cross_fit_folds
        for fold in range(folds):
            left_out = tuple(subjects[fold::folds])
            part = f"frame_fold_{fold}"
            self._frame(part, left_out)
            recordings = tuple(r for r in self._train.recording_ids if of_recording[r] in left_out)
            self._estimate(part, [EstimatePass(folder=folder, recordings=recordings)])
        return str(folder)

    def _estimate(self, part: str, passes: list[EstimatePass]) -> None:
        make_estimates(
            self._data,
            self._run.part(part) / "bundle",
            passes,
            self._settings.frame.augmentation,
            gpus=1.0 if self._resources.gpu else 0.0,
        )

    def _bundle(self, metrics: dict[str, dict[str, float]]) -> None:
        frame = saved.load_weights(self._run.part("frame"))
        sequence, errors = None, metrics["frame"]
        if metrics.get("sequence", {}).get("epoch"):
            # Epoch 0 is the identity: a network that never improved is left out.
            sequence = saved.load_weights(self._run.part("sequence"))
            errors = metrics["sequence"]
        if metrics.get("joint", {}).get("epoch"):
            frame, sequence = split_weights(saved.load_weights(self._run.part("joint")))
            errors = metrics["joint"]
        self._write_bundle(self._run.bundle, frame, sequence, errors)

    def _write_bundle(
        self,
        folder: Path,
        frame: dict[str, Tensor],
        sequence: dict[str, Tensor] | None,
        errors: dict[str, float],
    ) -> None:
        build_bundle(
            folder,
            data=self._data,
            data_hash=self._data_hash,
            settings=self._settings,
            fps=self._fps,
            frame=frame,
            sequence=sequence,
            metrics=errors,
        )

    def _tracker(self) -> RunTracker:
        known = self._run.done("mlflow") or {}
        commit = git_commit(Path(__file__).parent)
        tracker = RunTracker(
            self._run.root,
            experiment=self._settings.experiment,
            name=self._run.root.name,
            parameters=self._run.settings,
            tags={"mlflow.source.git.commit": commit, "data_hash": self._data_hash},
            run_id=known.get("run_id", ""),
        )
        self._run.mark("mlflow", {"run_id": tracker.run_id})
        return tracker


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a folder so that `target` is there in full or not at all.

    What an earlier copy that was cut off has left is replaced.
    """
    fresh = target.with_name(f"{target.name}.new")
    for left in (fresh, target):
        if left.exists():
            shutil.rmtree(left)
    shutil.copytree(source, fresh)
    fresh.rename(target)


def best_errors(progress: Progress) -> dict[str, float]:
    """Validation errors of the best epoch, and its number as "epoch"."""
    row = next(row for row in progress.history if row["epoch"] == progress.best_epoch)
    errors = {k.removeprefix("val_"): v for k, v in row.items() if k.startswith("val_")}
    return {"epoch": progress.best_epoch, **errors}


def _epoch_logger(tracker: RunTracker) -> Callable[[Path], AbstractContextManager[Any]]:
    """Context factory: while it is open, new epochs go to the terminal and to MLflow."""
    show = EpochPrinter()

    def on_row(row: Row) -> None:
        show(row)
        tracker.log_epoch(row)
        for name, path in row.get("pictures", {}).items():
            tracker.log_picture(f"{row['stage']}/{name}", Path(path), step=int(row["epoch"]))

    return lambda path: ProgressWatcher(path, on_row)
