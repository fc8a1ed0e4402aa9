"""What of a BML-MoVi download can be used: who, which motions, which cameras, and why not.

Splits, subjects without video and without T-pose are those of the paper's code (facts 4.7).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from d3ke.errors import InvalidInputError
from d3ke_platform.sources.bmlmovi_layout import Layout
from d3ke_platform.sources.bmlmovi_v3d import V3DMotion, V3DSubject, read_v3d
from d3ke_platform.sources.smplh_body import check_body_model

NO_MOTION, NO_LIMITS = "no AMASS file", "no limits in the Visual3D file"

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Participant:
    """A subject who can be used."""

    number: int
    """Of the data set, 1 to 90."""
    split: str
    """train, validation or test."""
    sex: str
    """female or male."""
    motions: dict[int, V3DMotion]
    """Number of the motion, from 1 -> its place in the videos; those that AMASS has."""
    left_out: dict[int, str]
    """Number of a motion that cannot be used -> what is missing of it."""
    cameras: tuple[str, ...]
    """Calibrated cameras of which there is a video."""

    @property
    def name(self) -> str:
        """Id in the data set's tables."""
        return subject_name(self.number)


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Everybody of whom there is a file, by what can be done with it."""

    usable: tuple[Participant, ...]
    """In the order of their numbers."""
    skipped: dict[int, str]
    """Subject -> what is missing; the paper left them out too, or it was not downloaded."""
    broken: dict[int, str]
    """Subject -> what is wrong with a file."""


def subject_name(number: int) -> str:
    """Id in the data set's tables."""
    return f"s{number:03d}"


@cache
def paper_splits() -> dict[int, str]:
    """Subject -> train, validation or test; subject 12 is in none."""
    splits = _figures()["splits"]
    return {subject: split for split, subjects in splits.items() for subject in subjects}


@cache
def subjects_without_video() -> frozenset[int]:
    """Subjects whose videos were not published."""
    return frozenset(_figures()["without_video"])


def take_inventory(
    layout: Layout, *, cameras: Sequence[str], subjects: Sequence[int] = ()
) -> Inventory:
    """Judge everybody; reads the Visual3D files and the body models' headers.

    Args:
        layout: the files.
        cameras: those wanted.
        subjects: only these; empty = all.
    """
    calibrated = tuple(c for c in cameras if c in layout.parameters and c in layout.extrinsics)
    models = {sex: _reason(check_body_model, path) for sex, path in layout.body_models.items()}
    candidates = [n for n in layout.subjects() if not subjects or n in subjects]
    judge = partial(_judge, layout, calibrated, models)
    usable: list[Participant] = []
    skipped: dict[int, str] = {}
    broken: dict[int, str] = {}
    for number, verdict in zip(candidates, side_by_side(judge, candidates), strict=True):
        if isinstance(verdict, Participant):
            usable.append(verdict)
        elif isinstance(verdict, InvalidInputError):
            broken[number] = str(verdict)
        else:
            skipped[number] = verdict
    return Inventory(usable=tuple(usable), skipped=skipped, broken=broken)


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results in order, from a few threads: a Visual3D file takes 200 MB while it is read."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))


def _judge(
    layout: Layout, calibrated: tuple[str, ...], models: dict[str, str], number: int
) -> Participant | str | InvalidInputError:
    """A usable subject, what is missing, or what is broken."""
    missing = _missing(layout, calibrated, number)
    if missing:
        return missing
    try:
        subject = read_v3d(layout.v3d[number])
    except InvalidInputError as error:
        return error
    if subject.sex not in models:
        return f"no SMPL-H model of the sex {subject.sex}"
    if models[subject.sex]:
        return InvalidInputError(f"subject {number}", f"its body model: {models[subject.sex]}")
    motions, left_out = _motions(layout, number, subject)
    if not motions:
        return "no AMASS file of a motion that the Visual3D file lists"
    return Participant(
        number=number,
        split=paper_splits()[number],
        sex=subject.sex,
        motions=motions,
        left_out=left_out,
        cameras=tuple(c for c in calibrated if (number, c) in layout.videos),
    )


def _missing(layout: Layout, calibrated: tuple[str, ...], number: int) -> str:
    """The first thing that a subject lacks, "" for nothing."""
    if number not in paper_splits():
        return "in none of the paper's splits"
    if not calibrated:
        return "no camera parameters"
    if not any((number, camera) in layout.videos for camera in calibrated):
        published = number not in subjects_without_video()
        return f"no video of {' or '.join(calibrated)}" if published else "no video was published"
    if number not in layout.v3d:
        return "no Visual3D file"
    if number not in layout.motions:
        return NO_MOTION
    return ""


def _motions(
    layout: Layout, number: int, subject: V3DSubject
) -> tuple[dict[int, V3DMotion], dict[int, str]]:
    """Motions that both have, and what is missing of the others."""
    limited = dict(enumerate(subject.motions, start=1))
    fitted = layout.motions[number]
    left_out = dict.fromkeys(limited.keys() - fitted.keys(), NO_MOTION)
    left_out |= dict.fromkeys(fitted.keys() - limited.keys(), NO_LIMITS)
    usable = {k: motion for k, motion in limited.items() if k in fitted}
    return usable, dict(sorted(left_out.items()))


def _reason(check: Callable[[Path], None], path: Path) -> str:
    try:
        check(path)
    except InvalidInputError as error:
        return str(error)
    return ""


@cache
def _figures() -> dict[str, Any]:
    file = resources.files("d3ke_platform.sources") / "bmlmovi_subjects.json"
    return dict(json.loads(file.read_text(encoding="utf-8")))
