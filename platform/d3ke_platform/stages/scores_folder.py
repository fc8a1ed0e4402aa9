"""Layout of a SCORES folder: what is written where, under names made of recording ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from d3ke_platform import storage


@dataclass(frozen=True, kw_only=True)
class ScoredVideo:
    """What is known of a recording once its frames are estimated; kept as JSON beside them."""

    recording_id: str
    uri: str
    content_hash: str
    """Of the video file."""
    fps: float
    """Frame rate used, 1/s."""
    frames: int
    """Decoded frames, the number of estimates."""
    detected: int
    """Frames in which the person was detected; the others have interpolated boxes."""
    width: int
    height: int
    camera: dict[str, Any]
    """JSON values of the camera (see d3ke_platform.calibration)."""
    calibrated: bool
    """False: an assumed camera."""
    detector: str
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of decoding, detecting, cropping and estimating."""


def estimates_uri(output: str, recording_id: str) -> str:
    """ESTIMATES table of a recording."""
    return storage.join(output, "estimates", f"{recording_id}.parquet")


def results_uri(output: str, recording_id: str) -> str:
    """RESULTS table of a recording."""
    return storage.join(output, "results", f"{recording_id}.parquet")


def exports_uri(output: str, recording_id: str) -> str:
    """Folder of the exports of a recording."""
    return storage.join(output, "exports", recording_id)


def scored_uri(output: str, recording_id: str) -> str:
    """JSON file of a recording's `ScoredVideo`."""
    return storage.join(output, "recordings", f"{recording_id}.json")


def read_scored(output: str, recording_id: str) -> ScoredVideo | None:
    """Description of a recording whose estimates are complete; None for any other."""
    uri = scored_uri(output, recording_id)
    if not (storage.exists(estimates_uri(output, recording_id)) and storage.exists(uri)):
        return None
    return ScoredVideo(**storage.read_json(uri))


def clear_recording(output: str, recording_id: str) -> None:
    """Delete everything of a recording, the table that marks it as complete first."""
    for locate in (estimates_uri, results_uri, exports_uri, scored_uri):
        storage.remove(locate(output, recording_id))


def clear_scores(output: str) -> None:
    """Delete everything of all recordings."""
    for folder in ("estimates", "results", "exports", "recordings", "rejects"):
        storage.remove(storage.join(output, folder))
