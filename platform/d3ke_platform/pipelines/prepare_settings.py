"""Settings of the job that prepares data sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform import storage
from d3ke_platform.errors import UsageError
from d3ke_platform.sources import Source
from d3ke_platform.sources.bmlmovi import BMLMoViSettings, BMLMoViSource
from d3ke_platform.sources.multicamera import MultiCameraSource
from d3ke_platform.sources.multicamera_settings import MultiCameraSettings
from d3ke_platform.sources.opensim_settings import OpenSimSettings
from d3ke_platform.sources.synthetic import SyntheticSource
from d3ke_platform.sources.synthetic_settings import SyntheticSettings

SOURCES = ("synthetic", "multicamera", "opensim", "bmlmovi")
SOLVERS = ("batched", "opensim")


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """Geometry of the stored crops."""

    stored_size: int = 160
    """Side of a stored crop, px."""
    field_of_view: float = 1.2
    """What a network sees, in longer sides of the person's box."""
    margin: float = 1.25
    """Side of a stored crop, in sides of what a network sees: room for augmentation."""

    def __post_init__(self) -> None:
        if self.stored_size < 16:
            raise InvalidInputError("crop.stored_size", f"{self.stored_size} px is below 16")
        if self.field_of_view < 1.0 or self.margin < 1.0:
            raise InvalidInputError("crop", "field_of_view and margin must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """How OpenSim makes the labels."""

    place_markers: bool = True
    """Move the markers of a scaled model onto the subject's static pose."""
    solver: str = "batched"
    """Inverse kinematics: batched (`solve_ik`) or opensim (its own solver, 50 times slower)."""
    ik_accuracy: float = 1e-5
    """Accuracy of the inverse kinematics solver."""
    ik_regularization: float = 1e-6
    """Pull of the batched solver towards the default pose, m^2 at half a coordinate's range: what
    1 mm at every marker costs. It decides what markers leave open, such as which level of the spine
    bends, and costs 0.01 mm of the fit. Trials with a setup of their own do without (3e-8)."""
    ik_smoothness: float | None = None
    """Pull of the batched solver towards the next frame's angles, m^2 per rad^2; none: 1e-4 for
    multicamera, where a straight arm leaves its own turn open, and 0 for all other sources."""
    marker_threshold_m: float = 0.02
    """A coordinate is no label where a marker of its segments is further off than this, m."""

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise UnknownNameError("labels.solver", self.solver, SOLVERS)
        if not 0 < self.ik_accuracy < 1:
            raise InvalidInputError("labels.ik_accuracy", f"{self.ik_accuracy} is not in (0, 1)")
        if not 0 <= self.ik_regularization < 1:
            reason = f"{self.ik_regularization} is not in [0, 1)"
            raise InvalidInputError("labels.ik_regularization", reason)
        if self.ik_smoothness is not None and not 0 <= self.ik_smoothness < 1:
            raise InvalidInputError("labels.ik_smoothness", f"{self.ik_smoothness} not in [0, 1)")
        if self.marker_threshold_m <= 0:
            raise InvalidInputError("labels.marker_threshold_m", "must be positive")

    def smoothness_of(self, source: str) -> float:
        """The smoothness for a source's trials, m^2 per rad^2."""
        if self.ik_smoothness is not None:
            return self.ik_smoothness
        return 1e-4 if source == "multicamera" else 0.0


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """Prepare a data set for training: label recordings with OpenSim and crop the people out."""

    output: str = ""
    """Folder of the data set; one that holds part of it is completed. Only --check needs none."""
    source: str = "synthetic"
    """Where recordings come from: synthetic (the embedded data set), multicamera (videos of
    calibrated cameras), opensim (trial folders of OpenSim users), bmlmovi (BML-MoVi)."""
    input: str = ""
    """Folder of the recordings; for every source but synthetic."""
    synthetic: SyntheticSettings = field(default_factory=SyntheticSettings)
    """The embedded data set."""
    multicamera: MultiCameraSettings = field(default_factory=MultiCameraSettings)
    """Videos of several calibrated cameras, in Pose2Sim's layout."""
    opensim: OpenSimSettings = field(default_factory=OpenSimSettings)
    """OpenSim users' trial folders."""
    bmlmovi: BMLMoViSettings = field(default_factory=BMLMoViSettings)
    """BML-MoVi, the data of the paper."""
    crop: CropSettings = field(default_factory=CropSettings)
    """Stored crops."""
    labels: LabelSettings = field(default_factory=LabelSettings)
    """OpenSim labels."""
    detector: str = "auto"
    """Finds people where the source does not know their boxes: auto, mediapipe, fasterrcnn,
    fallback or none (the whole picture)."""
    pose_model: str = ""
    """MediaPipe pose landmarker .task file: for the detector, and for the keypoints of multicamera;
    else the environment variable D3KE_POSE_MODEL."""
    detector_weights: str = ""
    """Local weights for the Faster R-CNN detector."""
    check: bool = False
    """Only say what of --input is usable, missing or broken, and make nothing."""
    overwrite: bool = False
    """Delete what the output folder holds of a data set and prepare it anew."""
    actors: int = 0
    """Worker processes per stage; 0: as many as the cluster has CPUs for."""
    trial_timeout_s: float = 3600.0
    """Time limit for scaling a subject or labelling a trial, s; what takes longer is rejected."""
    max_rejects: int = 0
    """End with exit code 3 when more items than this are rejected; negative: never."""

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise UnknownNameError("source", self.source, SOURCES)
        if self.actors < 0:
            raise InvalidInputError("actors", f"{self.actors} is negative")
        if self.trial_timeout_s <= 0:
            raise InvalidInputError("trial_timeout_s", f"{self.trial_timeout_s} s is not positive")
        if self.source != "synthetic" and not self.input:
            raise UsageError(f"--source {self.source} needs --input, the folder of the recordings.")
        if not (self.output or self.check):
            raise UsageError("--output is missing: the folder of the data set.")
        if storage.is_uri(self.output):
            raise UsageError(
                f"--output {self.output}: prepare writes to a local or shared folder. "
                "Copy the finished data set to the object store."
            )

    def build_source(self) -> Source:
        """The chosen source of recordings. Raises D3KEError when it lacks something it needs."""
        if self.source == "multicamera":
            return MultiCameraSource(
                self.multicamera, folder=self.input, pose_model=self.pose_model
            )
        if self.source == "opensim":
            from d3ke_platform.sources.opensim_trials import OpenSimSource

            return OpenSimSource(self.input, self.opensim)
        if self.source == "bmlmovi":
            return BMLMoViSource(self.input, self.bmlmovi)
        return SyntheticSource(self.synthetic)

    def identity(self) -> dict[str, Any]:
        """Settings that the data set's content depends on."""
        return {
            "crop": storage.plain(self.crop),
            "labels": storage.plain(self.labels),
            "detector": self.detector,
            self.source: storage.plain(getattr(self, self.source)),
            **({"input": self.input} if self.input else {}),
        }
