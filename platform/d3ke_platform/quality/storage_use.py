"""What a data set takes on disk, and what that is per frame."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet

REFERENCE_BYTES = 750e9
"""What the published code needs for BML-MoVi: 700 to 800 GB, as it stores whole frames."""
REFERENCE_FRAMES = 89 * 122_661 / 22
"""Frames of both cameras: those of the 22 held-out subjects (21 822 and 100 839), for all 89."""
PAGE, FIGURES, TRIALS_TABLE = "quality.html", "quality.json", "quality_trials.parquet"
NOT_COUNTED = (PAGE, FIGURES, TRIALS_TABLE, "summary.json")
"""Written last: left out, so that a second run finds the same."""


def storage_use(data: DataSet, *, labels: int) -> dict[str, Any]:
    """Bytes by folder, number of crops, bytes per frame; without `NOT_COUNTED`.

    `labels`: number of label rows.
    `bytes_per_frame`: crops and labels over the number of crops, which is what training reads;
    None without crops.
    """
    folders: dict[str, dict[str, int]] = {}
    for uri, size in storage.file_sizes(data.root).items():
        if uri.rsplit("/", 1)[-1] in NOT_COUNTED:
            continue
        parts = uri.removeprefix(data.root).strip("/").split("/")
        folder = folders.setdefault(parts[0] if len(parts) > 1 else "(top)", _NOTHING.copy())
        folder["files"] += 1
        folder["bytes"] += size
    crop_files = storage.list_files(data.uri("crops"), ".parquet")
    rows, unreadable = _count(crop_files)
    crops = sum(rows)
    crop_bytes, label_bytes = (folders.get(name, _NOTHING)["bytes"] for name in ("crops", "labels"))
    reference = REFERENCE_BYTES / REFERENCE_FRAMES
    each = (crop_bytes + label_bytes) / crops if crops else None
    return {
        "folders": dict(sorted(folders.items(), key=lambda item: -item[1]["bytes"])),
        "total_bytes": sum(folder["bytes"] for folder in folders.values()),
        "recordings_with_crops": len(rows),
        "unreadable_crops": unreadable,
        "crops": crops,
        "bytes_per_crop": crop_bytes / crops if crops else None,
        "bytes_per_label": label_bytes / labels if labels else None,
        "bytes_per_frame": each,
        "reference_bytes_per_frame": reference,
        "reference_ratio": reference / each if each else None,
    }


def _count(crop_files: list[str]) -> tuple[list[int], dict[str, str]]:
    """Rows of the files that can be read; name -> reason of the others."""
    rows, unreadable = [], {}
    for uri in crop_files:
        try:
            rows.append(storage.count_rows(uri))
        except InvalidInputError as error:
            unreadable[PurePosixPath(uri).stem] = str(error)
    return rows, unreadable


_NOTHING = {"files": 0, "bytes": 0}
