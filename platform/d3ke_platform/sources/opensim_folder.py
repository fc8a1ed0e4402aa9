"""What lies in an OpenSim user's folders: models, setups, marker files, videos.

Setups are told by their root element, never by their names. Nothing but .xml files is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from d3ke import safe_xml
from d3ke.errors import InvalidInputError
from d3ke_platform.errors import UsageError

MARKERS = (".trc", ".c3d")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".m4v")
CALIBRATIONS = (".toml", ".qca.txt", ".json")
_STATIC = re.compile(r"static|calib|neutral|(^|[_\-. ])(t|n|a)[_\- ]?pose", re.I)
_SETUP_TAGS = ("ScaleTool", "InverseKinematicsTool", "IKTaskSet")


@dataclass(frozen=True, kw_only=True)
class FolderFiles:
    """The files of one folder and those below it, by what they are; sorted."""

    folder: Path
    models: tuple[Path, ...] = ()
    setups: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """Root element -> files."""
    markers: tuple[Path, ...] = ()
    videos: tuple[Path, ...] = ()
    calibrations: tuple[Path, ...] = ()

    def setups_of(self, tag: str) -> tuple[Path, ...]:
        """Setup files of a tool (ScaleTool, InverseKinematicsTool, IKTaskSet)."""
        return self.setups.get(tag, ())


def subject_folders(root: Path, pattern: str = "") -> list[Path]:
    """The folder of each subject; see `OpenSimSettings.subject_folders`.

    Raises UsageError: the input folder is absent, or there is no marker file in it.
    """
    if not root.is_dir():
        raise UsageError(f"--input {root}: there is no such folder.")
    if pattern:
        found = sorted(path for path in root.glob(pattern) if path.is_dir())
        if not found:
            raise UsageError(f"No folder in {root} matches --opensim.subject-folders {pattern}.")
        return found
    if any(_is(path, MARKERS) for path in root.iterdir()):
        return [root]
    found = [
        folder
        for folder in sorted(root.iterdir())
        if folder.is_dir() and any(_is(path, MARKERS) for path in folder.rglob("*"))
    ]
    if not found:
        raise UsageError(
            f"--input {root}: neither it nor a folder in it holds marker files ({_list(MARKERS)})."
        )
    return found


def scan(folder: Path, *, below: bool = True) -> FolderFiles:
    """The files in a folder, and below it unless `below` is False; hidden ones are left out."""
    paths = sorted(folder.rglob("*") if below else folder.iterdir())
    paths = [p for p in paths if p.is_file() and not _hidden(p.relative_to(folder))]
    setups: dict[str, list[Path]] = {}
    for path in paths:
        if path.suffix.lower() == ".xml" and (tag := _content_tag(path)) in _SETUP_TAGS:
            setups.setdefault(tag, []).append(path)
    return FolderFiles(
        folder=folder,
        models=_kind(paths, (".osim",)),
        setups={tag: tuple(files) for tag, files in setups.items()},
        markers=_kind(paths, MARKERS),
        videos=_kind(paths, VIDEOS),
        calibrations=tuple(p for p in _kind(paths, CALIBRATIONS) if _is_calibration(p)),
    )


def _kind(paths: Iterable[Path], suffixes: Sequence[str]) -> tuple[Path, ...]:
    return tuple(path for path in paths if _is(path, suffixes))


def _is(path: Path, suffixes: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(suffixes)) and not path.name.startswith(".")


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _is_calibration(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(".qca.txt") or "calib" in name or "camera" in name


def _content_tag(path: Path) -> str:
    """Root element inside <OpenSimDocument>; "" for a file that is not XML.

    Raises InvalidInputError for a setup whose XML is broken.
    """
    try:
        return safe_xml.first_tag(path, beneath="OpenSimDocument")
    except (safe_xml.ParseError, ValueError) as error:
        text = path.read_text(encoding="utf-8", errors="replace")
        if any(f"<{tag}" in text for tag in _SETUP_TAGS):
            raise InvalidInputError(str(path), f"is not XML ({error})") from error
    return ""


def is_static(path: Path) -> bool:
    """Whether a marker file's name says that it is a static trial."""
    return bool(_STATIC.search(path.stem))


def is_trc(path: Path) -> bool:
    """Whether a marker file is a .trc (else a .c3d)."""
    return path.suffix.lower() == ".trc"


def chosen(files: FolderFiles, shared: FolderFiles, pattern: str, setting: str) -> list[Path]:
    """Files that a glob names in the subject's folder, else in the input folder.

    Raises UsageError where there are none.
    """
    for folder in (files.folder, shared.folder):
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if found:
            return found
    option = setting.replace("_", "-")
    raise UsageError(f"No file in {files.folder} matches --opensim.{option} {pattern}.")


def only(found: Sequence[Path], what: str, setting: str, folder: Path) -> Path | None:
    """The one file, None for none. Raises UsageError for several."""
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        option = setting.replace("_", "-")
        raise UsageError(
            f"{folder} holds several {what}: {names}. Choose with --opensim.{option} GLOB."
        )
    return found[0] if found else None


def locate(named: Path, files: FolderFiles, shared: FolderFiles, what: str) -> Path:
    """A file that a setup names: where it says, else one of that name among the subject's files or
    those of the input folder; a .c3d in place of a .trc of the same name.

    Raises InvalidInputError: there is none.
    """
    if named.is_file():
        return named.resolve()
    everything = [*_all(files), *_all(shared)]
    for match in (_same_name, _same_recording):
        for path in everything:
            if match(path, named):
                return path
    raise InvalidInputError(
        what,
        f"names {named.name}, which is neither at {named} nor in {files.folder}",
        f"There are: {_list(sorted({p.name for p in everything if _alike(p, named)})) or 'none'}.",
    )


def _all(files: FolderFiles) -> list[Path]:
    xml = [path for path in files.folder.rglob("*.xml") if path.is_file()]
    motions = [p for p in files.folder.rglob("*") if p.suffix.lower() in (".mot", ".sto")]
    return [*files.models, *files.markers, *sorted(xml), *sorted(motions)]


def _same_name(path: Path, named: Path) -> bool:
    return path.name.lower() == named.name.lower()


def _same_recording(path: Path, named: Path) -> bool:
    return _is(named, MARKERS) and _is(path, MARKERS) and path.stem.lower() == named.stem.lower()


def _alike(path: Path, named: Path) -> bool:
    kinds = MARKERS if _is(named, MARKERS) else (named.suffix.lower(),)
    return path.suffix.lower() in kinds


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def shared_files(root: Path, folders: Sequence[Path]) -> FolderFiles:
    """What lies in the input folder itself, for all subjects whose folders are below it."""
    return FolderFiles(folder=root) if list(folders) == [root] else scan(root, below=False)
