"""Which files of a BML-MoVi download are where: official names, in any folders below one.

* F_PG1_Subject_<id>_L.avi, F_PG2_...: video of round F, one file for all motions of a subject
* F_v3d_Subject_<id>.mat: who, and the limits of the motions (F_Subjects_*.tar)
* cameraParams_PG1.npz, Extrinsics_PG1.npz, ...: calibration (Camera Parameters.tar)
* Subject_<id>_F_<k>_poses.npz: motion k (AMASS, SMPL+H version of BMLmovi)
* <sex>/model.npz: extended SMPL+H model
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from d3ke.errors import InvalidInputError
from d3ke_platform.errors import UsageError

_VIDEO = re.compile(r"F_(PG[12])_Subject_(\d+)(?:_L)?\.(?:avi|mp4|mkv|mov)", re.IGNORECASE)
_V3D = re.compile(r"F_v3d_Subject_(\d+)\.mat", re.IGNORECASE)
_AMASS = re.compile(r"Subject_(\d+)_F_(\d+)_poses\.npz", re.IGNORECASE)
_CALIBRATION = re.compile(r"(cameraParams|Extrinsics)_(PG[12])\.(npz|mat)", re.IGNORECASE)
_BODY_MODEL = re.compile(r"(female|male)/model\.npz|SMPLH_(FEMALE|MALE)\.npz", re.IGNORECASE)

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Files of a download."""

    root: Path
    """Folder below which they lie."""
    videos: dict[tuple[int, str], Path] = field(default_factory=dict)
    """Subject and camera -> video."""
    v3d: dict[int, Path] = field(default_factory=dict)
    """Subject -> Visual3D file."""
    motions: dict[int, dict[int, Path]] = field(default_factory=dict)
    """Subject -> number of the motion (from 1) -> AMASS file."""
    parameters: dict[str, Path] = field(default_factory=dict)
    """Camera -> its intrinsic parameters."""
    extrinsics: dict[str, Path] = field(default_factory=dict)
    """Camera -> its place."""
    body_models: dict[str, Path] = field(default_factory=dict)
    """Sex -> SMPL-H model."""

    def subjects(self) -> list[int]:
        """Everybody of whom there is a file."""
        of_videos = {subject for subject, _ in self.videos}
        return sorted(of_videos | self.v3d.keys() | self.motions.keys())


def find_files(folder: str | Path) -> Layout:
    """Look through a folder and everything below it.

    Raises UsageError when there is no such folder, InvalidInputError when a file is there twice.
    """
    root = Path(folder).expanduser().absolute()
    if not root.is_dir():
        raise UsageError(f"--input {folder}: there is no such folder.")
    layout = Layout(root=root)
    for path in sorted(_files(root)):
        _file(layout, path)
    return layout


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder, links to other folders included, hidden ones left out."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if name[0] != "."]
        if real not in seen:
            yield from (Path(folder, name) for name in names if name[0] != ".")
        seen.add(real)


def _file(layout: Layout, path: Path) -> None:
    """Note a file where its name is one of the official ones."""
    name = path.name
    if match := _VIDEO.fullmatch(name):
        _note(layout.videos, (int(match[2]), match[1].upper()), path)
    elif match := _V3D.fullmatch(name):
        _note(layout.v3d, int(match[1]), path)
    elif match := _AMASS.fullmatch(name):
        _note(layout.motions.setdefault(int(match[1]), {}), int(match[2]), path)
    elif match := _CALIBRATION.fullmatch(name):
        _note_calibration(layout, match[1], match[2].upper(), path)
    elif (match := _body_model(layout.root, path)) is not None:
        _note(layout.body_models, (match[1] or match[2]).lower(), path)


def _body_model(root: Path, path: Path) -> re.Match[str] | None:
    """The soft-tissue models (DMPL) have the same names in a folder of their own."""
    parts = path.relative_to(root.parent).parts
    if any("dmpl" in part.lower() for part in parts):
        return None
    return _BODY_MODEL.fullmatch("/".join(parts[-2:])) or _BODY_MODEL.fullmatch(path.name)


def _note_calibration(layout: Layout, kind: str, camera: str, path: Path) -> None:
    """The same calibration comes as .npz and .mat; MATLAB alone reads the objects in the latter."""
    files = layout.extrinsics if kind.lower() == "extrinsics" else layout.parameters
    there = files.get(camera)
    if there is None or (there.suffix == ".mat" and path.suffix == ".npz"):
        files[camera] = path
    elif there.suffix == path.suffix:
        _note(files, camera, path)


def _note(files: dict[Key, Path], key: Key, path: Path) -> None:
    there = files.setdefault(key, path)
    if there != path:
        raise InvalidInputError(
            str(path), f"is there a second time as {there}", "Take one of them away."
        )
