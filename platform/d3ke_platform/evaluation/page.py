"""What the platform's HTML pages share: the template they extend and its filters.

A page is one file: pictures and style are inside, nothing is fetched. Templates extend
`page.html.j2`, which holds the style, a macro for figures and a little script (tables of class
`sortable` sort when their head is clicked, folded parts open for printing).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jinja2

_TEMPLATES = Path(__file__).parent / "templates"


def environment(*folders: Path) -> jinja2.Environment:
    """Templates of `folders` and of this package, with the filters they use.

    Everything is escaped; a name that is not given is an error.
    """
    loader = jinja2.FileSystemLoader([*folders, _TEMPLATES])
    made = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    made.filters["number"] = cell
    return made


def cell(value: Any, digits: int = 2) -> str:
    """A number of a table with fixed digits; a dash where there is none."""
    if value is None or isinstance(value, jinja2.Undefined):
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}f}" if math.isfinite(value) else "–"
    return str(value)
