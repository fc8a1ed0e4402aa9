"""Scoring: an archive of videos -> joint angles, body scales and markers of every frame."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform import runtime, storage
from d3ke_platform.calibration import read_cameras
from d3ke_platform.errors import UsageError
from d3ke_platform.pipelines.archive import list_archive
from d3ke_platform.pipelines.ray_data import is_reject, run_stage
from d3ke_platform.stages.detect import DETECTORS, DetectorChoice, choose_detector
from d3ke_platform.stages.export import check_exports
from d3ke_platform.stages.finish_recording import FinishRecording
from d3ke_platform.stages.score_video import ScoreVideo
from d3ke_platform.stages.scores_folder import clear_scores

SCORES_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """Videos in, joint angles out."""

    archive: str
    """Folder, glob, single video, or manifest (.parquet, .csv) with a column "uri"."""
    model: str
    """Folder of a model bundle (jobs/train.py writes RUN/bundle)."""
    output: str
    """Folder for results, exports, rejects and summary.json."""
    detector: Literal["auto", "mediapipe", "fasterrcnn", "fallback", "none"] = "auto"
    """How people are found. auto: mediapipe where a pose model is known, else a rough built-in
    one. none: the whole picture is the person."""
    pose_model: str = ""
    """MediaPipe pose_landmarker .task file; default: the environment variable D3KE_POSE_MODEL."""
    detector_weights: str = ""
    """Local weights of fasterrcnn; default: torchvision's COCO weights, downloaded."""
    cameras: str = ""
    """Calibration file (.qca.txt, Pose2Sim .toml, .json) with cameras named like the videos;
    default: an assumed level camera, angles are then right but directions in the room are not."""
    field_of_view_deg: float = 55.0
    """Field of view of the assumed camera along the longer image side [degrees]."""
    frame_rate: float = 0.0
    """Frame rate of the movement [1/s]; 0: each video's own. For slow-motion files."""
    box_smoothing_s: float = 0.05
    """Standard deviation of the smoothing of detected boxes over time [s]; 0: none."""
    export: tuple[str, ...] = ("mot", "osim", "trc", "overlay")
    """Files written besides the results: mot, osim, trc, overlay, or none."""
    batch_size: int = 64
    """Crops per forward pass."""
    device: str = "auto"
    """Device of the networks: auto, cpu, cuda."""
    actors: int = 0
    """Videos scored at the same time; 0: as many as the cluster has room for."""
    actors_per_gpu: int = 4
    """Videos that share one GPU: finding people keeps a CPU busy far longer than estimating."""
    overwrite: bool = False
    """Delete scores in the output that another model or other settings made; without it that is
    an error. Scores of the same model and settings are kept either way."""
    max_rejects: int = 0
    """Rejected videos that are acceptable; more end the job with exit code 3."""

    def __post_init__(self) -> None:
        for name in ("archive", "model", "output"):
            if not getattr(self, name):
                raise InvalidInputError(name, "is missing", f"Give --{name}.")
        if self.detector not in DETECTORS:
            raise UnknownNameError("detector", self.detector, DETECTORS)
        check_exports(self.exports)
        if not 1.0 <= self.field_of_view_deg < 179.0:
            raise InvalidInputError(
                "field_of_view_deg", f"{self.field_of_view_deg} is outside 1 to 179 degrees"
            )
        for name in ("batch_size", "actors_per_gpu"):
            if getattr(self, name) < 1:
                raise InvalidInputError(name, f"is {getattr(self, name)}, must be 1 or more")
        for name in ("frame_rate", "box_smoothing_s", "actors", "max_rejects"):
            if getattr(self, name) < 0:
                raise InvalidInputError(name, f"is {getattr(self, name)}, must not be negative")

    @property
    def exports(self) -> tuple[str, ...]:
        """Kinds of export, none left out."""
        return tuple(kind for kind in self.export if kind != "none")


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """What scoring came to; summary.json holds it."""

    output: str
    videos: int
    """Videos in the archive."""
    scored: int
    """Videos with results."""
    skipped: int
    """Of these, videos that an earlier run had finished."""
    frames: int
    """Frames with results."""
    frames_per_second: float
    """Frames estimated in this run per second of this run; 0 when all were there already."""
    undetected_frames: int
    """Frames whose box was interpolated."""
    uncalibrated: int
    """Videos scored with an assumed camera."""
    rejects: int
    """Videos without results; rejects/*.parquet says why."""
    reject_reasons: dict[str, int]
    """Rejects by kind of reason."""
    stage_seconds: dict[str, float]
    """Seconds of work by step, summed over all actors, of this run."""
    seconds: float
    """Wall time of this run."""
    warnings: tuple[str, ...] = field(default_factory=tuple)


def score(settings: ScoreSettings) -> ScoreSummary:
    """Score an archive on the connected Ray cluster.

    Every video's estimates, then its results and exports, are written under a name made of the
    file's name and content, so that another run does only what is missing.

    Raises:
        UsageError: no videos, or an output made with another model or other settings.
        D3KEError: a model, detector or calibration that cannot be used.
    """
    began = time.monotonic()
    output = settings.output
    if not storage.is_uri(output):
        output = str(storage.local_path(output))  # workers have other working folders
    cameras = read_cameras(settings.cameras) if settings.cameras else {}
    choice = choose_detector(
        settings.detector, pose_model=settings.pose_model, weights=settings.detector_weights
    )
    items = list_archive(settings.archive, cameras)
    _claim(output, _identity(settings, choice, cameras), overwrite=settings.overwrite)
    videos, rejects = _run(settings, output, choice, items)
    storage.write_rejects(output, ScoreVideo.name, rejects)
    finished, unfinished = _finish(settings, output, videos)
    storage.write_rejects(output, FinishRecording.name, unfinished)
    summary = _summarize(
        output,
        items=items,
        videos=videos,
        finished=finished,
        rejects=[*rejects, *unfinished],
        seconds=time.monotonic() - began,
        warnings=_warnings(choice, cameras, videos),
    )
    storage.write_json(storage.join(output, "summary.json"), asdict(summary))
    return summary


