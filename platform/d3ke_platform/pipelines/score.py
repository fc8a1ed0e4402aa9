"""Scoring: an archive of videos -> joint angles, body scales and markers of every frame."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from d3ke.camera import Camera
from d3ke.networks.bundle import Bundle, load_bundle
from d3ke_platform import runtime, storage
from d3ke_platform.calibration import camera_to_json, read_cameras
from d3ke_platform.pipelines.archive import LIST_STAGE, list_archive
from d3ke_platform.pipelines.network_pool import NetworkPool, network_pool
from d3ke_platform.pipelines.ray_data import run_stage
from d3ke_platform.pipelines.score_ledger import ScoreLedger
from d3ke_platform.pipelines.score_settings import ScoreSettings, ScoreSummary
from d3ke_platform.pipelines.score_tracking import tracked
from d3ke_platform.progress_bar import ProgressReport, progress
from d3ke_platform.stages.crop_video import CropRule
from d3ke_platform.stages.detect import DetectorChoice, choose_detector
from d3ke_platform.stages.estimate import CropGeometry, bundle_dims
from d3ke_platform.stages.finish_recording import FinishRecording
from d3ke_platform.stages.score_plan import ScorePlan
from d3ke_platform.stages.score_video import ScoreVideo
from d3ke_platform.stages.scores_folder import RUN_PREFIX, latest_run, run_name
from d3ke_platform.stages.speed_sample import SpeedSample

__all__ = ["ScoreSettings", "ScoreSummary", "score"]

SCORES_VERSION = 3
WINDOW_VIDEOS, WINDOW_ROUNDS = 2000, 20
"""Videos that are estimated before they are finished, at least, and so many of each worker: the
driver's memory follows them, and results do not wait for the whole archive. At the end of a window
workers wait for those that have a long video, which many videos each make up for."""


def score(settings: ScoreSettings) -> ScoreSummary:
    """Score an archive on the connected Ray cluster.

    Segments of videos, then the results and exports of each, are written under names made of
    their content, the model and the settings, so that another run does only what is missing.

    Raises:
        UsageError: no videos.
        D3KEError: a model, detector or calibration that cannot be used.
    """
    began = time.monotonic()
    cameras = read_cameras(settings.cameras) if settings.cameras else {}
    choice = choose_detector(
        settings.detector, pose_model=settings.pose_model, weights=settings.detector_weights
    )
    listing = list_archive(
        settings.archive,
        cameras,
        allow_outside=settings.allow_outside,
        without=settings.output,
    )
    job = _job(settings, choice, cameras)
    FinishRecording(job.plan)  # refuses exports that cannot be written, before hours of work
    if settings.dry_run:
        return job.look(listing.items, listing.rejects, began)
    job.claim()
    with tracked(settings, job.plan) as tracker:
        summary = job.run(listing.items, listing.rejects, began)
        tracker.finish(summary)
    return summary


def _job(settings: ScoreSettings, choice: DetectorChoice, cameras: dict[str, Camera]) -> _Job:
    bundle = load_bundle(settings.model)
    output = _absolute(settings.output)  # workers have other working folders
    gpus = runtime.total_gpus() if settings.device != "cpu" else 0.0
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if gpus else "fp32"
    rule = _rule(settings, bundle)
    identity = _identity(settings, bundle, choice, cameras, rule, precision)
    plan = ScorePlan(
        output=output,
        run=run_name(identity),
        bundle=os.path.abspath(settings.model),
        dims=bundle_dims(bundle),
        detector=choice,
        rule=rule,
        device=settings.device,
        precision=precision,
        batch_size=settings.batch_size,
        segment_frames=settings.segment_frames,
        field_of_view_deg=settings.field_of_view_deg,
        cameras=bool(cameras),
        frame_rate=settings.frame_rate,
        exports=settings.exports,
        timeout_s=settings.timeout_s,
        # A GPU's driver maps far more than it uses.
        memory_gb=0.0 if gpus and choice.name == "fasterrcnn" else settings.memory_gb,
        retries=settings.retries,
        retry_rejects=settings.retry_rejects,
        only_look=settings.dry_run,
    )
    warnings = (choice.warning,) if choice.warning else ()
    return _Job(settings=settings, plan=plan, identity=identity, gpus=gpus, warnings=warnings)


def _absolute(location: str) -> str:
    """A location that means the same in any working folder."""
    return location if storage.is_uri(location) else str(storage.local_path(location))


def _rule(settings: ScoreSettings, bundle: Bundle) -> CropRule:
    geometry = CropGeometry.of_bundle(bundle)
    return CropRule(
        stored_size=geometry.stored_size,
        cut_size=geometry.cut_size,
        margin=geometry.stored_field_of_view,
        detect_every=settings.detect_every,
        gap_s=settings.gap_s,
        smoothing_s=settings.box_smoothing_s,
        people=settings.people,
    )


def _identity(
    settings: ScoreSettings,
    bundle: Bundle,
    choice: DetectorChoice,
    cameras: Mapping[str, Camera],
    rule: CropRule,
    precision: str,
) -> dict[str, Any]:
    """Everything but the videos that changes a result, as JSON values."""
    calibration = {name: camera_to_json(camera) for name, camera in cameras.items()}
    return {
        "scores_version": SCORES_VERSION,
        "model": bundle.content_hash(),
        "detector": choice.name,
        "detector_model": storage.content_hash(choice.model) if choice.model else "",
        "cameras": storage.settings_hash(calibration) if cameras else "",
        "field_of_view_deg": settings.field_of_view_deg,
        "frame_rate": settings.frame_rate,
        "precision": precision,
        **{name: getattr(rule, name) for name in ("detect_every", "gap_s", "smoothing_s")},
        "people": rule.people,
    }


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One run of the job, all settled."""

    settings: ScoreSettings
    plan: ScorePlan
    identity: dict[str, Any]
    gpus: float
    warnings: tuple[str, ...]

    def claim(self) -> None:
        """Start the run's folder, or continue it."""
        storage.make_folder(self.plan.folder)
        if self.settings.overwrite:
            self._clear_others()
        storage.write_json(storage.join(self.plan.folder, "scores.json"), self.identity)

    def _clear_others(self) -> None:
        output = self.plan.output.rstrip("/")
        for file in storage.list_files(output, "/scores.json"):
            folder = file.removesuffix("/scores.json")
            above, _, name = folder.rpartition("/")
            if above == output and name.startswith(RUN_PREFIX) and name != self.plan.run:
                storage.remove(folder)

    def run(
        self, items: list[dict[str, Any]], listed: list[dict[str, Any]], began: float
    ) -> ScoreSummary:
        """Estimate and finish everything that is missing."""
        ledger = ScoreLedger(self.plan, videos=len(items) + len(listed), rejects=listed)
        count = self._network_actors()
        gpus = min(1.0, self.gpus / count) if count else 0.0
        with (
            network_pool(self.plan, count=count, gpus=gpus) as pool,
            progress("score", len(items)) as report,
        ):
            size = max(WINDOW_VIDEOS, WINDOW_ROUNDS * self._workers())
            for start in range(0, len(items), size):
                window = items[start : start + size]
                ledger.start_window()
                shared_out = self._estimate_all(window, pool, ledger, report, began)
                self._estimate_all(shared_out, pool, ledger, report, began)
                for row in self._finish(ledger.unfinished()):
                    ledger.finished(row)
            busy = pool.use().busy if pool is not None else None
        summary = self._summary(ledger, began, busy)
        # A table of each archive, so that jobs that share an output leave each other's alone.
        archive = storage.settings_hash(_absolute(self.settings.archive))[:8]
        for stage in (LIST_STAGE, ScoreVideo.name, FinishRecording.name):
            rows = [row for row in ledger.rejects if row["stage"] == stage]
            storage.write_rejects(self.plan.folder, f"{stage}-{archive}", rows)
        for folder in (self.plan.folder, self.plan.output):
            storage.write_json(storage.join(folder, "summary.json"), asdict(summary))
        return summary

    def look(
        self, items: list[dict[str, Any]], listed: list[dict[str, Any]], began: float
    ) -> ScoreSummary:
        """What `run` would do, and how long it would take."""
        ledger = ScoreLedger(self.plan, videos=len(items) + len(listed), rejects=listed)
        missing: dict[str, Any] | None = None
        rows = run_stage(
            items, ScoreVideo, arguments={"plan": self.plan}, name="look", progress=True
        )
        by_uri = {item["uri"]: item for item in items}
        for row in rows:
            ledger.estimated(row)
            if row.get("missing") and missing is None:
                missing = by_uri[row["uri"]]
        rate = self._known_rate()
        if missing is not None and not rate:
            rate = self._sampled_rate(missing)
        summary = self._summary(ledger, began, None)
        expected_s = summary.missing_frames / rate if rate else 0.0
        price = self.settings.price_per_gpu_hour
        return replace(
            summary,
            dry_run=True,
            expected_seconds=round(expected_s, 1),
            cost=round(price * self.gpus * expected_s / 3600, 2),
        )

    def _summary(self, ledger: ScoreLedger, began: float, busy: float | None) -> ScoreSummary:
        return ledger.summary(
            seconds=time.monotonic() - began,
            network_busy=busy,
            workers=self._workers(),
            gpus=self.gpus,
            price_per_gpu_hour=self.settings.price_per_gpu_hour,
            warnings=self.warnings,
        )

    def _known_rate(self) -> float:
        """Frames/s of the latest run of this output, if it was of this model and settings."""
        if latest_run(self.plan.output) != self.plan.folder:
            return 0.0
        known = storage.join(self.plan.folder, "summary.json")
        return float(storage.read_json(known)["frames_per_second"])

    def _sampled_rate(self, item: dict[str, Any]) -> float:
        """Frames/s of a few seconds of one of the videos, times the workers."""
        plan = replace(self.plan, only_look=False)
        rows = run_stage(
            [item], SpeedSample, arguments={"plan": plan}, name="sample", progress=False
        )
        rates = [row["frames_per_second"] for row in rows if "frames_per_second" in row]
        return sum(rates) * self._workers()

    def _network_actors(self) -> int:
        if self.settings.network_actors:
            return self.settings.network_actors
        return int(self.gpus)

    def _workers(self) -> int:
        """Videos at the same time: a CPU each, two for Ray Data, one per network actor."""
        free = runtime.total_cpus() - 2 - self._network_actors()
        return self.settings.actors or max(1, int(free))

    def _estimate(
        self, items: list[dict[str, Any]], pool: NetworkPool | None
    ) -> Iterator[dict[str, Any]]:
        network = pool.network if pool is not None else None
        return run_stage(
            items,
            ScoreVideo,
            arguments={"plan": self.plan, "network": network},
            name=ScoreVideo.name,
            actors=self._workers(),
            progress=False,
        )

    def _estimate_all(
        self,
        items: list[dict[str, Any]],
        pool: NetworkPool | None,
        ledger: ScoreLedger,
        report: ProgressReport,
        began: float,
    ) -> list[dict[str, Any]]:
        """Estimate items; returns the parts of those that are too long for one go."""
        parts = []
        for row in self._estimate(items, pool):
            before = ledger.estimated_videos
            parts += ledger.estimated(row)
            done = ledger.estimated_videos - before
            report.advance(done, note=ledger.note(time.monotonic() - began))
        return parts

    def _finish(self, names: list[str]) -> Iterator[dict[str, Any]]:
        return run_stage(
            [{"recording_id": name} for name in names],
            FinishRecording,
            arguments={"plan": self.plan},
            name=FinishRecording.name,
            actors=self._workers(),
        )
