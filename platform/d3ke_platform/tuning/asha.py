"""ASHA that remembers: epochs of earlier starts count, and some trials are never stopped."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler

from d3ke_platform.training.progress import Row
from d3ke_platform.tuning.ledger import curve


class RememberingASHA(AsyncHyperBandScheduler):
    """Ray's ASHA over the results of `run_trial`.

    A result marked "exempt" or "replayed" is recorded at its rung and never stops its trial: the
    first is the recipe's own setting, the second was decided on before the search was killed.
    """

    def __init__(self, *, epochs: int, grace: int, reduction_factor: float) -> None:
        super().__init__(
            time_attr="epoch",
            metric="value",
            mode="min",
            max_t=epochs,
            grace_period=grace,
            reduction_factor=reduction_factor,
        )

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide on an epoch."""
        action = super().on_trial_result(tune_controller, trial, result)
        if result.get("exempt") or result.get("replayed"):
            return self.CONTINUE
        return action

    def remember(self, number: int, rows: list[Row], metric: str) -> None:
        """Record the epochs of a trial that ended in an earlier start."""
        trial = SimpleNamespace(trial_id=f"earlier-{number}")
        self.on_trial_add(None, trial)
        lowest = float("inf")
        for epoch, error in curve(rows, metric).items():
            lowest = min(lowest, error)
            result = {"epoch": epoch, "value": lowest}
            super().on_trial_result(None, trial, result)
        self.on_trial_remove(None, trial)
