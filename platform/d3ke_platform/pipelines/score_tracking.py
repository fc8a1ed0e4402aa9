"""A scoring job as a run in MLflow: settings, counts, throughput, its summary and rejects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from d3ke_platform import storage
from d3ke_platform.pipelines.score_settings import ScoreSettings, ScoreSummary
from d3ke_platform.stages.score_plan import ScorePlan
from d3ke_platform.tracking import RunTracker, git_commit

EXPERIMENT = "score"
_COUNTS = (
    *("videos", "scored", "skipped", "frames", "estimated_frames", "frames_per_second", "rows"),
    *("undetected_frames", "uncalibrated", "rejects", "network_busy", "gpus", "cost", "seconds"),
)


class ScoreTracker:
    """The run of one job; nothing where tracking is off."""

    def __init__(self, tracker: RunTracker | None, plan: ScorePlan) -> None:
        self._tracker, self._plan = tracker, plan

    def finish(self, summary: ScoreSummary) -> None:
        """Record what the job came to."""
        if self._tracker is None:
            return
        content = asdict(summary)
        self._tracker.log_metrics({name: float(content[name]) for name in _COUNTS})
        self._tracker.log_metrics(_flat("seconds", summary.stage_seconds))
        self._tracker.log_metrics(_flat("rejects", summary.reject_reasons))
        if storage.is_uri(self._plan.output):
            return
        folder = Path(self._plan.folder)
        for name in ("summary.json", "scores.json"):
            self._tracker.log_file(folder / name)
        if (folder / "rejects").is_dir():
            self._tracker.log_folder(folder / "rejects", "rejects")

    def end(self, *, succeeded: bool) -> None:
        """Close the run."""
        if self._tracker is not None:
            self._tracker.finish(succeeded=succeeded)


def _flat(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}/{name.replace(' ', '_')}": float(value) for name, value in values.items()}


@contextmanager
def tracked(settings: ScoreSettings, plan: ScorePlan) -> Iterator[ScoreTracker]:
    """The job's run, closed as failed when the job ends with an error.

    Without a server (MLFLOW_TRACKING_URI) the database lies in the output, which has to be a
    folder for that.
    """
    nowhere = storage.is_uri(plan.output) and not os.environ.get("MLFLOW_TRACKING_URI")
    if not settings.tracking or nowhere:
        yield ScoreTracker(None, plan)
        return
    parameters: dict[str, Any] = {**storage.plain(settings), "run": plan.run}
    commit = git_commit(Path(__file__).parent)
    folder = Path.cwd() if storage.is_uri(plan.output) else Path(plan.output)
    tracker = ScoreTracker(
        RunTracker(
            folder,
            experiment=EXPERIMENT,
            name=plan.run,
            parameters=parameters,
            tags={"job": "score", "commit": commit, "output": plan.output},
        ),
        plan,
    )
    succeeded = False
    try:
        yield tracker
        succeeded = True
    finally:
        tracker.end(succeeded=succeeded)
