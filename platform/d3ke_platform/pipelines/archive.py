"""What a video archive consists of: a folder, a glob, one file, or a manifest table."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from d3ke.camera import Camera
from d3ke.errors import D3KEError, UnknownNameError
from d3ke_platform import storage
from d3ke_platform.calibration import camera_to_json
from d3ke_platform.errors import UsageError
from d3ke_platform.files import filesystem
from d3ke_platform.schema import RECORDINGS

VIDEO_SUFFIXES = frozenset(
    f".{kind}"
    for kind in (
        *("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg"),
        *("wmv", "mts", "m2ts", "ts", "3gp", "flv", "ogv"),
    )
)
_MANIFESTS = (".parquet", ".csv")
_WILD = frozenset("*?[")


def list_archive(archive: str, cameras: Mapping[str, Camera]) -> list[dict[str, Any]]:
    """Items of an archive, sorted by uri, each video once.

    Args:
        archive: A folder (searched with its subfolders), a glob (** for any depth), one video, or
            a manifest (.parquet or .csv) with the column "uri", relative to the manifest, and
            optionally "camera" (a name in `cameras`), "recording_id", "boxes_uri" (a BOXES table)
            or the camera columns of the RECORDINGS table.
        cameras: Calibrated cameras by name; a video without a named camera has the one that is
            called like the file, if there is one.

    Returns:
        items {"uri", "camera": JSON values or None} with "recording_id" and "boxes_uri" where the
        manifest has them.

    Raises:
        UsageError: nothing is there, or the manifest is not one.
        UnknownNameError: a manifest names a camera that is not known.
    """
    if PurePosixPath(archive).suffix in _MANIFESTS and not _WILD & set(archive):
        items = _from_manifest(archive, cameras)
    else:
        items = [
            {"uri": uri, "camera": _camera_json(cameras.get(PurePosixPath(uri).stem))}
            for uri in _list_videos(archive)
        ]
    unique = {item["uri"]: item for item in items}
    if not unique:
        kinds = " ".join(sorted(VIDEO_SUFFIXES))
        raise UsageError(f"No videos in {archive}. Looked for: {kinds}.")
    return [unique[uri] for uri in sorted(unique)]


def _list_videos(archive: str) -> list[str]:
    if _WILD & set(archive):
        if not storage.is_uri(archive):
            found = glob.glob(str(Path(archive).expanduser()), recursive=True)
            return [str(Path(name).absolute()) for name in found if Path(name).is_file()]
        literal = archive[: min(archive.index(sign) for sign in _WILD if sign in archive)]
        folder = literal.rpartition("/")[0]
        return [uri for uri in storage.list_files(folder) if fnmatch.fnmatchcase(uri, archive)]
    if not storage.exists(archive):
        raise UsageError(f"--archive {archive}: there is no such file or folder.")
    system, path = filesystem(archive)
    if system.get_file_info(path).is_file:
        return [archive if storage.is_uri(archive) else str(storage.local_path(archive))]
    return [uri for uri in storage.list_files(archive) if _is_video(uri)]


def _is_video(uri: str) -> bool:
    return PurePosixPath(uri).suffix.lower() in VIDEO_SUFFIXES


def _from_manifest(manifest: str, cameras: Mapping[str, Camera]) -> list[dict[str, Any]]:
    table = _read_manifest(manifest)
    if "uri" not in table.column_names:
        names = ", ".join(table.column_names)
        raise UsageError(f"Manifest {manifest} has no column 'uri'. Its columns: {names}.")
    location = manifest if storage.is_uri(manifest) else str(storage.local_path(manifest))
    folder = location.rpartition("/")[0]
    items = []
    for row in table.to_pylist():
        uri = storage.join(folder, str(row["uri"]))
        item: dict[str, Any] = {"uri": uri, "camera": _manifest_camera(row, uri, cameras)}
        if row.get("recording_id"):
            item["recording_id"] = str(row["recording_id"])
        if row.get("boxes_uri"):
            item["boxes_uri"] = storage.join(folder, str(row["boxes_uri"]))
        items.append(item)
    return items


def _read_manifest(manifest: str) -> pa.Table:
    try:
        if manifest.endswith(".parquet"):
            return storage.read_table(manifest)
        content = pa.BufferReader(storage.read_bytes(manifest))
        options = pacsv.ConvertOptions(strings_can_be_null=True)
        return pacsv.read_csv(content, convert_options=options)
    except (D3KEError, pa.ArrowException) as error:
        raise UsageError(f"Manifest {manifest} cannot be read ({error}).") from error


def _manifest_camera(
    row: Mapping[str, Any], uri: str, cameras: Mapping[str, Camera]
) -> dict[str, Any] | None:
    """Camera of a manifest's row: its own columns, else by name, else by the file's name."""
    if row.get("calibrated", True) and row.get("intrinsics") is not None:
        names = ("intrinsics", "rotation", "translation", "distortion")
        values: dict[str, Any] = {
            name: np.reshape(row[name], RECORDINGS.column(name).resolve({})).tolist()
            for name in names
        }
        return {**values, "size": [int(row["width"]), int(row["height"])]}
    name = row.get("camera")
    if name and cameras:
        if name not in cameras:
            raise UnknownNameError("camera", str(name), cameras)
        return camera_to_json(cameras[name])
    return _camera_json(cameras.get(PurePosixPath(uri).stem))


def _camera_json(camera: Camera | None) -> dict[str, Any] | None:
    return None if camera is None else camera_to_json(camera)
