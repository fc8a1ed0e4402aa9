"""Reading the setup files of OpenSim's tools, of any document version, without OpenSim."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from d3ke.errors import InvalidInputError
from d3ke.safe_xml import Element, ParseError, parse_xml

UNSET = ("", "unassigned")
"""What stands in a setup, in any case, where no file is meant."""

Parsed = TypeVar("Parsed")


def read_xml(path: Path) -> Element:
    """The root element. Raises InvalidInputError: cannot be read, is not XML."""
    try:
        return parse_xml(path)
    except OSError as error:
        raise InvalidInputError(str(path), error.strerror or "cannot be read") from error
    except ParseError as error:
        raise InvalidInputError(str(path), f"is not XML ({error})") from error


def content_of(root: Element) -> Element:
    """The object that a document holds: OpenSim wraps it in <OpenSimDocument>."""
    return root if root.tag != "OpenSimDocument" else next(iter(root), root)


def objects_of(parent: Element | None, kind: str) -> list[Element]:
    """The members of a kind in a set (<objects> of an OpenSim set)."""
    if parent is None:
        return []
    return [e for objects in parent.findall("objects") for e in objects.findall(kind)]


def named_file(path: Path, parent: Element | None, tag: str) -> Path | None:
    """The file that an element names, relative to the setup's folder; None = unset."""
    name = "" if parent is None else (parent.findtext(tag) or "").strip()
    # Setups made on Windows separate folders by backslashes.
    return None if name.lower() in UNSET else path.parent / name.replace("\\", "/")


def parsed(
    path: Path, parent: Element | None, tag: str, parse: Callable[[str], Parsed], default: Parsed
) -> Parsed:
    """An element's value; the default where it is absent or empty. Raises InvalidInputError."""
    text = "" if parent is None else (parent.findtext(tag) or "").strip()
    if parent is None or not text:
        return default
    try:
        return parse(text)
    except (ValueError, KeyError) as error:
        owner = parent.get("name") or parent.tag
        reason = f"<{tag}> of {owner!r} is {text!r}, which cannot be understood"
        raise InvalidInputError(str(path), reason) from error


def flag(text: str) -> bool:
    """OpenSim's true and false."""
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


def numbers(count: int) -> Callable[[str], tuple[float, ...]]:
    """A parser of exactly `count` numbers, none NaN."""

    def parse(text: str) -> tuple[float, ...]:
        values = tuple(float(word) for word in text.split())
        if len(values) != count or np.isnan(values).any():
            raise ValueError
        return values

    return parse


def number(text: str) -> float:
    """A parser of one number that is not NaN."""
    return numbers(1)(text)[0]


def pair(text: str) -> tuple[float, float]:
    """A parser of two numbers: a time range."""
    first, last = numbers(2)(text)
    return first, last
