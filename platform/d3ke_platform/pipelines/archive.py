"""What a video archive consists of: a folder, a glob, one file, or a manifest table."""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.calibration import camera_to_json
from d3ke_platform.errors import UsageError
from d3ke_platform.pipelines.manifest import read_manifest
from d3ke_platform.pipelines.ray_data import reject_row
from d3ke_platform.stages.scores_folder import item_label

VIDEO_SUFFIXES = frozenset(
    f".{kind}"
    for kind in (
        *("mp4", "m4v", "mov", "avi", "mkv", "webm", "mpg", "mpeg", "wmv", "mts", "m2ts", "ts"),
        *("3gp", "flv", "ogv", "asf", "mxf", "vob", "dv", "m2v", "mjpeg", "h264", "h265", "ivf"),
    )
)
LIST_STAGE = "list"
_MANIFESTS = (".parquet", ".csv")
_WILD = frozenset("*?[")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The videos of an archive, and what is in it but cannot be scored."""

    items: list[dict[str, Any]]
    """Sorted by uri, each with "uri", "camera" (JSON values or None) and, where the manifest has
    them, "recording_id", "boxes_uri", "start_s", "end_s" [s after the first frame] and "item",
    which tells parts of one video apart."""
    rejects: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the REJECTS table, stage "list"."""


def list_archive(
    archive: str, cameras: Mapping[str, Camera], *, allow_outside: bool = False, without: str = ""
) -> Listing:
    """Videos of an archive, each once.

    Args:
        archive: A folder (searched with its subfolders), a glob (** for any depth), one video, or
            a manifest (.parquet or .csv) with the column "uri", relative to the manifest, and
            optionally "camera" (a name in `cameras`), "start_s" and "end_s", "recording_id",
            "boxes_uri" (a BOXES table) or the camera columns of the RECORDINGS table.
        cameras: Calibrated cameras by name; a video without a named camera has the one that is
            called like the file, if there is one.
        allow_outside: Follow links and manifest paths that lead out of the archive.
        without: A folder in the archive that is left out: scores hold videos, too.

    Returns:
        The videos, and rejects: links that lead out, things named like videos that are no files,
        rows of a manifest that cannot be used.

    Raises:
        UsageError: nothing is there, or the manifest is not one.
    """
    if PurePosixPath(archive).suffix in _MANIFESTS and not _is_glob(archive):
        items, rejects = read_manifest(archive, cameras, allow_outside=allow_outside)
    else:
        uris, rejects = _list_videos(archive, allow_outside=allow_outside)
        inside = _inside(without) if without else None
        if inside and not inside(archive):
            uris = [uri for uri in uris if not inside(uri)]
            rejects = [(name, why) for name, why in rejects if not inside(name)]
        items = [{"uri": uri, "camera": None} for uri in uris]
    for item in items:
        named = cameras.get(PurePosixPath(item["uri"]).stem)
        if item["camera"] is None and named is not None:
            item["camera"] = camera_to_json(named)
    unique = {item_label(item): item for item in items}
    if not unique and not rejects:
        kinds = " ".join(sorted(VIDEO_SUFFIXES))
        raise UsageError(f"No videos in {archive}. Looked for: {kinds}.")
    rows = [reject_row(name, LIST_STAGE, reason) for name, reason in rejects]
    return Listing(items=[unique[key] for key in sorted(unique)], rejects=rows)


_Found = tuple[list[str], list[tuple[str, str]]]


def _is_glob(archive: str) -> bool:
    """Whether a location has wildcards; an existing one is meant as it is written."""
    return bool(_WILD & set(archive)) and not storage.exists(archive)


def _list_videos(archive: str, *, allow_outside: bool) -> _Found:
    """Locations of videos, and (name, reason) of what cannot be one."""
    if storage.is_uri(archive):
        return _list_remote(archive), []
    if _is_glob(archive):
        text = str(Path(archive).expanduser().absolute())
        root, pattern = Path(_literal_folder(text)), _glob_pattern(text)
        depth = math.inf if "**" in text else text.count("/") - str(root).rstrip("/").count("/")
        entries = _walk(root, allow_outside, depth=depth) if root.is_dir() else ()
        return _sorted_out(filter(pattern.fullmatch, entries), root, allow_outside)
    root = storage.local_path(archive)
    if root.is_dir():
        entries = _walk(root, allow_outside)
        named = (path for path in entries if _is_video(path) or os.path.isdir(path))
        return _sorted_out(named, root, allow_outside)
    if not root.exists():
        raise UsageError(f"--archive {archive}: there is no such file or folder.")
    return _sorted_out([str(root)], root.parent, allow_outside)


