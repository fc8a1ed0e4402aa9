"""Who the subjects of OpenSim users' folders are: table of people, splits."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.sources.opensim_settings import SPLITS, OpenSimSettings
from d3ke_platform.sources.opensim_subject import safe_name

COLUMNS = ("subject", "split", "sex", "height_m", "mass_kg")
_SEXES = ("female", "male", "unknown")

People = Mapping[str, Mapping[str, str]]


def read_people(path: Path, subjects: Sequence[str]) -> dict[str, dict[str, str]]:
    """Subject -> its filled cells of the table; {} without a file.

    Raises:
        InvalidInputError: not a table with the column `subject`, a subject in two splits or two
            rows that differ, a number that is none.
        UnknownNameError: a column, subject, split or sex that does not exist.
    """
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = [(name or "").strip() for name in reader.fieldnames or ()]
            rows = [
                dict(zip(columns, ((v or "").strip() for v in row.values()), strict=False))
                for row in reader
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(str(path), f"is not a table ({error})") from error
    if "subject" not in columns:
        raise InvalidInputError(str(path), f"has the columns {columns}, none of them 'subject'")
    for name in columns:
        if name not in COLUMNS:
            raise UnknownNameError(f"column of {path.name}", name, COLUMNS)
    people: dict[str, dict[str, str]] = {}
    for row in rows:
        _add(people, row, path, subjects)
    return people


def _add(
    people: dict[str, dict[str, str]], row: dict[str, str], path: Path, subjects: Sequence[str]
) -> None:
    name = safe_name(row["subject"])
    if name not in subjects:
        raise UnknownNameError(f"subject in {path.name}", row["subject"], subjects)
    filled = {key: value for key, value in row.items() if value and key != "subject"}
    for key, valid in (("split", SPLITS), ("sex", _SEXES)):
        if key in filled and filled[key] not in valid:
            raise UnknownNameError(f"{key} of {name} in {path.name}", filled[key], valid)
    for key in ("height_m", "mass_kg"):
        if key in filled:
            _positive(filled[key], f"{key} of {name} in {path.name}")
    for key, value in people.get(name, {}).items():
        if filled.get(key, value) != value:
            what = "in two splits" if key == "split" else f"with two values of {key}"
            reason = f"lists subject {name} {what}: {value} and {filled[key]}"
            raise InvalidInputError(str(path), reason, "A subject has one row.")
    people.setdefault(name, {}).update(filled)


def _positive(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise InvalidInputError(what, f"{text!r} is not a number") from error
    if not 0.0 < value < 1000.0:
        raise InvalidInputError(what, f"is {text}")
    return value


def splits_of(subjects: Sequence[str], people: People, settings: OpenSimSettings) -> dict[str, str]:
    """Subject -> split: by the table, else by the settings, else the last of three or more.

    Raises:
        UnknownNameError: a subject named in the settings that does not exist.
        InvalidInputError: table and settings put a subject into different splits, or nobody is
            left to train.
    """
    stated = {
        **dict.fromkeys(settings.validation_subjects, "validation"),
        **dict.fromkeys(settings.test_subjects, "test"),
    }
    for name in stated:
        if name not in subjects:
            raise UnknownNameError("subject of a split", name, subjects)
    found: dict[str, str] = {}
    for name in subjects:
        by_table = people.get(name, {}).get("split", "")
        by_setting = stated.get(name, "")
        if by_table and by_setting and by_table != by_setting:
            reason = f"{name} in two splits: {by_table} by the table, {by_setting} by the settings"
            raise InvalidInputError("opensim splits", reason, "A subject belongs to one split.")
        found[name] = by_table or by_setting
    if not any(found.values()) and len(subjects) >= 3:
        found |= {subjects[-2]: "validation", subjects[-1]: "test"}
    result = {name: split or "train" for name, split in found.items()}
    if "train" not in result.values():
        raise InvalidInputError("opensim splits", f"leave none of {len(result)} subjects to train")
    return result
