"""Estimates of a recording, a file per segment: written once complete, put together afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.schema import ESTIMATES
from d3ke_platform.stages.crop_video import CropBatch, SegmentEnd
from d3ke_platform.stages.estimate import CROP_COLUMNS, EstimateArrays, estimates_table
from d3ke_platform.stages.scores_folder import ScoredVideo
from d3ke_platform.stages.tracks import People, Place

_METADATA = b"segment"


class SegmentWriter:
    """Collects rows of one recording and writes the segments that are complete."""

    def __init__(
        self, run: str, recording: ScoredVideo, dims: Mapping[str, int], people: People
    ) -> None:
        """Folder of the run, the recording, sizes of the symbolic dimensions, who is scored."""
        self._run, self._recording, self._dims, self._people = run, recording, dims, people
        self._columns: list[dict[str, np.ndarray]] = []

    def add(self, batch: CropBatch, estimate: EstimateArrays) -> None:
        """Crops and what the network says about them; writes the segments that end with them."""
        self._columns.append({**batch.columns, **estimate._asdict()})
        if not batch.ended:
            return
        columns = {
            name: np.concatenate([part[name] for part in self._columns])
            for name in self._columns[0]
        }
        first, length = self._recording.first_frame, self._recording.segment_frames
        numbers = (columns["frame"] - first) // length
        for end in batch.ended:
            self._write(end, {name: v[numbers == end.number] for name, v in columns.items()})
        left = numbers > batch.ended[-1].number
        self._columns = [{name: values[left] for name, values in columns.items()}]

    def _write(self, end: SegmentEnd, columns: dict[str, np.ndarray]) -> None:
        numbers = _in_order_of_appearance(columns)
        person = np.array([numbers[track] for track in columns["track"].tolist()], np.int32)
        estimate = EstimateArrays(*(columns[name] for name in EstimateArrays._fields))
        wanted = {name: columns[name] for name in (*CROP_COLUMNS, "confidence")}
        table = estimates_table(
            self._recording.recording_id, estimate, wanted, self._dims, person=person
        )
        about = {
            "number": end.number,
            "frames": end.frames,
            "people": self._people,
            "detected": len(set(columns["frame"][columns["confidence"] > 0].tolist())),
            "entering": {numbers[t]: place for t, place in end.entering.items() if t in numbers},
            "leaving": {numbers[t]: place for t, place in end.leaving.items() if t in numbers},
        }
        metadata = {**(table.schema.metadata or {}), _METADATA: json.dumps(about).encode()}
        storage.write_table(
            self._recording.segment_uri(self._run, end.number),
            table.replace_schema_metadata(metadata),
        )


def _in_order_of_appearance(columns: Mapping[str, np.ndarray]) -> dict[int, int]:
    """Number of each track within a segment: by first frame, then from left to right. It does not
    depend on where the work began."""
    order = np.lexsort((columns["box"][:, 0], columns["frame"]))
    return {track: n for n, track in enumerate(dict.fromkeys(columns["track"][order].tolist()))}


@dataclass(kw_only=True)
class Estimates:
    """All estimates of a recording."""

    columns: dict[str, np.ndarray]
    """Of ESTIMATES, sorted by person and frame; people are numbered in order of appearance."""
    detected: int
    """Frames in which somebody was detected; all others have interpolated boxes or nobody."""


def read_estimates(run: str, recording: ScoredVideo) -> Estimates:
    """Put the segments of a recording together, and the people in them.

    Raises InvalidInputError where a segment is missing or broken.
    """
    parts: list[dict[str, np.ndarray]] = []
    people = _People()
    detected = 0
    for number in range(recording.segments):
        table = storage.read_table(recording.segment_uri(run, number))
        about = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}"))
        if about.get("number") != number:
            raise InvalidInputError(recording.segment_uri(run, number), "is not this segment")
        columns = ESTIMATES.to_numpy(table)
        columns["person"] = people.follow(columns["person"], about)
        parts.append(columns)
        detected += about["detected"]
    # Column by column: an hour's are not held twice.
    joined = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    order = np.lexsort((joined["frame"], joined["person"]))
    if (np.diff(order) != 1).any():
        for name, values in joined.items():
            joined[name] = values[order]
    return Estimates(columns=joined, detected=detected)


@dataclass
class _People:
    """Numbers of people through a recording, segment after segment."""

    count: int = 0
    leaving: dict[Place, int] = field(default_factory=dict)

    def follow(self, numbers: np.ndarray, about: Mapping[str, Any]) -> np.ndarray:
        """The recording's numbers of a segment's people; the largest is one, whoever that is."""
        if about["people"] == "largest":
            return numbers
        entering = {int(n): tuple(place) for n, place in about["entering"].items()}
        known = {n: self.leaving[place] for n, place in entering.items() if place in self.leaving}
        for number in sorted(set(numbers.tolist())):
            if number not in known:
                known[number] = self.count
                self.count += 1
        self.leaving = {tuple(p): known[int(n)] for n, p in about["leaving"].items()}
        return np.array([known[number] for number in numbers.tolist()], np.int32)
