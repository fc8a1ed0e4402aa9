"""Layout of a SCORES folder: what is written where, under names made of recording ids.

SCORES/summary.json is the latest run's and names its folder. SCORES/videos/ keeps what videos
consist of, whatever they are scored with. SCORES/RUN/ holds everything of one model and its
settings: estimates/RECORDING/SEGMENT.parquet, results/RECORDING.parquet, exports/RECORDING/,
recordings/RECORDING.json, rejected/RECORDING.json, rejects/STAGE-ARCHIVE.parquet, scores.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from d3ke_platform import storage

RUN_PREFIX = "model-"
"""How names of the folders of runs begin."""


@dataclass(frozen=True, kw_only=True)
class ScoredVideo:
    """A recording: a video, or a range of it, with what makes its scores; kept as JSON."""

    recording_id: str
    uri: str
    content_hash: str
    """Of the video file."""
    key: str
    """Changes with everything of the recording that changes its scores."""
    fps: float
    """Frame rate of the movement, 1/s."""
    first_frame: int
    """First frame, as an index in the video."""
    frames: int
    """Number of frames."""
    width: int
    height: int
    camera: dict[str, Any]
    """JSON values of the camera (see d3ke_platform.calibration)."""
    calibrated: bool
    """False: an assumed camera."""
    detector: str
    boxes_uri: str = ""
    """BOXES table, where the boxes are known."""
    index_uri: str = ""
    """What the video consists of (`stages.video_record`)."""
    time_scale: float = 1.0
    """Time of the movement per time of the video; below 1 in slow motion."""
    segment_frames: int = 512
    """Frames of a segment of its estimates."""
    item: str = ""
    """What the archive calls it, where that is not the uri: a range of a video."""

    @property
    def label(self) -> str:
        """What it is called in rejects."""
        return self.item or self.uri

    @property
    def end_frame(self) -> int:
        """Frame after the last one."""
        return self.first_frame + self.frames

    @property
    def segments(self) -> int:
        """Number of segments."""
        return -(-self.frames // self.segment_frames)

    def segment_uri(self, run: str, number: int) -> str:
        """ESTIMATES of a segment; its name changes with everything that changes its content."""
        identity = [self.key, self.first_frame, self.frames, self.segment_frames, number]
        name = f"{number:05d}-{storage.settings_hash(identity)[:12]}.parquet"
        return storage.join(estimates_uri(run, self.recording_id), name)


def run_name(identity: Mapping[str, Any]) -> str:
    """Name of the folder of a model and its settings; they are told in its scores.json."""
    settings = {key: value for key, value in identity.items() if key != "model"}
    return f"{RUN_PREFIX}{identity['model'][:8]}-settings-{storage.settings_hash(settings)[:8]}"


def run_folder(output: str, run: str) -> str:
    """Folder of one model and its settings."""
    return storage.join(output, run)


def latest_run(output: str) -> str:
    """Folder of the latest run below SCORES; SCORES itself where it is such a folder."""
    summary = storage.join(output, "summary.json")
    if storage.exists(summary):
        run = storage.read_json(summary).get("run", "")
        return run_folder(output, run) if run else output
    return output


def estimates_uri(run: str, recording_id: str) -> str:
    """Folder of the ESTIMATES tables of a recording's segments."""
    return storage.join(run, "estimates", recording_id)


def results_uri(run: str, recording_id: str) -> str:
    """RESULTS table of a recording."""
    return storage.join(run, "results", f"{recording_id}.parquet")


def exports_uri(run: str, recording_id: str) -> str:
    """Folder of the exports of a recording."""
    return storage.join(run, "exports", recording_id)


def scored_uri(run: str, recording_id: str) -> str:
    """JSON file of a recording's `ScoredVideo`."""
    return storage.join(run, "recordings", f"{recording_id}.json")


def read_scored(run: str, recording_id: str) -> ScoredVideo | None:
    """Description of a recording, None where there is none."""
    uri = scored_uri(run, recording_id)
    return ScoredVideo(**storage.read_json(uri)) if storage.exists(uri) else None


def write_scored(run: str, scored: ScoredVideo) -> None:
    """Keep a recording's description; what another content left under its name goes first."""
    before = read_scored(run, scored.recording_id)
    if before == scored:
        return
    if before is not None and before.key != scored.key:
        clear_recording(run, scored.recording_id)
    storage.write_json(scored_uri(run, scored.recording_id), asdict(scored))


def clear_recording(run: str, recording_id: str) -> None:
    """Delete everything of a recording."""
    for locate in (results_uri, estimates_uri, exports_uri, scored_uri, rejected_uri):
        storage.remove(locate(run, recording_id))


def rejected_uri(run: str, recording_id: str) -> str:
    """JSON file of a recording's row of REJECTS: it is not tried again."""
    return storage.join(run, "rejected", f"{recording_id}.json")


def write_rejected(run: str, recording_id: str, key: str, row: Mapping[str, Any]) -> None:
    """Keep a recording's row of REJECTS; `key` says of which content (`recording_key`)."""
    storage.write_json(rejected_uri(run, recording_id), {"key": key, **row})


def read_rejected(run: str, recording_id: str, key: str) -> dict[str, Any] | None:
    """A recording's row of REJECTS, None where there is none of this content."""
    uri = rejected_uri(run, recording_id)
    if not storage.exists(uri):
        return None
    row = dict(storage.read_json(uri))
    return row if row.pop("key") == key else None


def recording_key(content_hash: str, item: Mapping[str, Any], boxes_hash: str) -> str:
    """16 hex digits of a video's content and of what a manifest says about it."""
    about = [item.get("camera"), boxes_hash, item.get("start_s"), item.get("end_s")]
    return storage.settings_hash([content_hash, *about])


def item_label(item: Mapping[str, Any]) -> str:
    """What a video of an archive, or a range of one, is called in rejects."""
    return str(item.get("item", item["uri"]))


def recording_name(item: Mapping[str, Any], key: str) -> str:
    """Id of a recording, the name of its files: the manifest's, or the video's and its key's."""
    given = str(item.get("recording_id") or "")
    return given or f"{storage.safe_name(PurePosixPath(str(item['uri'])).stem)}-{key[:8]}"
