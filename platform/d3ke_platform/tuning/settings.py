"""What a search is asked for, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.training.settings import TrainSettings

Stage = Literal["frame", "sequence"]
STAGES: Mapping[str, tuple[Stage, ...]] = {
    "sequence": ("sequence",),
    "frame": ("frame",),
    "both": ("frame", "sequence"),
}
"""Networks that each value of `TuneSettings.tune` searches, in order."""

FREE = ("trials", "concurrent", "trial_workers", "trials_per_gpu")
"""Settings that may change between two starts of the same search."""


@dataclass(frozen=True, kw_only=True)
class TuneSettings(TrainSettings):
    """A search for the settings of D3KE's networks on one prepared data set.

    Everything that is not searched is as in training: a recipe's [train] table counts here too,
    below its [tune] table.
    """

    trials: int
    """Trials in all (of either network with --tune both), those of earlier starts included."""
    tune: Literal["sequence", "frame", "both"] = "sequence"
    """Which network. A sequence trial reuses the per-frame estimates, which are made once; with
    "both" they come from the best per-frame setting."""
    space: tuple[str, ...] = ()
    """Changes of the default space, which lies around the recipe's own values. Each is
    `name=low..high`, `name=low..high:log`, `name=choice,choice` or `name=off`; names as in
    training, and learning_rate (scales all rates of a network) and frame.augmentation_strength
    (scales all its ranges). Example: sequence.loss.angle=0.01..1:log sequence.width=64,128"""
    default_space: bool = True
    """False searches only what `space` names."""
    base: str = ""
    """Folder of a training run on the same data: its per-frame network, with the settings and the
    coordinates it was trained with, is used instead of one trained here."""
    concurrent: int = 0
    """Trials side by side; 0 = one per GPU, or per CPU core of a cluster without GPUs."""
    trial_workers: int = 1
    """Workers of a trial, each with a GPU of its own where there are any. One trains inside the
    trial; more are a Ray Train run of their own, which takes 10 to 20 s to start."""
    trials_per_gpu: int = 1
    """Trials of one worker that share a GPU."""
    grace_epochs: int = 0
    """Epochs before ASHA may stop a trial; 0 = a ninth of all epochs, at least two."""
    reduction_factor: float = 3.0
    """Of the trials that reach a rung, one in so many goes on; rungs are this factor apart."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tune not in STAGES:
            raise UnknownNameError("tune", self.tune, tuple(STAGES))
        for name, lowest in (("trials", 1), ("concurrent", 0), ("trial_workers", 1)):
            _at_least(name, getattr(self, name), lowest)
        _at_least("trials_per_gpu", self.trials_per_gpu, 1)
        _at_least("grace_epochs", self.grace_epochs, 0)
        if not (math.isfinite(self.reduction_factor) and self.reduction_factor > 1):
            raise InvalidInputError("reduction_factor", f"{self.reduction_factor} is not above 1")
        if self.base and self.tune != "sequence":
            raise InvalidInputError(
                "base", "a per-frame network is given and searched at once", "Use --tune sequence."
            )
        if "sequence" in self.stages and not self.sequence.enabled:
            raise InvalidInputError(
                "sequence.enabled", "False, but the sequence network is searched"
            )
        # Names and ranges are checked before anything is started.
        from d3ke_platform.tuning.space import parameters_of

        for stage in self.stages:
            parameters_of(self, stage)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Networks to search, in order."""
        return STAGES[self.tune]

    def training(self) -> TrainSettings:
        """The settings of a training that does not search anything."""
        return TrainSettings(**{f.name: getattr(self, f.name) for f in fields(TrainSettings)})

    def grace(self, stage: Stage) -> int:
        """Epochs of a trial before it may be stopped."""
        total = getattr(self, stage).total_epochs
        return min(total, self.grace_epochs or max(2, round(total / 9)))


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """What the search of one network came to; errors are those of the validation subjects."""

    stage: str
    metric: str
    """Name of `value`: the error the search lowers."""
    value: float
    """Lowest error [deg]."""
    recipe_value: float | None
    """The same of the recipe's own setting; None if that trial failed."""
    paper_value: float | None
    """The same of the recipe with the paper's loss weights; None if it was not tried or failed."""
    best_trial: int
    parameters: dict[str, Any]
    """The best setting."""
    mpblpe_mm: float | None
    mv_deg_s: float | None
    """Mean angular speed of the best setting's estimates; the labels' own is in the report."""
    trials: int
    finished: int
    """Trials that ran all their epochs."""
    stopped: int
    """Trials that ASHA stopped early."""
    failed: int


@dataclass(frozen=True, kw_only=True)
class TuneSummary:
    """What a search came to."""

    output: str
    recipe: str
    """File with the best setting: a configuration for jobs/train.py."""
    report: str
    """Path of the report page."""
    best: float
    """Lowest validation error [deg] of the network searched last."""
    trials: int
    seconds: float
    """Wall time of this call."""
    stages: tuple[StageOutcome, ...]
    mlflow_run_id: str

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        return asdict(self)


def _at_least(name: str, value: float, lowest: int) -> None:
    if value < lowest:
        raise InvalidInputError(name, f"{value} is below {lowest}")
