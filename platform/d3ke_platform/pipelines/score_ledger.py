"""What has become of the videos of a scoring job: counts, rejects, and the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d3ke_platform.pipelines.ray_data import is_reject
from d3ke_platform.pipelines.score_settings import ScoreSummary
from d3ke_platform.reject_kinds import reject_kind
from d3ke_platform.stages.score_plan import ScorePlan


@dataclass
class _Open:
    """A recording of the window that is being scored."""

    calibrated: bool
    items: int = 1
    """Items of the archive that are this recording: copies of a file have one name."""


class ScoreLedger:
    """Counts ledger rows as they come; of a finished recording only numbers are kept."""

    def __init__(self, plan: ScorePlan, *, videos: int, rejects: Sequence[dict[str, Any]]) -> None:
        """`videos` in the archive, and the rows of those rejected while it was listed."""
        self._plan, self._videos = plan, videos
        self.rejects = list(rejects)
        self._open: dict[str, _Open] = {}
        self._names: dict[str, str] = {}
        self._parts_left: Counter[str] = Counter()
        self._seen = self._unfinished = 0
        self._totals: Counter[str] = Counter()
        self._steps: Counter[str] = Counter()

    def start_window(self) -> None:
        """Forget the recordings before."""
        self._open, self._names = {}, {}

    def estimated(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """A row of `ScoreVideo`; returns the items of its parts, if it has to be shared out."""
        self._advance(row)
        if is_reject(row):
            self._reject(row)
            return []
        name = row["recording_id"]
        self._steps.update(row["seconds"])
        self._totals["estimated"] += row["estimated"]
        self._totals["missing"] -= row["estimated"] * row["part"]
        if name in self._open:
            self._open[name].items += row["counts"] is None and not row["part"]
            return []
        if row["part"]:
            return []
        self._open[name] = _Open(row["calibrated"])
        self._names |= {row["item"]: name, **{part["item"]: name for part in row["parts"]}}
        self._parts_left[name] = len(row["parts"])
        self._seen -= bool(row["parts"])
        self._totals["missing"] += row["missing"]
        self._unfinished += row["counts"] is None
        if row["counts"] is not None:
            self._finish(name, row["counts"], skipped=True)
        return list(row["parts"])

    def _advance(self, row: dict[str, Any]) -> None:
        """Count videos that nothing more is estimated of: those shared out at their last part."""
        name = self._names.get(row["item"], row["item"])
        if self._parts_left[name]:
            self._parts_left[name] -= 1
            self._seen += not self._parts_left[name]
        else:
            self._seen += 1

    @property
    def estimated_videos(self) -> int:
        """Videos that nothing more is estimated of."""
        return self._seen

    def unfinished(self) -> list[str]:
        """Recordings of the window whose estimates should be there."""
        return list(self._open)

    def finished(self, row: dict[str, Any]) -> None:
        """A row of `FinishRecording`."""
        if is_reject(row):
            self._reject(row)
            return
        self._steps.update(row["seconds"])
        self._unfinished -= 1
        self._finish(row["recording_id"], row["counts"], skipped=row["skipped"])

    def _finish(self, name: str, counts: Mapping[str, int], *, skipped: bool) -> None:
        recording = self._open.pop(name, None)
        items = recording.items if recording is not None else 1
        self._totals.update(counts)
        self._totals["scored"] += items
        self._totals["skipped"] += items * skipped
        self._totals["uncalibrated"] += recording is not None and not recording.calibrated

    def _reject(self, row: dict[str, Any]) -> None:
        """One reject per video: its other parts, and finishing it, would tell the same again."""
        name = self._names.get(row["item"], row["item"])
        if self._names.get(name, name) in self._names.values() and name not in self._open:
            return
        self._unfinished -= self._open.pop(name, None) is not None
        self.rejects.append(row)

    def note(self, seconds: float) -> str:
        """What a progress line says besides the number of videos."""
        frames = self._totals["estimated"]
        parts = [f"{frames} frames", f"{frames / max(seconds, 1e-9):.1f} frames/s"]
        if self.rejects:
            parts.append(f"{len(self.rejects)} rejected")
        left = self._videos - self._seen
        if self._seen and left > 0:
            parts.append(f"{_duration(seconds / self._seen * left)} left")
        return ", ".join(parts)

    def summary(
        self,
        *,
        seconds: float,
        network_busy: float | None,
        workers: int,
        gpus: float,
        price_per_gpu_hour: float,
        warnings: Sequence[str],
    ) -> ScoreSummary:
        """The end. `network_busy` None: the networks are in the `workers` themselves."""
        totals = self._totals
        if network_busy is None:
            network_busy = self._steps["network"] / max(seconds * workers, 1e-9)
        assumed = totals["uncalibrated"]
        told = [*warnings]
        if self._plan.cameras and assumed:
            told.append(f"{assumed} videos are not named in --cameras and have an assumed camera")
        return ScoreSummary(
            output=self._plan.output,
            run=self._plan.run,
            videos=self._videos,
            scored=totals["scored"],
            skipped=totals["skipped"],
            frames=totals["frames"],
            estimated_frames=totals["estimated"],
            frames_per_second=round(totals["estimated"] / max(seconds, 1e-9), 2),
            rows=totals["rows"],
            undetected_frames=totals["frames"] - totals["detected"],
            uncalibrated=assumed,
            rejects=len(self.rejects),
            reject_reasons=dict(Counter(reject_kind(row["reason"]) for row in self.rejects)),
            network_busy=round(min(network_busy, 1.0), 3),
            gpus=gpus,
            cost=round(price_per_gpu_hour * gpus * seconds / 3600, 2),
            stage_seconds={step: round(value, 2) for step, value in sorted(self._steps.items())},
            seconds=round(seconds, 2),
            missing_frames=totals["missing"],
            unfinished=self._unfinished,
            warnings=tuple(told),
        )


def _duration(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
