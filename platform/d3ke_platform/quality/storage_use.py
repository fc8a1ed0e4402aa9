"""What a data set takes on disk, and what that is per frame."""

from __future__ import annotations

from typing import Any

from d3ke_platform import storage
from d3ke_platform.data_set import DataSet

REFERENCE_BYTES = 750e9
"""What the published code needs for BML-MoVi: 700 to 800 GB, as it stores whole frames."""
REFERENCE_FRAMES = 89 * 122_661 / 22
"""Frames of both cameras: those of the 22 held-out subjects (21 822 and 100 839), for all 89."""
PAGE, FIGURES, TRIALS_TABLE = "quality.html", "quality.json", "quality_trials.parquet"
NOT_COUNTED = (PAGE, FIGURES, TRIALS_TABLE, "summary.json")
"""Written last: left out, so that a second run finds the same."""


def storage_use(data: DataSet) -> dict[str, Any]:
    """Bytes by folder, counts of crops and labels, bytes per frame; without `NOT_COUNTED`.

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
    label_files = storage.list_files(data.uri("labels"), ".parquet")
    crops, labels = (sum(map(storage.count_rows, files)) for files in (crop_files, label_files))
    crop_bytes, label_bytes = (folders.get(name, _NOTHING)["bytes"] for name in ("crops", "labels"))
    reference = REFERENCE_BYTES / REFERENCE_FRAMES
    each = (crop_bytes + label_bytes) / crops if crops else None
    return {
        "folders": dict(sorted(folders.items(), key=lambda item: -item[1]["bytes"])),
        "total_bytes": sum(folder["bytes"] for folder in folders.values()),
        "recordings_with_crops": len(crop_files),
        "crops": crops,
        "label_rows": labels,
        "bytes_per_crop": crop_bytes / crops if crops else None,
        "bytes_per_label": label_bytes / labels if labels else None,
        "bytes_per_frame": each,
        "reference_bytes_per_frame": reference,
        "reference_ratio": reference / each if each else None,
    }


_NOTHING = {"files": 0, "bytes": 0}
