"""Parameters of a search: ranges and choices, and how a user writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from d3ke.errors import InvalidInputError, UnknownNameError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_FORMS = "name=low..high, name=low..high:log, name=choice,choice or name=off"
_TRUE_FALSE = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Range:
    """A number between two bounds, both included."""

    name: str
    low: float
    high: float
    log: bool = False
    """Search its logarithm."""
    integer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InvalidInputError(self.name, f"{self.low:g}..{self.high:g} is no rising range")
        if self.log and self.low <= 0:
            raise InvalidInputError(
                self.name, f"{self.low:g}..{self.high:g} has no logarithm", "Start above 0."
            )

    def distribution(self) -> BaseDistribution:
        """The range as Optuna knows it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    def encode(self, value: Any) -> Any:
        """Value for Optuna."""
        return int(value) if self.integer else float(value)

    def decode(self, value: Any) -> Any:
        """Value from Optuna: three digits, which people can read and networks cannot tell."""
        return int(value) if self.integer else min(self.high, max(self.low, float(f"{value:.3g}")))

    def contains(self, value: Any) -> bool:
        """Whether the value may be proposed."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def some(self) -> list[Any]:
        """Values that stand for all when combinations are checked."""
        if self.integer:
            count = int(self.high - self.low) + 1
            return [int(self.low) + i for i in range(0, count, max(1, count // 16))]
        return [self.low, self.high]

    def text(self) -> str:
        """As a user writes it, without the name."""
        return f"{self.low:g}..{self.high:g}" + (":log" if self.log else "")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of a few values."""

    name: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) != len(self.values):
            raise InvalidInputError(self.name, f"choices {self.text()!r} are empty or repeated")

    def distribution(self) -> BaseDistribution:
        """The choices as Optuna knows them: by their text, because it takes no tuples."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution([label(value) for value in self.values])

    def encode(self, value: Any) -> Any:
        """Value for Optuna."""
        return label(value)

    def decode(self, value: Any) -> Any:
        """Value from Optuna."""
        return next(choice for choice in self.values if label(choice) == value)

    def contains(self, value: Any) -> bool:
        """Whether the value may be proposed."""
        return value in self.values

    def some(self) -> list[Any]:
        """Values that stand for all when combinations are checked."""
        return list(self.values)

    def text(self) -> str:
        """As a user writes it, without the name."""
        return ",".join(label(value) for value in self.values)


Parameter = Range | Choice


def label(value: Any) -> str:
    """A value as text: tuples with spaces, True and False in lower case."""
    if isinstance(value, tuple | list):
        return " ".join(map(label, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def split_entry(entry: str) -> tuple[str, str]:
    """Name and range of an entry; raises InvalidInputError for what has neither."""
    name, equals, text = (part.strip() for part in entry.partition("="))
    if not (name and equals and text):
        raise InvalidInputError(f"space entry {entry!r}", "cannot be read", f"Write {_FORMS}.")
    return name, text


def read_parameter(name: str, text: str, hint: Any) -> Parameter:
    """The parameter that `text` describes, for a setting of type `hint`.

    Raises:
        InvalidInputError: a range of something that is no number, values of another type.
        UnknownNameError: a choice that the setting does not know.
    """
    if ".." not in text:
        choices = tuple(read_value(name, part.strip(), hint) for part in text.split(","))
        return Choice(name=name, values=choices)
    kind = _kind(hint)
    if kind not in (int, float):
        raise InvalidInputError(name, f"{text!r} is a range, the setting is no number", _FORMS)
    bounds, colon, scale = text.partition(":")
    if colon and scale != "log":
        raise InvalidInputError(name, f"{text!r} cannot be read", f"Write {_FORMS}.")
    low, high = (read_value(name, part.strip(), kind) for part in bounds.split("..", 1))
    return Range(name=name, low=low, high=high, log=bool(colon), integer=kind is int)


def read_value(name: str, text: str, hint: Any) -> Any:
    """`text` as a value of type `hint`; the items of a tuple are separated by spaces."""
    kind = _kind(hint)
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise UnknownNameError(name, text, get_args(kind))
        return text
    if get_origin(kind) is tuple:
        return tuple(read_value(name, part, get_args(kind)[0]) for part in text.split())
    if kind is bool:
        if text.lower() not in _TRUE_FALSE:
            raise UnknownNameError(name, text, tuple(_TRUE_FALSE))
        return _TRUE_FALSE[text.lower()]
    try:
        return kind(text)
    except ValueError as error:
        raise InvalidInputError(name, f"{text!r} is not of type {kind.__name__}") from error


def _kind(hint: Any) -> Any:
    """The type without its None."""
    if get_origin(hint) in (Union, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint
