"""Manifests: a CSV or Parquet table that names the videos of an archive."""

from __future__ import annotations

import math
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from d3ke.camera import Camera
from d3ke.errors import D3KEError, InvalidInputError, UnknownNameError
from d3ke_platform import storage
from d3ke_platform.calibration import camera_to_json
from d3ke_platform.errors import UsageError
from d3ke_platform.schema import RECORDINGS
from d3ke_platform.stages.scores_folder import item_label

# Read as text: a recording called 007 is not the number 7.
_TEXTS = ("uri", "camera", "recording_id", "boxes_uri", "start_s", "end_s")
_LONGEST_NAME = 200  # bytes; file systems take 255, and names get endings

_Rejected = list[tuple[str, str]]


def read_manifest(
    manifest: str, cameras: Mapping[str, Camera], *, allow_outside: bool
) -> tuple[list[dict[str, Any]], _Rejected]:
    """Items of a manifest, and (name, reason) of the rows that cannot be used.

    Args:
        manifest: .csv or .parquet with a column "uri"; see docs/scoring.md for the others.
        cameras: Calibrated cameras by name.
        allow_outside: Take paths that lead out of the manifest's folder.

    Raises:
        UsageError: the file cannot be read or has no column "uri".
    """
    table, rejects = _read_table(manifest)
    if "uri" not in table.column_names:
        columns = ", ".join(table.column_names)
        raise UsageError(f"Manifest {manifest} has no column 'uri'. Its columns: {columns}.")
    location = manifest if storage.is_uri(manifest) else str(storage.local_path(manifest))
    folder = location.rpartition("/")[0] or "/"
    items: dict[str, dict[str, Any]] = {}
    names: dict[str, int] = {}
    for number, row in enumerate(table.to_pylist(), start=1):
        try:
            item = _item(row, folder, cameras, allow_outside)
            name = item.get("recording_id", "")
            if name and names.setdefault(name, number) != number:
                reason = f"{name!r} is the name of row {names[name]} already"
                raise InvalidInputError("recording_id", reason)
            _add(items, item)
        except (D3KEError, ValueError, TypeError, KeyError, OverflowError) as error:
            what = str(row.get("uri") or f"{manifest} row {number}")
            rejects.append((what, f"row {number} of manifest {manifest}: {error}"))
    return list(items.values()), rejects


def _add(items: dict[str, dict[str, Any]], item: dict[str, Any]) -> None:
    """Add an item under a label of its own; a row that says the same again adds nothing."""
    label = item_label(item)
    if label in items and items[label] != item:
        if "recording_id" not in item:
            reason = "is in another row with other columns already"
            raise InvalidInputError(label, reason, "Give each a recording_id.")
        label = f"{label} as {item['recording_id']}"
        item["item"] = label
    items[label] = item


def _read_table(manifest: str) -> tuple[pa.Table, _Rejected]:
    try:
        if manifest.endswith(".parquet"):
            return storage.read_table(manifest), []
        return _read_csv(manifest)
    except (D3KEError, pa.ArrowException) as error:
        raise UsageError(f"Manifest {manifest} cannot be read ({error}).") from error


def _read_csv(manifest: str) -> tuple[pa.Table, _Rejected]:
    rejects: _Rejected = []

    def odd(row: Any) -> str:
        line = f"line {row.number} of manifest {manifest}"
        reason = f"has {row.actual_columns} columns instead of {row.expected_columns}: {row.text}"
        rejects.append((line, f"{line} {reason}"))
        return "skip"

    table = pacsv.read_csv(
        pa.BufferReader(storage.read_bytes(manifest)),
        # One thread, because only then lines have numbers.
        read_options=pacsv.ReadOptions(use_threads=False),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=odd),
        convert_options=pacsv.ConvertOptions(
            column_types={name: pa.string() for name in _TEXTS},
            null_values=[""],
            strings_can_be_null=True,
        ),
    )
    return table, rejects


def _item(
    row: Mapping[str, Any], folder: str, cameras: Mapping[str, Camera], allow_outside: bool
) -> dict[str, Any]:
    """One row; raises an error that says what is wrong with it."""
    text = str(row["uri"] or "")
    if not text.strip():
        raise InvalidInputError("uri", "is missing")
    uri = _place(folder, text, allow_outside)
    item: dict[str, Any] = {"uri": uri, "camera": _camera(row, cameras)}
    if row.get("recording_id"):
        item["recording_id"] = _recording_id(str(row["recording_id"]))
    if row.get("boxes_uri"):
        item["boxes_uri"] = _place(folder, str(row["boxes_uri"]), allow_outside)
    start_s, end_s = _seconds(row, "start_s"), _seconds(row, "end_s")
    if start_s is not None or end_s is not None:
        start_s = start_s or 0.0
        if end_s is not None and end_s <= start_s:
            raise InvalidInputError("end_s", f"is {end_s:g}, must be after start_s, {start_s:g}")
        until = "the end" if end_s is None else f"{end_s:g}"
        item |= {"start_s": start_s, "end_s": end_s, "item": f"{uri} [{start_s:g} to {until} s]"}
    return item


def _place(folder: str, text: str, allow_outside: bool) -> str:
    """Location that a row means; refuses what leads out of the manifest's folder."""
    if "\0" in text:
        raise InvalidInputError(repr(text), "holds a zero character")
    uri = storage.join(folder, text)
    if storage.is_uri(uri):
        scheme, _, path = uri.partition("://")
        uri = f"{scheme}://{posixpath.normpath(path)}"
        inside = uri.startswith(folder.rstrip("/") + "/")
    else:
        uri = os.path.normpath(uri)
        inside = not storage.is_uri(folder) and _really_inside(uri, folder)
    if not inside and not allow_outside:
        reason = f"leads out of the manifest's folder {folder}"
        raise InvalidInputError(text, reason, "Give --allow-outside if that is meant.")
    return uri


def _really_inside(path: str, folder: str) -> bool:
    """Whether a path stays below a folder, also where its links lead."""
    lies = Path(path).is_relative_to(folder)
    return lies and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _recording_id(name: str) -> str:
    if name != storage.safe_name(name) or len(name.encode()) > _LONGEST_NAME:
        reason = "cannot be the name of a file"
        raise InvalidInputError(
            f"recording_id {name!r}", reason, "Use letters, digits, '.', '_' and '-'."
        )
    return name


def _seconds(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except ValueError:
        raise InvalidInputError(name, f"is {value!r}, must be a number of seconds") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise InvalidInputError(name, f"is {value}, must be 0 or more seconds")
    return seconds


def _camera(row: Mapping[str, Any], cameras: Mapping[str, Camera]) -> dict[str, Any] | None:
    """Camera of a row: its own columns, else by name; None: neither."""
    if row.get("calibrated", True) and row.get("intrinsics") is not None:
        values: dict[str, Any] = {
            name: np.reshape(row[name], RECORDINGS.column(name).resolve({})).tolist()
            for name in ("intrinsics", "rotation", "translation", "distortion")
        }
        return {**values, "size": [int(row["width"]), int(row["height"])]}
    name = row.get("camera")
    if not name or not cameras:
        return None
    if name not in cameras:
        raise UnknownNameError("camera", str(name), cameras)
    return camera_to_json(cameras[name])
