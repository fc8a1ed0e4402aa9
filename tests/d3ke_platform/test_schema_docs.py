from __future__ import annotations

from pathlib import Path

from d3ke_platform.schema import TABLES
from d3ke_platform.schema_docs import data_formats

PAGE = Path(__file__).parents[2] / "docs" / "data-formats.md"


def test_page_is_current():
    assert PAGE.read_text(encoding="utf-8") == data_formats(), (
        "run: python -m d3ke_platform.schema_docs docs/data-formats.md"
    )


def test_page_names_every_table_and_column():
    page = data_formats()
    for table in TABLES.values():
        section = page.split(f"## {table.name}\n")[1].split("\n## ")[0]
        for column in table.columns:
            assert f"| `{column.name}` |" in section
