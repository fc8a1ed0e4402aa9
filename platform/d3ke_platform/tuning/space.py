"""The search space of one network: default ranges, the user's changes, what does not fit."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Any

from d3ke.errors import D3KEError, InvalidInputError, UnknownNameError
from d3ke.losses import LossWeights
from d3ke_platform.errors import UsageError
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.tuning.names import LEARNING_RATE, STRENGTH, assign, current, searchable
from d3ke_platform.tuning.parameters import (
    Choice,
    Parameter,
    Range,
    label,
    read_parameter,
    split_entry,
)
from d3ke_platform.tuning.settings import Stage, TuneSettings

LAMBDAS = ("joint", "marker", "body", "angle")
"""Loss weights lambda_1 to lambda_4 of equation 1."""
_LARGEST_DROPOUT = 0.4
_STRONGEST = 1.5
# Enough to meet every pair of values of the discrete parameters a space usually has.
_CHECKED_COMBINATIONS = 3000


class SearchSpace:
    """Parameters of one network and the settings they are put into."""

    def __init__(
        self, base: TrainSettings, parameters: Sequence[Parameter], *, stage: Stage, workers: int
    ) -> None:
        """`base`: the settings that are not searched; `workers`: training workers of a trial."""
        self.base, self.stage, self._workers = base, stage, workers
        self.parameters = tuple(parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(parameter.name for parameter in self.parameters)

    def settings(self, values: Mapping[str, Any]) -> TrainSettings:
        """The settings with `values`; raises D3KEError where they contradict each other."""
        return assign(self.base, values)

    def conflict(self, values: Mapping[str, Any]) -> str:
        """Why these values cannot be trained; "" if they can."""
        try:
            settings = self.settings(values)
        except D3KEError as error:
            return str(error)
        size = getattr(settings, self.stage).batch_size
        if size < self._workers:
            return (
                f"batch_size: {size} samples for {self._workers} workers of a trial. "
                f"Use at least {self._workers}, or --trial-workers {size}."
            )
        return ""

    def own_values(self) -> dict[str, Any]:
        """The values that the base settings have, also where they lie outside the ranges."""
        return {name: current(self.base, name) for name in self.names}

    def paper_values(self) -> dict[str, Any]:
        """The base settings' values, with the paper's loss weights."""
        paper = LossWeights()
        prefix = f"{self.stage}.loss."
        return self.own_values() | {
            prefix + name: getattr(paper, name) for name in LAMBDAS if prefix + name in self.names
        }

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether all values are within the ranges."""
        return all(parameter.contains(values[parameter.name]) for parameter in self.parameters)

    def require_valid(self) -> None:
        """Raise UsageError if no combination of values can be trained, with the first reason."""
        axes = [parameter.some() for parameter in self.parameters]
        reason = ""
        for values in _combinations(axes):
            conflict = self.conflict(dict(zip(self.names, values, strict=True)))
            if not conflict:
                return
            reason = reason or conflict
        raise UsageError(
            f"No combination of the {self.stage} network's search space can be trained: {reason} "
            "Widen a choice with --space or switch one off (name=off)."
        )

    def text(self) -> dict[str, str]:
        """Ranges by name, as a user writes them."""
        return {parameter.name: parameter.text() for parameter in self.parameters}


def make_space(settings: TuneSettings, stage: Stage) -> SearchSpace:
    """The space of one network; raises UsageError if none of it can be trained."""
    space = SearchSpace(
        settings.training(),
        parameters_of(settings, stage),
        stage=stage,
        workers=settings.trial_workers,
    )
    space.require_valid()
    return space


def parameters_of(settings: TuneSettings, stage: Stage) -> tuple[Parameter, ...]:
    """The default parameters of a network with the user's changes.

    Raises:
        UnknownNameError: a name that cannot be searched.
        InvalidInputError: an entry that cannot be read, or nothing is left to search.
    """
    valid = searchable(settings, stage)
    known = {name for other in settings.stages for name in searchable(settings, other)}
    found = {p.name: p for p in default_parameters(settings, stage)}
    if not settings.default_space:
        found = {}
    for entry in settings.space:
        name, text = split_entry(entry)
        if name not in known:
            raise UnknownNameError("parameter of the search space", name, sorted(known))
        if name not in valid:
            continue  # belongs to the other network, which is searched too
        if text == "off":
            found.pop(name, None)
        else:
            found[name] = read_parameter(name, text, valid[name])
    if not found:
        raise InvalidInputError(
            f"search space of the {stage} network", "empty", "Name parameters with --space."
        )
    return tuple(found.values())


def default_parameters(settings: TrainSettings, stage: Stage) -> list[Parameter]:
    """Ranges around the settings' own values: a small recipe is searched among small networks."""
    parameters: list[Parameter] = [_around(settings, stage, name) for name in LAMBDAS]
    rate = current(settings, f"{stage}.{LEARNING_RATE}")
    parameters.append(
        Range(
            name=f"{stage}.{LEARNING_RATE}", low=_round(rate / 5), high=_round(rate * 5), log=True
        )
    )
    if stage == "frame":
        parameters.append(Range(name=f"frame.{STRENGTH}", low=0.0, high=_STRONGEST))
        return parameters
    return parameters + _sequence_sizes(settings)


def _sequence_sizes(settings: TrainSettings) -> list[Parameter]:
    sequence, width = settings.sequence, current(settings, "sequence.width")
    odd = {_odd(sequence.window / 3), sequence.window, _odd(sequence.window * 3)}
    parameters: list[Parameter] = [
        Choice(name="sequence.window", values=tuple(sorted(odd))),
        Choice(
            name="sequence.width",
            values=tuple(sorted({max(2, width // 2), width, width * 2})),
        ),
        Range(name="sequence.dropout", low=0.0, high=_LARGEST_DROPOUT),
    ]
    if sequence.kind != "tcn":
        low = max(1, sequence.layers - 1)
        parameters.append(
            Range(name="sequence.layers", low=low, high=sequence.layers + 1, integer=True)
        )
    if sequence.kind == "transformer":
        heads = {max(1, sequence.heads // 2), sequence.heads, sequence.heads * 2}
        parameters.append(Choice(name="sequence.heads", values=tuple(sorted(heads))))
    return parameters


def _around(settings: TrainSettings, stage: Stage, name: str) -> Range:
    """A loss weight from a tenth to ten times its value (the paper's where it is 0)."""
    value = getattr(getattr(settings, stage).loss, name) or getattr(LossWeights(), name)
    return Range(
        name=f"{stage}.loss.{name}", low=_round(value / 10), high=_round(value * 10), log=True
    )


def _odd(frames: float) -> int:
    return max(3, int(frames) // 2 * 2 + 1)


def _round(value: float) -> float:
    """Two significant digits: a range is read by people."""
    return float(f"{value:.2g}")


def _combinations(axes: list[list[Any]]) -> list[tuple[Any, ...]]:
    """All combinations, or a random part of them if they are very many."""
    count = 1
    for axis in axes:
        count *= len(axis)
    if count <= _CHECKED_COMBINATIONS:
        return list(itertools.product(*axes))
    chance = random.Random(0)  # nosec B311
    return [tuple(chance.choice(axis) for axis in axes) for _ in range(_CHECKED_COMBINATIONS)]


def describe(values: Mapping[str, Any]) -> str:
    """Values on one line."""
    return ", ".join(f"{name.partition('.')[2]} {label(value)}" for name, value in values.items())
