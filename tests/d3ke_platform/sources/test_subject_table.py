"""subjects.csv and subjects.toml: facts, splits, and mistakes named with their place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from d3ke.errors import UnknownNameError
from d3ke_platform.errors import UsageError
from d3ke_platform.sources.subject_table import SubjectFacts, assign_splits, read_subjects

KNOWN = ("s1", "s2", "s3")


def facts(**splits: str) -> dict[str, SubjectFacts]:
    return {name: SubjectFacts(subject=name, split=split) for name, split in splits.items()}


def test_both_formats_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/subjects.csv").write_text(
        "\ufeffsubject, sex, height_m, mass_kg, split, static\ns2, female, 1.68, , test, walk:12\n"
    )
    (tmp_path / "b/subjects.toml").write_text(
        '[s2]\nsex = "female"\nheight_m = 1.68\nsplit = "test"\nstatic = "walk:12"\n'
    )
    for folder in ("a", "b"):
        table = read_subjects(tmp_path / folder, KNOWN)
        assert list(table) == list(KNOWN)
        entry = table["s2"]
        assert (entry.sex, entry.height_m, entry.split) == ("female", 1.68, "test")
        assert entry.static == "walk:12"
        assert math.isnan(entry.mass_kg)
        assert table["s1"].sex == "unknown"


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    assert read_subjects(tmp_path, KNOWN)["s3"].split == ""


@pytest.mark.parametrize(
    ("lines", "error", "reason"),
    [
        (
            "s1,train\ns1,test",
            UsageError,
            r"line 3.*'s1' is listed twice, in the splits 'train' and",
        ),
        ("s1,train\ns1,train", UsageError, r"line 3.*listed twice\. A subject"),
        ("s9,train", UnknownNameError, r"subject in .*line 2 's9'.*Valid: s1, s2"),
        ("s1,trian", UnknownNameError, "Did you mean 'train'"),
        (",train", UsageError, "line 2 has no subject"),
    ],
)
def test_mistakes_in_the_splits(
    tmp_path: Path, lines: str, error: type[Exception], reason: str
) -> None:
    (tmp_path / "subjects.csv").write_text(f"subject,split\n{lines}\n")
    with pytest.raises(error, match=reason):
        read_subjects(tmp_path, KNOWN)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("s1,172,70", "height_m is 172, outside 0.4 to 2.6 m"),
        ("s1,1.72,tall", "mass_kg is 'tall', not a number"),
    ],
)
def test_impossible_values(tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "subjects.csv").write_text(f"subject,height_m,mass_kg\n{line}\n")
    with pytest.raises(UsageError, match=reason):
        read_subjects(tmp_path, KNOWN)


def test_unknown_columns_and_two_files(tmp_path: Path) -> None:
    (tmp_path / "subjects.csv").write_text("subject,heigth_m\ns1,1.7\n")
    with pytest.raises(UnknownNameError, match="Did you mean 'height_m'"):
        read_subjects(tmp_path, KNOWN)
    (tmp_path / "subjects.toml").write_text("[s1]\n")
    with pytest.raises(UsageError, match="both subjects.csv and subjects.toml"):
        read_subjects(tmp_path, KNOWN)


def test_broken_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "subjects.toml").write_text("[s1]\n[s1]\n")
    with pytest.raises(UsageError, match="cannot be read as toml"):
        read_subjects(tmp_path, KNOWN)


def test_the_last_subjects_without_a_split_are_held_out() -> None:
    table = facts(s1="", s2="test", s3="", s4="", s5="")
    assert assign_splits(table, validation=1, test=1) == {
        "s1": "train",
        "s2": "test",
        "s3": "train",
        "s4": "validation",
        "s5": "test",
    }
    assert assign_splits(facts(s1="train", s2=""), validation=0, test=1)["s2"] == "test"
    with pytest.raises(UsageError, match="leave none of 2 to train"):
        assign_splits(facts(s1="", s2=""), validation=1, test=1)
