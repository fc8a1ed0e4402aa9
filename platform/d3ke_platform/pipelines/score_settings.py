"""What scoring is asked to do, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.stages.detect import DETECTORS
from d3ke_platform.stages.export import check_exports

PRECISIONS = ("auto", "fp32", "bf16")
PEOPLE = ("largest", "all")


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """Videos in, joint angles out."""

    archive: str
    """Folder, glob, single video, or manifest (.parquet, .csv) with a column "uri"."""
    model: str
    """Folder of a model bundle (jobs/train.py writes RUN/bundle)."""
    output: str
    """Folder or URI for results, exports, rejects and summary.json; scores of another model or
    with other settings are written beside those there are, in a folder of their own."""
    allow_outside: bool = False
    """Follow symbolic links and manifest paths that lead out of the archive; without it they are
    rejects."""
    detector: Literal["auto", "mediapipe", "fasterrcnn", "fallback", "none"] = "auto"
    """How people are found. auto: mediapipe where a pose model is known, else a rough built-in
    one. none: the whole picture is the person."""
    pose_model: str = ""
    """MediaPipe pose_landmarker .task file; default: the environment variable D3KE_POSE_MODEL."""
    detector_weights: str = ""
    """Local weights of fasterrcnn; default: torchvision's COCO weights, downloaded."""
    detect_every: int = 3
    """People are looked for in every n-th frame; boxes in between are interpolated."""
    gap_s: float = 0.5
    """Longest time without a detection that boxes are interpolated over [s]. Frames further from
    any detection have no rows: nobody is there."""
    box_smoothing_s: float = 0.05
    """Standard deviation of the smoothing of detected boxes over time [s]; 0: none."""
    people: Literal["largest", "all"] = "largest"
    """Who is scored. largest: the largest person of each moment, as person 0. all: everybody, with
    a number each that stays as long as the person is followed."""
    cameras: str = ""
    """Calibration file (.qca.txt, Pose2Sim .toml, .json) with cameras named like the videos;
    default: an assumed level camera, angles are then right but directions in the room are not."""
    field_of_view_deg: float = 55.0
    """Field of view of the assumed camera along the longer image side [degrees]."""
    frame_rate: float = 0.0
    """Frame rate of the movement [1/s]; 0: each video's own. For slow-motion files: all times and
    rates that come out are those of the movement; those of manifests are the videos'."""
    export: tuple[str, ...] = ("mot", "osim", "trc", "overlay")
    """Files written besides the results: mot, osim, trc, overlay, page (one HTML page with curves
    and a still), or none."""
    batch_size: int = 64
    """Crops per forward pass; with networks of their own (GPUs) crops of many videos share one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Numbers the per-frame network computes with. auto: bf16 on GPUs, else fp32."""
    device: str = "auto"
    """Device of the networks: auto, cpu, cuda."""
    segment_frames: int = 512
    """Frames whose estimates are one file: what a job that is killed loses at most, per core."""
    actors: int = 0
    """Videos decoded at the same time; 0: as many as the cluster has room for."""
    network_actors: int = 0
    """Workers of their own for the per-frame network; 0: one per GPU, without GPUs none, and each
    video's worker has its own network."""
    timeout_s: float = 120.0
    """Longest time that decoding a video may show no progress [s]; then it is a reject."""
    memory_gb: float = 4.0
    """Memory that decoding one video may take [GB]; what needs more is a reject. 0: no limit."""
    retries: int = 1
    """Times a video that has crashed its decoder or made it hang is tried again."""
    retry_rejects: bool = False
    """Try again what earlier runs have rejected."""
    dry_run: bool = False
    """Say what would be done and how long it would take, and do nothing."""
    overwrite: bool = False
    """Delete the scores in the output that another model or other settings made. Those of the
    same model and settings are kept either way."""
    tracking: bool = True
    """Record the job as a run in MLflow (MLFLOW_TRACKING_URI, or a database in the output)."""
    price_per_gpu_hour: float = 0.0
    """Price of a GPU for an hour, for the summary's cost; 0: not asked."""
    max_rejects: int = 0
    """Rejected videos that are acceptable; more end the job with exit code 3."""

    def __post_init__(self) -> None:
        for name in ("archive", "model", "output"):
            if not getattr(self, name):
                raise InvalidInputError(name, "is missing", f"Give --{name}.")
        choices = {"detector": DETECTORS, "precision": PRECISIONS, "people": PEOPLE}
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise UnknownNameError(name, getattr(self, name), valid)
        check_exports(self.exports)
        if not 1.0 <= self.field_of_view_deg < 179.0:
            raise InvalidInputError(
                "field_of_view_deg", f"{self.field_of_view_deg} is outside 1 to 179 degrees"
            )
        for name in ("batch_size", "detect_every", "segment_frames"):
            if getattr(self, name) < 1:
                raise InvalidInputError(name, f"is {getattr(self, name)}, must be 1 or more")
        if not self.timeout_s > 0:
            raise InvalidInputError("timeout_s", f"is {self.timeout_s}, must be positive")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise InvalidInputError(name, f"is {getattr(self, name)}, must not be negative")

    @property
    def exports(self) -> tuple[str, ...]:
        """Kinds of export, none left out."""
        return tuple(kind for kind in self.export if kind != "none")


_NOT_NEGATIVE = (
    *("gap_s", "box_smoothing_s", "frame_rate", "actors", "network_actors", "memory_gb"),
    *("retries", "price_per_gpu_hour", "max_rejects"),
)


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """What scoring came to; summary.json holds it."""

    output: str
    run: str
    """Folder below the output: one of this model and these settings."""
    videos: int
    """Videos (or ranges of videos) in the archive."""
    scored: int
    """Videos with results."""
    skipped: int
    """Of these, videos that earlier runs had finished."""
    frames: int
    """Frames of the videos with results."""
    estimated_frames: int
    """Frames estimated in this run."""
    frames_per_second: float
    """Frames estimated in this run per second of this run; 0 when all were there already."""
    rows: int
    """Rows of results: one per frame and person."""
    undetected_frames: int
    """Frames in which nobody was detected: their boxes are interpolated, or nobody is there."""
    uncalibrated: int
    """Videos scored with an assumed camera."""
    rejects: int
    """Videos without results; rejects/*.parquet says why."""
    reject_reasons: dict[str, int]
    """Rejects by kind of reason."""
    network_busy: float
    """Share of the time in which the per-frame networks computed, 0 to 1."""
    gpus: float
    """GPUs used."""
    cost: float
    """At --price-per-gpu-hour; 0 without a price or without GPUs."""
    stage_seconds: dict[str, float]
    """Seconds of work by step, summed over all actors, of this run."""
    seconds: float
    """Wall time of this run."""
    dry_run: bool = False
    """Nothing was done; the fields below say what would be."""
    missing_frames: int = 0
    """Frames still to estimate."""
    unfinished: int = 0
    """Videos still to score or to finish."""
    expected_seconds: float = 0.0
    """How long that would take; 0: nothing to do, or not known."""
    warnings: tuple[str, ...] = field(default_factory=tuple)
