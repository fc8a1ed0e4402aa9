"""BML-MoVi's Visual3D files: who a subject is, and where its motions are in the long video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.errors import InvalidInputError

SEXES = ("female", "male")


@dataclass(frozen=True, kw_only=True)
class V3DMotion:
    """One motion of a subject."""

    name: str
    """Movement, as a name: lower case, underscores."""
    first_frame: int
    """Its first frame in the video of the round, from 0."""
    frame_count: int
    """Length in video frames."""


@dataclass(frozen=True, kw_only=True)
class V3DSubject:
    """One subject's recording of round F."""

    sex: str
    """female or male."""
    motions: tuple[V3DMotion, ...]
    """In the order recorded: AMASS's file k is the k-th."""


def read_v3d(path: str | Path) -> V3DSubject:
    """A file F_v3d_Subject_<id>.mat, of any version of MATLAB's format (7.3 is HDF5).

    `flags30` holds the first and last video frame of each motion, counted from 1.

    Raises:
        InvalidInputError: missing, damaged, or without sex or motion limits that make sense.
    """
    recording = _recording(path, _read(path))
    sex = str(recording["subject"].get("sex", "")).strip().lower()
    if sex not in SEXES:
        raise InvalidInputError(str(path), f"the sex is {sex!r}, not {' or '.join(SEXES)}")
    move = _first_move(path, recording["move"])
    limits = _limits(path, move["flags30"])
    names = [_as_name(text) for text in _texts(move.get("motions_list", ()))]
    if names and len(names) != len(limits):
        reason = f"names {len(names)} motions, but flags30 has {len(limits)} rows"
        raise InvalidInputError(str(path), reason)
    return V3DSubject(
        sex=sex,
        motions=tuple(
            V3DMotion(
                name=names[row] if names else f"motion_{row + 1}",
                first_frame=int(first) - 1,
                frame_count=int(last - first) + 1,
            )
            for row, (first, last) in enumerate(limits)
        ),
    )


def _read(path: str | Path) -> dict[str, Any]:
    from pymatreader import read_mat

    if not Path(path).is_file():
        raise InvalidInputError(str(path), "there is no such file")
    try:
        content = read_mat(str(path))
    # scipy and h5py raise a dozen kinds of errors for a damaged file, some of them bare Exceptions.
    except Exception as error:
        reason = f"is not a readable MATLAB file: damaged or broken off ({error})"
        raise InvalidInputError(str(path), reason) from error
    return dict(content)


def _recording(path: str | Path, content: dict[str, Any]) -> dict[str, Any]:
    """The struct Subject_<id>_F."""
    for name, value in content.items():
        if not name.startswith("Subject_") or not isinstance(value, dict):
            continue
        if isinstance(value.get("subject"), dict) and "move" in value:
            return value
    there = ", ".join(name for name in content if not name.startswith("__"))
    reason = f"holds no struct Subject_<id>_F with subject and move, only {there or 'nothing'}"
    raise InvalidInputError(str(path), reason)


def _first_move(path: str | Path, move: Any) -> dict[str, Any]:
    """The struct with the limits: `move` is a cell array whose first element is the whole round."""
    for candidate in move if isinstance(move, (list, tuple)) else [move]:
        if isinstance(candidate, dict) and "flags30" in candidate:
            return candidate
    raise InvalidInputError(str(path), "its move has no flags30, the limits of the motions")


def _limits(path: str | Path, flags: Any) -> np.ndarray:
    """[n, 2] first and last frame, from 1; rows in order."""
    limits = np.atleast_2d(np.asarray(flags, float))
    if limits.shape[1] != 2 or not np.isfinite(limits).all():
        reason = f"flags30 has shape {limits.shape}, not (motions, 2) of finite numbers"
        raise InvalidInputError(str(path), reason)
    wrong = np.flatnonzero((limits[:, 0] < 1) | (limits[:, 1] < limits[:, 0]))
    if wrong.size:
        first, last = limits[wrong[0]]
        reason = f"motion {wrong[0] + 1} goes from video frame {first:g} to {last:g}"
        raise InvalidInputError(str(path), reason)
    return np.asarray(np.rint(limits).astype(int))


def _texts(values: Any) -> Iterator[str]:
    """Strings of a cell array, however deeply a reader nests them."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, (list, tuple, np.ndarray)):
        for value in values:
            yield from _texts(value)


def _as_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "unnamed"
