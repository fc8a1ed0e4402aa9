"""Everything that scoring a video needs to know, settled once by the job."""

from __future__ import annotations

from dataclasses import dataclass

from d3ke_platform.stages.crop_video import CropRule
from d3ke_platform.stages.detect import DetectorChoice
from d3ke_platform.stages.scores_folder import run_folder


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """What the job has settled; sent to every worker."""

    output: str
    """SCORES folder or URI."""
    run: str
    """Folder below it, of this model and these settings."""
    bundle: str
    """Folder of the model bundle."""
    dims: dict[str, int]
    """Sizes of the tables' symbolic dimensions."""
    detector: DetectorChoice
    """How people are found."""
    rule: CropRule
    """How people are found and cut out."""
    device: str = "auto"
    """Of the per-frame network and of a detector that is a network."""
    precision: str = "fp32"
    """Of the per-frame network: fp32 or bf16."""
    batch_size: int = 64
    """Crops per forward pass."""
    segment_frames: int = 512
    """Frames whose estimates are one file."""
    part_segments: int = 16
    """Segments that are scored in one go; longer videos are shared out."""
    field_of_view_deg: float = 55.0
    """Of the camera assumed where none is known, longer side."""
    cameras: bool = False
    """Calibrated cameras were given; videos without one of them are told of."""
    frame_rate: float = 0.0
    """Frames per second of every video, 0: each video's own."""
    exports: tuple[str, ...] = ()
    """Files written besides the results."""
    timeout_s: float = 120.0
    """Longest time that decoding and detecting may show no sign of life, s."""
    memory_gb: float = 4.0
    """Memory that decoding and detecting may take, GB; 0: no limit."""
    retries: int = 1
    """Times a video is tried again that has crashed its process or made it hang."""
    retry_rejects: bool = False
    """Try what was rejected before."""
    only_look: bool = False
    """Find out what is to be done and do nothing."""

    @property
    def folder(self) -> str:
        """Folder of the run."""
        return run_folder(self.output, self.run)