def _identity(
    settings: ScoreSettings, choice: DetectorChoice, cameras: dict[str, Camera]
) -> dict[str, Any]:
    """Everything that changes a result, as JSON values."""
    from d3ke.networks.bundle import load_bundle
    from d3ke_platform.calibration import camera_to_json

    calibration = {name: camera_to_json(camera) for name, camera in cameras.items()}
    return {
        "scores_version": SCORES_VERSION,
        "model": load_bundle(settings.model).content_hash(),
        "detector": choice.name,
        "detector_model": storage.content_hash(choice.model) if choice.model else "",
        "cameras": storage.settings_hash(calibration) if cameras else "",
        "field_of_view_deg": settings.field_of_view_deg,
        "frame_rate": settings.frame_rate,
        "box_smoothing_s": settings.box_smoothing_s,
    }


def _claim(output: str, identity: dict[str, Any], *, overwrite: bool) -> None:
    """Start an output folder, or continue one of the same identity.

    Results of two models under the same names would be mixed silently otherwise.
    """
    storage.make_folder(output)
    file = storage.join(output, "scores.json")
    if storage.exists(file):
        text = storage.difference(identity, storage.read_json(file))
        if text and not overwrite:
            raise UsageError(
                f"{output} holds scores made differently: {text}. "
                "Choose another --output, or --overwrite to score anew."
            )
        if text:
            clear_scores(output)
    storage.write_json(file, identity)


def _run(
    settings: ScoreSettings, output: str, choice: DetectorChoice, items: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ledger rows of the estimated recordings, each once, and rejects."""
    gpus = 0.0
    if settings.device != "cpu" and runtime.total_gpus():
        gpus = 1.0 / settings.actors_per_gpu
    rows = list(
        run_stage(
            items,
            ScoreVideo,
            arguments={
                "bundle_folder": os.path.abspath(settings.model),
                "output": output,
                "detector": tuple(choice),
                "device": settings.device,
                "batch_size": settings.batch_size,
                "field_of_view_deg": settings.field_of_view_deg,
                "frame_rate": settings.frame_rate,
                "smoothing_s": settings.box_smoothing_s,
            },
            name=ScoreVideo.name,
            actors=settings.actors or None,
            gpus=gpus,
        )
    )
    rejects = [row for row in rows if is_reject(row)]
    # Copies of a file under the same name in two folders are one recording.
    videos = {row["recording_id"]: row for row in rows if not is_reject(row)}
    return list(videos.values()), rejects


def _finish(
    settings: ScoreSettings, output: str, videos: Sequence[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Ledger rows of the finished recordings, and rejects."""
    rows = list(
        run_stage(
            [{"recording_id": video["recording_id"]} for video in videos],
            FinishRecording,
            arguments={
                "bundle_folder": os.path.abspath(settings.model),
                "output": output,
                "exports": settings.exports,
            },
            name=FinishRecording.name,
        )
    )
    rejects = [row for row in rows if is_reject(row)]
    return [row for row in rows if not is_reject(row)], rejects


def _warnings(
    choice: DetectorChoice, cameras: dict[str, Camera], videos: Sequence[dict[str, Any]]
) -> tuple[str, ...]:
    assumed = sum(not video["calibrated"] for video in videos)
    texts = [choice.warning] if choice.warning else []
    if cameras and assumed:
        texts.append(f"{assumed} videos are not named in --cameras and have an assumed camera")
    return tuple(texts)


def _summarize(
    output: str,
    *,
    items: Sequence[dict[str, Any]],
    videos: Sequence[dict[str, Any]],
    finished: Sequence[dict[str, Any]],
    rejects: Sequence[dict[str, Any]],
    seconds: float,
    warnings: tuple[str, ...],
) -> ScoreSummary:
    done = {row["recording_id"]: row for row in finished}
    results = [video for video in videos if video["recording_id"] in done]
    new = [video for video in results if not video["skipped"]]
    steps: Counter[str] = Counter()
    for row in [*new, *finished]:
        steps.update(row["seconds"])
    return ScoreSummary(
        output=output,
        videos=len(items),
        scored=len(results),
        skipped=sum(
            video["skipped"] and done[video["recording_id"]]["skipped"] for video in results
        ),
        frames=sum(video["frames"] for video in results),
        frames_per_second=round(sum(video["frames"] for video in new) / max(seconds, 1e-9), 2),
        undetected_frames=sum(video["frames"] - video["detected"] for video in results),
        uncalibrated=sum(not video["calibrated"] for video in results),
        rejects=len(rejects),
        reject_reasons=dict(Counter(reject_kind(row["reason"]) for row in rejects)),
        stage_seconds={step: round(value, 2) for step, value in sorted(steps.items())},
        seconds=round(seconds, 2),
        warnings=warnings,
    )


_REJECT_KINDS = {
    "the file is empty": "empty file",
    "no such file": "missing file",
    "cannot be opened": "truncated or not a video",
    "breaks off": "truncated",
    "is damaged": "damaged",
    "holds no video stream": "no video stream",
    "holds no video frame": "no video frame",
    "no person found": "no person",
    "is calibrated for": "other picture size than its camera",
    "worker process died": "crash",
}


def reject_kind(reason: str) -> str:
    """Short name of a reject's reason, for counting."""
    return next((kind for part, kind in _REJECT_KINDS.items() if part in reason), "other")
