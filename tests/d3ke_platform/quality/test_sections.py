"""Sections that sources add to the page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.quality.sections import read_sections


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    return DataSet.create(tmp_path / "data", source="test", settings={})


def png(width: int, height: int = 40) -> bytes:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def add(data: DataSet, name: str, content: Any) -> None:
    storage.write_json(data.uri("quality", f"{name}.json"), content)


def test_a_section_with_a_table_and_a_picture(data) -> None:
    storage.write_bytes(data.uri("quality", "view.png"), png(60))
    add(
        data,
        "b_triangulation",
        {
            "title": "Triangulation",
            "text": "Two views.",
            "table": {"columns": ["view", "error [px]"], "rows": [["a", 6.789], ["b", None]]},
            "pictures": [{"file": "view.png", "title": "View", "caption": "Frame 3."}],
        },
    )
    add(data, "a_first", {"title": "First"})
    first, section = read_sections(data)
    assert (first.title, first.problem, first.columns) == ("First", "", ())
    assert (section.title, section.text, section.problem) == ("Triangulation", "Two views.", "")
    assert section.rows == (("a", "6.79"), ("b", "–"))
    (shown,) = section.pictures
    assert (shown.title, shown.caption) == ("View", "Frame 3.")
    assert base64.b64decode(shown.data_uri.split(",")[1]) == png(60)


def test_a_large_picture_is_made_smaller(data) -> None:
    storage.write_bytes(data.uri("quality", "wide.png"), png(2800, 100))
    add(data, "wide", {"title": "Wide", "pictures": [{"file": "wide.png"}]})
    (shown,) = read_sections(data)[0].pictures
    assert shown.data_uri.startswith("data:image/jpeg")
    content = base64.b64decode(shown.data_uri.split(",")[1])
    assert cv2.imdecode(np.frombuffer(content, np.uint8), 1).shape == (50, 1400, 3)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (["no", "object"], "not a JSON object with a title"),
        ({"text": "no title"}, "not a JSON object with a title"),
        ({"title": "T", "rows": []}, "unknown rows"),
        ({"title": "T", "table": {"rows": []}}, "no list of columns"),
        ({"title": "T", "table": [1, 2]}, "no list of columns"),
        ({"title": "T", "table": {"columns": ["a"], "rows": [[1, 2]]}}, "row 0 of its table"),
        ({"title": "T", "pictures": [{"file": "../x.png"}]}, "below quality/"),
        ({"title": "T", "pictures": [{"file": "x.svg"}]}, "below quality/"),
        ({"title": "T", "pictures": [{"file": "none.png"}]}, "cannot be read"),
        ({"title": "T", "pictures": [{"file": "text.png"}]}, "not a png picture"),
        ({"title": "T", "pictures": ["x.png"]}, "not an object with a file"),
        ({"title": "T", "pictures": 3}, "no list of pictures"),
    ],
)
def test_a_wrong_file_is_told_in_its_place(data, content: Any, problem: str) -> None:
    storage.write_bytes(data.uri("quality", "text.png"), b"text")
    add(data, "good", {"title": "Good"})
    add(data, "wrong", content)
    good, wrong = read_sections(data)
    assert (good.title, good.problem) == ("Good", "")
    assert problem in wrong.problem
    assert "wrong.json" in wrong.problem or ".png" in wrong.problem


def test_a_file_that_is_no_json_is_told(data) -> None:
    storage.write_bytes(data.uri("quality", "cut.json"), b'{"title": "T')
    assert "is not JSON" in read_sections(data)[0].problem
