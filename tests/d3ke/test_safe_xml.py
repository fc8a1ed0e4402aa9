"""XML of strangers: nothing is expanded, nothing is fetched, and what is meant is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from d3ke.errors import InvalidInputError
from d3ke.kinematics.setup_xml import read_xml
from d3ke.safe_xml import ParseError, first_tag, parse_xml

LAUGHS = (
    '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>'
)


def fetching(file: Path) -> str:
    return f'<!DOCTYPE a [<!ENTITY a SYSTEM "file://{file}">]><a>&a;</a>'


def test_elements_attributes_and_encodings_are_read(tmp_path: Path) -> None:
    file = tmp_path / "setup.xml"
    file.write_bytes(
        '<?xml version="1.0" encoding="UTF-16"?><a b="1"><c>é</c></a>'.encode("utf-16")
    )
    root = parse_xml(file)
    assert (root.tag, root.get("b"), root.findtext("c")) == ("a", "1", "é")
    assert parse_xml("<a/>").tag == "a"


@pytest.mark.parametrize("kind", ["growing", "fetching", "empty"])
def test_a_document_type_is_refused(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    text = {"growing": LAUGHS, "fetching": fetching(secret), "empty": "<!DOCTYPE a><a/>"}[kind]
    file = tmp_path / "setup.xml"
    file.write_text(text)
    for read in (parse_xml, lambda path: first_tag(path, beneath="OpenSimDocument")):
        with pytest.raises(ParseError, match="document type"):
            read(file)
    with pytest.raises(InvalidInputError, match="document type"):
        read_xml(file)


def test_the_first_tag_is_found_without_what_follows(tmp_path: Path) -> None:
    file = tmp_path / "setup.xml"
    file.write_text('<OpenSimDocument Version="1"><ScaleTool name="x"><broken')
    assert first_tag(file, beneath="OpenSimDocument") == "ScaleTool"
    file.write_text("<OpenSimDocument/>")
    assert first_tag(file, beneath="OpenSimDocument") == ""
