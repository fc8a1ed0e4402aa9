"""Reading XML of strangers: no document types, so no entities that grow or fetch files.

The only place that parses XML; bandit is told so (`nosec`), as it knows but one package's parsers.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

__all__ = ["Element", "ParseError", "first_tag", "parse_xml"]


def parse_xml(source: Path | str) -> Element:
    """The root element of a file (a Path) or of a text.

    Raises:
        OSError: the file cannot be read.
        ParseError: it is not well-formed, or has a document type: entities are declared there, and
            no file of OpenSim, Qualisys or this project has one.
    """
    parser = XMLParser(target=_WithoutDoctype())  # nosec B314
    parser.feed(source.read_bytes() if isinstance(source, Path) else source)
    return parser.close()


def first_tag(path: Path, beneath: str) -> str:
    """Tag of a file's first element that is not called `beneath`; "" without one.

    What comes after it is not looked at. Raises OSError and ParseError as `parse_xml` does.
    """
    target = _FirstTag(beneath)
    parser = XMLParser(target=target)  # nosec B314
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 14):
                parser.feed(block)
        parser.close()
    except _FoundError:
        pass
    return target.tag


class _WithoutDoctype(TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ParseError(f"it has a document type ({name}), which may declare entities")


class _FoundError(Exception):
    """The tag is there: no more of the file is needed."""


class _FirstTag(_WithoutDoctype):
    def __init__(self, beneath: str) -> None:
        super().__init__()
        self._beneath = beneath
        self.tag = ""

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        if tag != self._beneath:
            self.tag = tag
            raise _FoundError
        return super().start(tag, attrs)
