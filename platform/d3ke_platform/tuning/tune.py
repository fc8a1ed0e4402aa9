"""The whole search: estimates, trials, recipe, report."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from d3ke_platform import storage
from d3ke_platform.storage import DataSet
from d3ke_platform.tracking import RunTracker, git_commit
from d3ke_platform.training.frame_crops import streams
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.run_folder import FREE as FREE_IN_TRAINING
from d3ke_platform.training.run_folder import RunFolder
from d3ke_platform.training.samples import load_samples, require_disjoint_splits
from d3ke_platform.training.sequence_stage import SequenceJob
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.training.train import Estimates, Training
from d3ke_platform.training.trainer import Job, require_cpus_for_data
from d3ke_platform.tuning.adopt import adopted_settings
from d3ke_platform.tuning.ledger import Ledger, TrialRecord
from d3ke_platform.tuning.recipe import recipe_text
from d3ke_platform.tuning.report import ReportContent, StageReport, write_report
from d3ke_platform.tuning.search import Search
from d3ke_platform.tuning.session import run_search
from d3ke_platform.tuning.settings import FREE, Stage, StageOutcome, TuneSettings, TuneSummary
from d3ke_platform.tuning.shares import share_cluster
from d3ke_platform.tuning.space import describe, make_space
from d3ke_platform.tuning.watch import Watch


def tune(settings: TuneSettings) -> TuneSummary:
    """Search the settings of one or both networks; needs a connection to Ray.

    A second call with the same settings, or with more trials, goes on: trials that are over are
    kept, those that were cut off go on from their last checkpoint.

    Raises:
        RunMismatchError: `settings.output` holds a search with other settings or data.
        UsageError: nothing in the space can be trained.
        InvalidInputError: a person is in two splits, a split has nothing to learn from, `base`
            predicts other coordinates, or the cluster has no room for the workers of a trial.
        AllTrialsFailedError: see there.
    """
    return Tuning(settings).run()


class Tuning:
    """One call of `tune`: the folder of the search, its data and its tracker."""

    def __init__(self, settings: TuneSettings) -> None:
        self._started = time.perf_counter()
        self._data_hash = DataSet.open(settings.data).content_hash()
        if settings.base:
            settings = adopted_settings(settings, self._data_hash)
        # Trials have working folders of their own.
        settings = replace(settings, frame=settings.frame.with_absolute_paths())
        self._settings = settings
        self._data = DataSet.open(settings.data, coordinates=settings.coordinates)
        # Finds unusable data before anything is trained or written.
        require_disjoint_splits(self._data)
        train = load_samples(self._data, "train")
        load_samples(self._data, "validation")
        for stage in settings.stages:
            make_space(settings, stage)
        # Told now and not after hours of the per-frame network, which comes first.
        share = share_cluster(settings)
        if "frame" in settings.stages and streams(self._data, train, settings.frame):
            require_cpus_for_data(share.together)
        self._run = RunFolder(settings, self._data_hash, free=(*FREE_IN_TRAINING, *FREE))
        self._reports: list[StageReport] = []

    def run(self) -> TuneSummary:
        """Do what is not done yet."""
        tracker = self._tracker()
        succeeded = False
        try:
            summary = self._search_all(tracker)
            succeeded = True
        finally:
            tracker.finish(succeeded=succeeded)
        return summary

    def _search_all(self, tracker: RunTracker) -> TuneSummary:
        best = self._settings
        for stage in self._settings.stages:
            self._settings = best
            best = self._search(stage, tracker)
        outcomes = tuple(report.outcome for report in self._reports)
        recipe = self._run.root / "best.toml"
        storage.write_bytes(recipe, self._recipe_text(best, outcomes, recipe).encode())
        report = write_report(
            self._run.root / "report.html",
            ReportContent(
                settings=self._settings,
                data_hash=self._data_hash,
                stages=self._reports,
                recipe=recipe,
                recipe_text=recipe.read_text(),
            ),
        )
        for path in (recipe, report):
            tracker.log_file(path)
        tracker.log_metrics({f"best/{o.stage}_{o.metric}": o.value for o in outcomes})
        return TuneSummary(
            output=str(self._run.root),
            recipe=str(recipe),
            report=str(report),
            best=outcomes[-1].value,
            trials=sum(outcome.trials for outcome in outcomes),
            seconds=round(time.perf_counter() - self._started, 1),
            stages=outcomes,
            mlflow_run_id=tracker.run_id,
        )

    def _search(self, stage: Stage, tracker: RunTracker) -> TuneSettings:
        """Search one network; returns the settings with its best values."""
        settings = self._settings
        space = make_space(settings, stage)
        watch = Watch(tracker, stage=stage, trials=settings.trials, fixed=self._tags())
        search = Search(
            space=space,
            ledger=Ledger(self._folder(stage), getattr(settings, stage).selection_metric),
            trials=settings.trials,
            seed=settings.seed,
            observer=watch,
        )
        if search.left:
            run_search(
                search,
                self._job_maker(stage, space.settings, tracker),
                share=share_cluster(settings),
                grace=settings.grace(stage),
                reduction_factor=settings.reduction_factor,
                max_failures=settings.max_failures,
            )
        outcome = search.outcome()
        self._reports.append(StageReport(space=space, ledger=search.ledger, outcome=outcome))
        found = space.settings(outcome.parameters)
        return replace(settings, frame=found.frame, sequence=found.sequence)

    def _job_maker(
        self,
        stage: Stage,
        with_values: Callable[[dict[str, Any]], TrainSettings],
        tracker: RunTracker,
    ) -> Callable[[TrialRecord], Job]:
        """What makes the training of a trial; the estimates it needs are made here."""
        estimates = self._estimates(tracker) if stage == "sequence" else None

        def make(record: TrialRecord) -> Job:
            settings = with_values(record.parameters)
            if estimates is None:
                return FrameJob(
                    data=self._data.root,
                    settings=settings.frame,
                    seed=settings.seed,
                    coordinates=settings.coordinates,
                )
            return SequenceJob(
                data=self._data.root,
                settings=settings.sequence,
                seed=settings.seed,
                training_passes=estimates.training,
                validation_estimates=estimates.validation,
                coordinates=settings.coordinates,
            )

        return make

    def _folder(self, part: str) -> Path:
        """Folder of a part; of its own for every per-frame setting where that is searched.

        More trials may find a better per-frame network, with other estimates.
        """
        if self._settings.tune == "both" and part != "frame":
            part = f"{part}-{storage.settings_hash(self._settings.frame)[:8]}"
        return self._run.part(part)

    def _estimates(self, tracker: RunTracker) -> Estimates:
        """Per-frame estimates of all recordings, made once for all trials."""
        base = replace(self._settings.training(), output=str(self._folder("base")))
        training = Training(base)
        if self._settings.base:
            training.adopt_frame(Path(self._settings.base))
        return training.make_estimates(tracker)

    def _recipe_text(
        self, best: TuneSettings, outcomes: tuple[StageOutcome, ...], path: Path
    ) -> str:
        lines = ["The best setting of a search (jobs/tune.py).", "", f"Data: {self._data_hash}"]
        for outcome in outcomes:
            recipe = outcome.recipe_value
            gain = "" if recipe is None else f", the recipe's own setting {recipe:.4f}"
            lines += [
                "",
                f"{outcome.stage} network: trial {outcome.best_trial} of {outcome.trials} "
                f"({outcome.finished} finished, {outcome.stopped} stopped, "
                f"{outcome.failed} failed)",
                f"{outcome.metric} on the validation subjects: {outcome.value:.4f}{gain}",
                f"Searched: {describe(outcome.parameters)}",
            ]
        use = f"python jobs/train.py --data {self._settings.data} --output RUN --config {path}"
        lines += ["", f"Made by: {shlex.join(['python', *sys.argv])}", f"Use it: {use}"]
        return recipe_text(best.training(), lines)

    def _tags(self) -> dict[str, str]:
        commit = git_commit(Path(__file__).parent)
        return {"mlflow.source.git.commit": commit, "data_hash": self._data_hash}

    def _tracker(self) -> RunTracker:
        known = self._run.done("mlflow") or {}
        tracker = RunTracker(
            self._run.root,
            experiment=self._settings.experiment,
            name=self._run.root.name,
            parameters=self._run.settings,
            tags=self._tags(),
            run_id=known.get("run_id", ""),
        )
        self._run.mark("mlflow", {"run_id": tracker.run_id})
        return tracker