def _list_remote(archive: str) -> list[str]:
    if _is_glob(archive):
        pattern = _glob_pattern(archive)
        found = storage.list_files(_literal_folder(archive))
        return [uri for uri in found if pattern.fullmatch(uri)]
    if not storage.exists(archive):
        raise UsageError(f"--archive {archive}: there is no such file or folder.")
    if storage.is_file(archive):
        return [archive]
    return [uri for uri in storage.list_files(archive) if _is_video(uri)]


def _inside(folder: str) -> Callable[[str], bool]:
    """Tells whether a location is in a folder."""
    if storage.is_uri(folder):
        prefix = folder.rstrip("/") + "/"
        return lambda uri: f"{uri}/".startswith(prefix)
    root = Path(os.path.realpath(storage.local_path(folder)))
    return lambda uri: (
        not storage.is_uri(uri)
        and Path(os.path.realpath(storage.local_path(uri))).is_relative_to(root)
    )


def _glob_pattern(pattern: str) -> re.Pattern[str]:
    """As `glob` reads a pattern: * within one folder, ** across folders."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", pattern)
    texts = [
        signs.get(part, part.replace("[!", "[^") if part.startswith("[") else re.escape(part))
        for part in parts
    ]
    return re.compile("".join(texts), re.DOTALL)


def _literal_folder(pattern: str) -> str:
    """The folder that everything matching is in."""
    return re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0] or "/"


def _is_video(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def _walk(root: Path, allow_outside: bool, *, depth: float = math.inf) -> Iterator[str]:
    """Paths of the visible things in a tree, sorted folder by folder; depth 1 is the root's own.

    Links to folders are not followed: what is inside of the tree is found without them, and what
    is outside is only entered when allowed.
    """
    seen = {os.path.realpath(root)}
    folders = [(str(root), 1)]
    while folders:
        folder, level = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            if level == 1:
                raise UsageError(f"--archive {root}: cannot be read ({error.strerror}).") from error
            continue  # named as a reject where folders are sorted out
        for entry in entries:
            if entry.name.startswith("."):
                continue
            target = os.path.realpath(entry.path) if entry.is_symlink() else ""
            if entry.is_dir(follow_symlinks=False):
                enter = True
            elif target and os.path.isdir(entry.path):
                if _within(target, root):
                    continue
                enter = allow_outside and target not in seen
                seen.add(target)
                if allow_outside and not enter:
                    continue
            else:
                enter = False
            yield entry.path
            if enter and level < depth:
                folders.append((entry.path, level + 1))


def _sorted_out(paths: Iterable[str], root: Path, allow_outside: bool) -> _Found:
    """Paths that are regular files in the tree, and why the others are not listed."""
    videos: list[str] = []
    rejects: list[tuple[str, str]] = []
    folders: list[str] = []
    for path in paths:
        try:
            if os.path.isdir(path) and (allow_outside or not os.path.islink(path)):
                folders.append(path)
                continue
            _check_local(path, root, allow_outside)
            videos.append(path)
        except InvalidInputError as error:
            rejects.append((_readable(path), str(error)))
    for folder in folders:
        # A folder may be called like a video (a camera's bundle of clips, for example).
        inside = folder + os.sep
        name = _readable(folder)
        if not os.access(folder, os.R_OK | os.X_OK):
            rejects.append((name, f"{name}: cannot be read (Permission denied)."))
        elif _is_video(folder) and not any(path.startswith(inside) for path in videos):
            rejects.append((name, f"{name}: is a folder, not a file."))
    return videos, rejects


def _check_local(path: str, root: Path, allow_outside: bool) -> None:
    """Raises InvalidInputError for what is no regular file of the archive."""
    name = _readable(path)
    if name != path:
        reason = "its name is not valid UTF-8 and cannot be written into tables"
        raise InvalidInputError(name, reason, "Rename it.")
    if os.path.islink(path):
        target = os.path.realpath(path)
        if not os.path.exists(path):
            raise InvalidInputError(name, f"is a symbolic link to {target}, which does not exist")
        if not allow_outside and not _within(target, root):
            reason = f"is a symbolic link to {target}, outside of the archive {root}"
            raise InvalidInputError(name, reason, "Give --allow-outside to follow it.")
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise InvalidInputError(name, f"cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise InvalidInputError(name, f"is {what}, not a file")


def _within(path: str, root: Path) -> bool:
    return Path(path).is_relative_to(os.path.realpath(root))


def _readable(path: str) -> str:
    return os.fsencode(path).decode("utf-8", "replace")
