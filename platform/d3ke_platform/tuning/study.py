"""Which setting to try next: Optuna's TPE over what the ledger knows."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from d3ke_platform.storage import plain
from d3ke_platform.training.progress import Row
from d3ke_platform.tuning.ledger import TrialRecord, curve
from d3ke_platform.tuning.space import SearchSpace

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

_PROPOSALS, _DRAWS = 100, 5000
"""Proposals of TPE, then random draws, before a space counts as used up."""


class Proposals:
    """Proposes settings that can be trained and were not tried before.

    The study lives in memory and is made from the ledger's records, so that there is one truth
    on disk and a search that was killed knows what the one before it knew.
    """

    def __init__(self, space: SearchSpace, *, seed: int, trials: int) -> None:
        """`trials`: how many there will be; a quarter of them is drawn at random first."""
        self._space, self._seed, self._startup = space, seed, max(4, trials // 4)
        self._study = new_study(self._sampler(0))
        self._running: dict[int, Any] = {}
        self._tried: set[str] = set()

    def add(self, record: TrialRecord, rows: list[Row], metric: str) -> None:
        """Take in a trial of an earlier start, or one that was not proposed here."""
        self._tried.add(_key(record.parameters))
        # A recipe's own value may lie outside the ranges; Optuna has no place for it.
        if not self._space.contains(record.parameters):
            return
        params = encoded(self._space, record.parameters)
        if record.ended:
            trial = frozen_trial(self._space, record, rows, metric)
            self._study.add_trial(trial)
        else:
            self._study.enqueue_trial(params)
            self._running[record.number] = self._study.ask(distributions(self._space))

    def propose(self, number: int) -> dict[str, Any] | None:
        """Values for trial `number`; None when all there are were tried."""
        from optuna.trial import TrialState

        # A generator of its own per trial: after a restart no draw is repeated.
        self._study.sampler = self._sampler(number)
        for _ in range(_PROPOSALS):
            trial = self._study.ask(distributions(self._space))
            values = self._decoded(trial.params)
            if self._is_new(values):
                self._running[number] = trial
                self._tried.add(_key(values))
                return values
            self._study.tell(trial, state=TrialState.FAIL)
        return self._draw(number)

    def end(self, record: TrialRecord, rows: list[Row], metric: str) -> None:
        """Learn from a trial that is over."""
        from optuna.trial import TrialState

        trial = self._running.pop(record.number, None)
        if trial is None:
            return
        for epoch, error in curve(rows, metric).items():
            trial.report(error, epoch)
        if record.state == "finished":
            self._study.tell(trial, record.value)
        elif record.state == "stopped":
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def _sampler(self, number: int) -> BaseSampler:
        from optuna.samplers import TPESampler

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "experimental": parameters that act together
            return TPESampler(
                seed=self._seed * 1009 + number,
                n_startup_trials=self._startup,
                multivariate=True,
                constant_liar=True,  # trials run side by side: do not propose the same twice
            )

    def _decoded(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {p.name: p.decode(params[p.name]) for p in self._space.parameters}

    def _is_new(self, values: Mapping[str, Any]) -> bool:
        return _key(values) not in self._tried and not self._space.conflict(values)

    def _draw(self, number: int) -> dict[str, Any] | None:
        """A random setting, for spaces where next to nothing fits or is left."""
        chance = random.Random(self._seed * 1009 + number)  # nosec B311
        for _ in range(_DRAWS):
            params = {p.name: _random(p.distribution(), chance) for p in self._space.parameters}
            values = self._decoded(params)
            if self._is_new(values):
                self._study.enqueue_trial(params)
                self._running[number] = self._study.ask(distributions(self._space))
                self._tried.add(_key(values))
                return values
        return None


def new_study(sampler: BaseSampler | None = None) -> Study:
    """A study in memory that lowers its value and keeps quiet."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="minimize", sampler=sampler)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space as Optuna knows it."""
    return {p.name: p.distribution() for p in space.parameters}


def encoded(space: SearchSpace, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Optuna knows them."""
    return {p.name: p.encode(values[p.name]) for p in space.parameters}


def frozen_trial(space: SearchSpace, record: TrialRecord, rows: list[Row], metric: str) -> Any:
    """A trial that is over, for a study."""
    from optuna.trial import TrialState, create_trial

    states = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED}
    return create_trial(
        state=states.get(record.state, TrialState.FAIL),
        value=record.value if record.state == "finished" else None,
        params=encoded(space, record.parameters),
        distributions=distributions(space),
        intermediate_values=curve(rows, metric),
    )


def _random(distribution: Any, chance: random.Random) -> Any:
    choices = getattr(distribution, "choices", None)
    if choices is not None:
        return chance.choice(choices)
    if hasattr(distribution, "step") and isinstance(distribution.low, int):
        return chance.randint(distribution.low, distribution.high)
    return chance.uniform(distribution.low, distribution.high)


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(plain(dict(values)), sort_keys=True)
