"""Crops joined with their labels: what the per-frame network is trained on."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from d3ke.arrays import BoolArray, FloatArray, IntArray
from d3ke.errors import InvalidInputError
from d3ke_platform.schema import CROPS, LABELS
from d3ke_platform.storage import DataSet, exists, read_table
from d3ke_platform.training.crop_files import CropTable

_CROP_COLUMNS = ["frame", "trial_frame", "crop_intrinsics", "crop_rotation"]
_LABEL_COLUMNS = [
    "frame",
    "coordinates",
    "coordinate_mask",
    "root_rotation",
    "measurement_factors",
    "marker_mask",
]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Labelled frames of one split, n rows, ordered by recording and time.

    `recording` counts into `recording_ids`; `row` is the row in that recording's CROPS table.
    """

    recording_ids: tuple[str, ...]
    recording: IntArray
    row: IntArray
    frame: IntArray
    intrinsics: FloatArray
    """[n,3,3] of the stored crop [px]."""
    root_rotation: FloatArray
    """[n,3,3] pelvis in the axes of the crop camera."""
    coordinates: FloatArray
    """[n,P] rad."""
    coordinate_mask: BoolArray
    """[n,P] True where the label can be trusted."""
    factors: FloatArray
    """[n,S] measurement factors."""
    marker_mask: BoolArray
    """[n,M] True where the marker was measured and the label fits it."""
    dropped: dict[str, int] = field(default_factory=dict)
    """What the data set holds but cannot be used, counted by reason."""

    def __len__(self) -> int:
        return len(self.row)

    def subset(self, rows: IntArray) -> Samples:
        """The samples at `rows`."""
        changed = {
            f.name: getattr(self, f.name)[rows]
            for f in fields(self)
            if f.name not in ("recording_ids", "dropped")
        }
        return Samples(recording_ids=self.recording_ids, dropped=self.dropped, **changed)

    def crop_table(self, data: DataSet) -> CropTable:
        """Where the crops of the samples lie."""
        uris = tuple(data.crop_uri(name) for name in self.recording_ids)
        return CropTable(uris=uris, recording=self.recording, row=self.row)


def load_samples(data: DataSet, split: str, *, exclude_subjects: tuple[str, ...] = ()) -> Samples:
    """Labels of all usable crops of `split`, without the images.

    Frames without a label are left out and counted, as are recordings whose crops or labels
    an earlier stage rejected.

    Raises:
        InvalidInputError: nothing is left.
    """
    kept: list[dict[str, Any]] = []
    ids: list[str] = []
    dropped = {"recordings without crops": 0, "recordings without labels": 0, "frames": 0}
    recordings = [r for r in data.recordings() if r["split"] == split]
    if not recordings:
        raise InvalidInputError(
            f"split {split!r} of data set {data.root}",
            "has no subject",
            "Prepare the data set with subjects for training and for validation.",
        )
    for recording in sorted(recordings, key=lambda r: r["recording_id"]):
        if recording["subject"] in exclude_subjects:
            continue
        if not exists(data.crop_uri(recording["recording_id"])):
            dropped["recordings without crops"] += 1
        elif not exists(data.label_uri(recording["trial_id"])):
            dropped["recordings without labels"] += 1
        else:
            columns, missing = _join(data, recording["recording_id"], recording["trial_id"])
            dropped["frames"] += missing
            columns["recording"] = np.full(len(columns["row"]), len(ids))
            ids.append(recording["recording_id"])
            kept.append(columns)
    if not sum(len(columns["row"]) for columns in kept):
        raise InvalidInputError(
            f"split {split!r} of the data set",
            f"no labelled crops ({dropped})",
            "See the data set's rejects.",
        )
    joined = {name: np.concatenate([columns[name] for columns in kept]) for name in kept[0]}
    return Samples(recording_ids=tuple(ids), dropped=dropped, **joined)


def require_disjoint_splits(data: DataSet) -> None:
    """Check that no person is in two splits: errors on people that were trained on mean nothing.

    Raises:
        InvalidInputError: names the first such subject.
    """
    splits: dict[str, set[str]] = {}
    for row in (*data.subjects(), *data.recordings()):
        splits.setdefault(row["subject"], set()).add(row["split"])
    for subject, found in sorted(splits.items()):
        if len(found) > 1:
            raise InvalidInputError(
                f"subject {subject!r} of data set {data.root}",
                f"is in the splits {' and '.join(sorted(found))}",
                "A person belongs to one split; prepare the data set again.",
            )


def _join(data: DataSet, recording_id: str, trial_id: str) -> tuple[dict[str, Any], int]:
    """Columns of `Samples` for one recording, and how many of its crops have no label."""
    crops = CROPS.to_numpy(read_table(data.crop_uri(recording_id), _CROP_COLUMNS), _CROP_COLUMNS)
    labels = LABELS.to_numpy(read_table(data.label_uri(trial_id), _LABEL_COLUMNS), _LABEL_COLUMNS)
    predicted = data.skeleton().index_of("coordinate", data.predicted().coordinates)
    found, at = match_frames(crops["trial_frame"], labels["frame"])
    coordinates = labels["coordinates"][at][:, predicted]
    known = np.isfinite(coordinates)
    columns = {
        "row": np.flatnonzero(found),
        "frame": crops["frame"][found],
        "intrinsics": crops["crop_intrinsics"][found].astype(np.float32),
        "root_rotation": (crops["crop_rotation"][found] @ labels["root_rotation"][at]).astype(
            np.float32
        ),
        "coordinates": np.where(known, coordinates, 0.0).astype(np.float32),
        "coordinate_mask": labels["coordinate_mask"][at][:, predicted] & known,
        "factors": labels["measurement_factors"][at].astype(np.float32),
        "marker_mask": labels["marker_mask"][at],
    }
    return columns, int((~found).sum())


def neighbours(samples: Samples) -> BoolArray:
    """[n-1] whether a sample and the next one are neighbouring frames of a recording."""
    return (np.diff(samples.recording) == 0) & (np.diff(samples.frame) == 1)


def match_frames(wanted: IntArray, available: IntArray) -> tuple[BoolArray, IntArray]:
    """Look up frame numbers.

    Returns:
        which of `wanted` [n] occur in `available` [m] (-1 never does), and for those the row in
        `available`.
    """
    order = np.argsort(available, kind="stable")
    if not len(order):
        return np.zeros(len(wanted), bool), np.zeros(0, int)
    place = np.searchsorted(available, wanted, sorter=order).clip(max=len(order) - 1)
    row = order[place]
    found = (available[row] == wanted) & (wanted >= 0)
    return found, row[found]
