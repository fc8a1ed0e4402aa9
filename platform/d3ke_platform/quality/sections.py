"""Further sections of the page that a source adds without knowing the page.

A source (or anything else that works on a data set) writes `quality/<name>.json` into the data
set, with its pictures beside it:

    {
      "title": "Triangulation",
      "text": "One or two sentences: what is shown, from how much data.",
      "table": {
        "columns": ["view", "reprojection error [px]", "frames"],
        "rows": [["cam01", 6.8, 400], ["cam02", 7.4, 400]]
      },
      "pictures": [
        {"file": "overlay_cam01.png", "title": "cam01", "caption": "Frame 120, worst of the trial."}
      ]
    }

Only the title is required. Units belong into the column names; numbers are shown with three
significant digits, null as a dash. A picture is a .png, .jpg or .jpeg file below `quality/`; large
ones are embedded smaller. Sections come in the order of the file names. Files must be written
atomically (`storage.write_json`, `storage.write_bytes`) and the same on every run. A file that
breaks these rules does not stop the page: its section says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np

from d3ke.arrays import ImageArray
from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.evaluation.gates import number
from d3ke_platform.evaluation.plotting import Picture, data_uri, jpeg_of
from d3ke_platform.quality.reject_groups import relative

FOLDER = "quality"
_KINDS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
_WIDEST = 1400
"""px: what a page of 1000 px shows sharply, on paper too."""
_LARGEST = 400_000
"""bytes of a picture that is embedded as it is."""
_KEYS = {"title", "text", "table", "pictures"}


@dataclass(frozen=True, kw_only=True)
class Section:
    """A section as the page shows it."""

    name: str
    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    pictures: tuple[Picture, ...] = ()
    problem: str = ""
    """What is wrong with its file; empty: nothing."""


def read_sections(data: DataSet) -> list[Section]:
    """All sections of a data set, by file name."""
    return [_read(data, uri) for uri in storage.list_files(data.uri(FOLDER), ".json")]


def _read(data: DataSet, uri: str) -> Section:
    name = PurePosixPath(uri).stem
    try:
        content = storage.read_json(uri)
        columns, rows = _table(uri, content)
        return Section(
            name=name,
            title=str(content["title"]),
            text=str(content.get("text", "")),
            columns=columns,
            rows=rows,
            pictures=tuple(_picture(data, uri, item) for item in _pictures(uri, content)),
        )
    except InvalidInputError as error:
        return Section(name=name, title=name, problem=relative(str(error), data.root))


def _table(uri: str, content: Any) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Column names and cells as text; checks the file on the way."""
    if not isinstance(content, Mapping) or "title" not in content:
        raise InvalidInputError(uri, "is not a JSON object with a title")
    unknown = sorted(content.keys() - _KEYS)
    if unknown:
        reason = f"has unknown {', '.join(unknown)}; there are {', '.join(sorted(_KEYS))}"
        raise InvalidInputError(uri, reason)
    table = content.get("table")
    if table is None:
        return (), ()
    try:
        columns = tuple(map(str, table["columns"]))
        rows = tuple(tuple(_cell(value) for value in row) for row in table["rows"])
    except (KeyError, TypeError) as error:
        raise InvalidInputError(uri, "its table has no list of columns and of rows") from error
    for place, row in enumerate(rows):
        if len(row) != len(columns):
            reason = f"row {place} of its table has {len(row)} cells for {len(columns)} columns"
            raise InvalidInputError(uri, reason)
    return columns, rows


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return number(value) if np.isfinite(value) else "–"
    return str(value)


def _pictures(uri: str, content: Mapping[str, Any]) -> list[Any]:
    pictures = content.get("pictures") or []
    if not isinstance(pictures, list):
        raise InvalidInputError(uri, "has no list of pictures")
    return pictures


def _picture(data: DataSet, uri: str, item: Any) -> Picture:
    if not isinstance(item, Mapping) or "file" not in item:
        raise InvalidInputError(uri, "a picture is not an object with a file")
    file = PurePosixPath(str(item["file"]))
    if file.is_absolute() or ".." in file.parts or file.suffix.lower() not in _KINDS:
        reason = f"picture {file} is no {', '.join(_KINDS)} file below {FOLDER}/"
        raise InvalidInputError(uri, reason)
    place = data.uri(FOLDER, str(file))
    return Picture(
        title=str(item.get("title", file.stem)),
        caption=str(item.get("caption", "")),
        data_uri=_embedded(place, storage.read_bytes(place), _KINDS[file.suffix.lower()]),
    )


def _embedded(place: str, content: bytes, kind: str) -> str:
    """The picture as a data URI, made smaller where it is large."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        raise InvalidInputError(place, f"is not a {kind} picture")
    height, width = image.shape[:2]
    if width <= _WIDEST and len(content) <= _LARGEST:
        return data_uri(content, kind)
    factor = min(1.0, _WIDEST / width)
    size = (round(width * factor), max(1, round(height * factor)))
    small: ImageArray = cv2.cvtColor(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB
    )
    return data_uri(jpeg_of(small), "jpeg")
