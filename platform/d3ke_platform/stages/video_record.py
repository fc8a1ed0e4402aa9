"""What a video consists of, kept beside the scores: a restart need not read the archive again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from d3ke_platform import storage
from d3ke_platform.stages.video_index import SeekPoint, VideoIndex


@dataclass(frozen=True, kw_only=True)
class VideoRecord:
    """A video as it lay there when it was looked at."""

    uri: str
    fingerprint: str
    """`storage.fingerprint` of the file."""
    content_hash: str
    width: int
    """Of the upright picture, px."""
    height: int
    """Of the upright picture, px."""
    index: VideoIndex
    """Its frames."""


def record_uri(output: str, uri: str) -> str:
    """Where the record of a video lies below SCORES."""
    return storage.join(output, "videos", f"{storage.content_hash(uri.encode())}.parquet")


def read_record(output: str, uri: str) -> VideoRecord | None:
    """The record of a video that has not changed since; None for any other."""
    location = record_uri(output, uri)
    if not storage.exists(location):
        return None
    record = load_record(location)
    return record if record.fingerprint == storage.fingerprint(uri) else None


def write_hash(output: str, uri: str, fingerprint: str, content_hash: str) -> None:
    """Remember the content of a video that cannot be read: a restart need not fetch it again."""
    note = {"uri": uri, "fingerprint": fingerprint, "content_hash": content_hash}
    storage.write_json(_hash_uri(output, uri), note)


def read_hash(output: str, uri: str) -> str:
    """Content hash that `write_hash` has noted of a video that has not changed since, else ""."""
    location = _hash_uri(output, uri)
    if not storage.exists(location):
        return ""
    note = storage.read_json(location)
    return str(note["content_hash"]) if note["fingerprint"] == storage.fingerprint(uri) else ""


def _hash_uri(output: str, uri: str) -> str:
    return record_uri(output, uri).removesuffix(".parquet") + ".json"


def load_record(location: str) -> VideoRecord:
    """A stored record, whatever has become of its video."""
    table = storage.read_table(location)
    about: dict[str, Any] = json.loads(table.schema.metadata[b"video"])
    index = about.pop("index")
    stamps = table.column("stamp").to_numpy() if index.pop("has_stamps") else None
    return VideoRecord(
        **about,
        index=VideoIndex(
            first=0,
            times_s=table.column("time_s").to_numpy(),
            stamps=stamps,
            seek_points=tuple(SeekPoint(**point) for point in index.pop("seek_points")),
            **index,
        ),
    )


def write_record(output: str, record: VideoRecord) -> str:
    """Store a record; returns where."""
    index = record.index
    about = {name: getattr(record, name) for name in ("uri", "fingerprint")}
    about |= {name: getattr(record, name) for name in ("content_hash", "width", "height")}
    about["index"] = {
        "has_stamps": index.stamps is not None,
        "seek_points": [asdict(point) for point in index.seek_points],
        **{name: getattr(index, name) for name in ("torn_packets", "fps", "frame_count", "codec")},
    }
    stamps = np.zeros(len(index.times_s), np.int64) if index.stamps is None else index.stamps
    table = pa.table({"time_s": index.times_s, "stamp": stamps})
    table = table.replace_schema_metadata({"video": json.dumps(about)})
    location = record_uri(output, record.uri)
    storage.write_table(location, table)
    return location
