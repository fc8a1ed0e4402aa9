"""Checks a BML-MoVi download: what is found, missing or broken, and where to get what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from d3ke.errors import InvalidInputError
from d3ke_platform.sources import InputCheck
from d3ke_platform.sources.bmlmovi_amass import amass_frame_count, fitted_sex
from d3ke_platform.sources.bmlmovi_cameras import read_camera
from d3ke_platform.sources.bmlmovi_inventory import (
    NO_LIMITS,
    NO_MOTION,
    Inventory,
    Participant,
    paper_splits,
    side_by_side,
    subjects_without_video,
)
from d3ke_platform.sources.bmlmovi_layout import Layout
from d3ke_platform.sources.bmlmovi_recordings import check_length, check_rate, check_sex
from d3ke_platform.sources.bmlmovi_v3d import SEXES
from d3ke_platform.stages.decode import probe

_MOVI = "BML-MoVi (biomotionlab.ca/movi, after registration)"
_WHERE = {
    "videos": f"{_MOVI}: F_PG1_Subject_<id>_L.avi and F_PG2_Subject_<id>_L.avi of round F.",
    "v3d": f"{_MOVI}: F_Subjects_1_45.tar and F_Subjects_46_90.tar, unpacked.",
    "cameras": f"{_MOVI}: Camera Parameters.tar, unpacked.",
    "amass": "AMASS (amass.is.tue.mpg.de): BMLmovi, the SMPL+H body data, unpacked.",
    "body_models": "MANO/SMPL+H (mano.is.tue.mpg.de): the extended SMPL+H model for AMASS, "
    "unpacked to female/model.npz and male/model.npz.",
}
"""Kind -> where to get it."""


def check_download(layout: Layout, inventory: Inventory, cameras: Sequence[str]) -> InputCheck:
    """Judge a download: reads headers of every file, but no motion and no picture."""
    lost = dict(_broken_cameras(layout, cameras))
    usable = [person for person in inventory.usable if set(person.cameras) - lost.keys()]
    problems = [*inventory.broken.values(), *lost.values()]
    of_videos = side_by_side(partial(_video_problems, layout), usable)
    problems += [text for texts in of_videos for text in texts]
    broken_motions = dict(_motion_problems(layout, usable))
    problems += broken_motions.values()
    motions = sum(len(person.motions) for person in usable) - len(broken_motions)
    missing = _missing(layout, cameras, usable)
    return InputCheck(
        usable=motions > 0,
        found={
            "subjects": len(usable),
            **{f"{split}_subjects": _count(usable, split) for split in ("train", "validation")},
            "test_subjects": _count(usable, "test"),
            "motions": motions,
            "videos": len(layout.videos),
            "v3d": len(layout.v3d),
            "amass": sum(map(len, layout.motions.values())),
            "body_models": len(layout.body_models),
            "cameras": len(layout.parameters.keys() & layout.extrinsics.keys()),
        },
        missing=missing,
        skipped=_by_reason(inventory.skipped),
        problems=problems,
        get=[text for kind, text in _WHERE.items() if _lacks(missing, kind)],
    )


def _missing(
    layout: Layout, cameras: Sequence[str], usable: Sequence[Participant]
) -> dict[str, str]:
    """What the paper's subjects and the chosen cameras lack, by kind."""
    wanted = set(paper_splits()) - subjects_without_video()
    missing = {
        f"videos_{camera}": ranges(n for n in wanted if (n, camera) not in layout.videos)
        for camera in cameras
    }
    missing["v3d"] = ranges(wanted - layout.v3d.keys())
    missing["amass"] = ranges(wanted - layout.motions.keys())
    for kind, reason in (("amass_motions", NO_MOTION), ("v3d_motions", NO_LIMITS)):
        missing[kind] = "; ".join(_motions_left_out(usable, reason))
    missing["body_models"] = ", ".join(sex for sex in SEXES if sex not in layout.body_models)
    lacking = [
        f"{file}_{camera}"
        for camera in cameras
        for file, there in (("cameraParams", layout.parameters), ("Extrinsics", layout.extrinsics))
        if camera not in there
    ]
    missing["cameras"] = ", ".join(lacking)
    return {kind: what for kind, what in missing.items() if what}


def _lacks(missing: Mapping[str, str], kind: str) -> bool:
    return any(name == kind or name.startswith(f"{kind}_PG") for name in missing)


def _motions_left_out(usable: Iterable[Participant], reason: str) -> Iterator[str]:
    """For each subject its motions left out for that reason: "3: 5-7, 21"."""
    for person in usable:
        lost = ranges(k for k, why in person.left_out.items() if why == reason)
        if lost:
            yield f"{person.number}: {lost}"


def _broken_cameras(layout: Layout, cameras: Sequence[str]) -> Iterator[tuple[str, str]]:
    for camera in cameras:
        if camera in layout.parameters and camera in layout.extrinsics:
            try:
                read_camera(layout.parameters[camera], layout.extrinsics[camera])
            except InvalidInputError as error:
                yield camera, str(error)


def _video_problems(layout: Layout, person: Participant) -> list[str]:
    """A sentence for each video of a subject that is no use, or that ends too early."""
    texts = []
    for name in person.cameras:
        try:
            _check_video(layout.videos[person.number, name], person)
        except InvalidInputError as error:
            texts.append(str(error))
    return texts


def _check_video(path: Path, person: Participant) -> None:
    info = probe(path)
    check_rate(path, info.fps)
    end = max(motion.first_frame + motion.frame_count for motion in person.motions.values())
    if end > info.frame_count:
        reason = f"has {info.frame_count} frames, the last motion ends at frame {end}"
        raise InvalidInputError(str(path), reason)


def _motion_problems(
    layout: Layout, usable: Iterable[Participant]
) -> Iterator[tuple[tuple[int, int], str]]:
    """Subject and motion number -> what is wrong with the file."""
    keys = [(person, k) for person in usable for k in person.motions]
    reasons = side_by_side(lambda key: _motion_problem(layout, *key), keys)
    for (person, k), reason in zip(keys, reasons, strict=True):
        if reason:
            yield (person.number, k), reason


def _motion_problem(layout: Layout, person: Participant, k: int) -> str:
    path = layout.motions[person.number][k]
    try:
        check_sex(path, fitted_sex(path), person.sex)
        check_length(path, amass_frame_count(path), person.motions[k].frame_count)
    except InvalidInputError as error:
        return str(error)
    return ""


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as text: "1-3, 7"."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)


def _by_reason(skipped: Mapping[int, str]) -> dict[str, str]:
    reasons = dict.fromkeys(skipped.values())
    return {why: ranges(n for n, reason in skipped.items() if reason == why) for why in reasons}


def _count(people: Iterable[Participant], split: str) -> int:
    return sum(person.split == split for person in people)
