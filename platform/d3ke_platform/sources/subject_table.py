"""What a user says about the subjects of a folder: subjects.csv or subjects.toml in it.

CSV: a header with `subject` and any of `sex, height_m, mass_kg, split, static`; a line per subject.
TOML: a table per subject, `[s01]`, with the same keys.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3ke.errors import UnknownNameError
from d3ke_platform.errors import UsageError

FILES = ("subjects.csv", "subjects.toml")
SEXES = ("female", "male", "unknown")
SPLITS = ("train", "validation", "test")
_COLUMNS = ("subject", "sex", "height_m", "mass_kg", "split", "static")
_RANGES = {"height_m": (0.4, 2.6, "m"), "mass_kg": (2.0, 350.0, "kg")}


@dataclass(frozen=True, kw_only=True)
class SubjectFacts:
    """One subject; what is not known is "" or NaN."""

    subject: str
    sex: str = "unknown"
    height_m: float = float("nan")
    mass_kg: float = float("nan")
    split: str = ""
    static: str = ""
    """Which trial and frame is the static pose; "" = as the settings say."""


def read_subjects(root: Path, known: Iterable[str]) -> dict[str, SubjectFacts]:
    """Facts of every known subject.

    Raises:
        UsageError: both files are there, or one is damaged, names a subject twice or one that has
            no recordings, or holds an impossible value; each with its line.
        UnknownNameError: a column, sex or split that does not exist.
    """
    names = list(known)
    there = [root / name for name in FILES if (root / name).is_file()]
    if len(there) > 1:
        raise UsageError(f"{root} holds both {' and '.join(FILES)}. Keep one of them.")
    facts: dict[str, SubjectFacts] = {}
    for place, row in _rows(there[0]) if there else ():
        entry = _facts(place, row)
        if entry.subject in facts:
            raise UsageError(_twice(place, facts[entry.subject], entry))
        if entry.subject not in names:
            raise UnknownNameError(f"subject in {place}", entry.subject, names)
        facts[entry.subject] = entry
    return {name: facts.get(name, SubjectFacts(subject=name)) for name in names}


def assign_splits(
    facts: Mapping[str, SubjectFacts], *, validation: int, test: int
) -> dict[str, str]:
    """Subject -> split: what the table says; of the others the last by name are held out.

    Raises UsageError when that leaves none to train.
    """
    splits = {name: entry.split for name, entry in facts.items() if entry.split}
    open_ones = sorted(name for name in facts if name not in splits)
    training = len(open_ones) - validation - test
    if training < 0 or (training == 0 and "train" not in splits.values()):
        raise UsageError(
            f"{validation} subjects for validation and {test} for testing leave none of "
            f"{len(open_ones)} to train. Lower validation_subjects or test_subjects, or give the "
            f"splits in {FILES[0]}."
        )
    names = ["train"] * training + ["validation"] * validation + ["test"] * test
    return splits | dict(zip(open_ones, names, strict=True))


def _twice(place: str, first: SubjectFacts, second: SubjectFacts) -> str:
    text = f"{place}: subject {first.subject!r} is listed twice"
    if first.split != second.split:
        text += f", in the splits {first.split!r} and {second.split!r}"
    return text + ". A subject has one line and one split."


def _rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each row and where it is."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".toml":
            tables = tomllib.loads(text)
            return [
                (f"{path} [{name}]", {**table, "subject": name}) for name, table in tables.items()
            ]
        lines = csv.DictReader(text.splitlines(), skipinitialspace=True)
        return [(f"{path} line {number}", row) for number, row in enumerate(lines, start=2)]
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path} cannot be read as {path.suffix[1:]}: {error}.") from error


def _facts(place: str, row: Mapping[str, Any]) -> SubjectFacts:
    values: dict[str, Any] = {}
    for name, value in row.items():
        if name not in _COLUMNS:
            raise UnknownNameError(f"column in {place}", str(name), _COLUMNS)
        text = str(value if value is not None else "").strip()
        if text:
            values[name] = _number(place, name, text) if name in _RANGES else text
    if "subject" not in values:
        raise UsageError(f"{place} has no subject. Columns: {', '.join(_COLUMNS)}.")
    _check_choice(place, "sex", values, SEXES)
    _check_choice(place, "split", values, SPLITS)
    return SubjectFacts(**values)


def _check_choice(place: str, name: str, values: Mapping[str, Any], valid: Sequence[str]) -> None:
    if name in values and values[name] not in valid:
        raise UnknownNameError(f"{name} in {place}", values[name], valid)


def _number(place: str, name: str, text: str) -> float:
    low, high, unit = _RANGES[name]
    try:
        value = float(text)
    except ValueError as error:
        raise UsageError(f"{place}: {name} is {text!r}, not a number.") from error
    if not low <= value <= high:
        raise UsageError(f"{place}: {name} is {text}, outside {low:g} to {high:g} {unit}.")
    return value
