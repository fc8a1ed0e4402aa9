"""Errors of the method: each names the thing, the value, the valid choices and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class D3KEError(Exception):
    """Base of every error a user can cause or meet; the message is one readable sentence.

    Subclasses take structured arguments and build the sentence from them. `__reduce__` sends
    those arguments, not the sentence, across process boundaries: without it Ray delivers an
    error that the caller's `except` no longer matches.
    """

    def __init__(self, message: str, *arguments: Any) -> None:
        super().__init__(message)
        self._arguments = arguments

    def __reduce__(self) -> tuple[type[D3KEError], tuple[Any, ...]]:
        return type(self), self._arguments or self.args


class UnknownNameError(D3KEError):
    """A name that is not one of the valid ones."""

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        names = list(valid)
        close = get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(
            f"Unknown {kind} {name!r}.{hint} Valid: {', '.join(names)}.", kind, name, names
        )


class InvalidInputError(D3KEError):
    """Input data that cannot be used: a file, an array or a setting, with the reason."""

    def __init__(self, what: str, reason: str, remedy: str = "") -> None:
        text = f"{what}: {reason}." + (f" {remedy}" if remedy else "")
        super().__init__(text, what, reason, remedy)


class UnsupportedModelError(D3KEError):
    """A part of an OpenSim model that cannot be represented exactly."""

    def __init__(self, part: str, kind: str, supported: Iterable[str], remedy: str = "") -> None:
        names = list(supported)
        text = f"{part} is a {kind}, which cannot be represented exactly. Supported: " + ", ".join(
            names
        )
        super().__init__(text + "." + (f" {remedy}" if remedy else ""), part, kind, names, remedy)


class KinematicsError(D3KEError):
    """OpenSim could not scale a subject or solve a trial."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}.", what, reason)
