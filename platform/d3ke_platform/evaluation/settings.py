"""What an evaluation is made of, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from d3ke.errors import InvalidInputError, UnknownNameError

_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """A model against the labels of subjects it has not seen."""

    data: str
    """Folder or URI of a prepared data set (jobs/prepare.py)."""
    model: str
    """Folder of a model bundle (jobs/train.py writes RUN/bundle)."""
    output: str
    """Folder for metrics.json, metrics.csv and report.html."""
    split: Literal["train", "validation", "test"] = "test"
    """Subjects to evaluate on."""
    moving_threshold: float = 3.0
    """A coordinate of legs, arms or trunk counts as moving when its label's standard deviation
    over the evaluated frames is above this [degrees]."""
    run: str = ""
    """Folder of the training run, for its curves; default: where the model lies."""
    scores: str = ""
    """Folder of scored videos (jobs/score.py) to show in the report."""
    examples: int = 8
    """Crops with skeletons to show in the report."""
    device: str = "auto"
    """Device of the networks: auto, cpu, cuda."""
    batch_size: int = 64
    """Crops per forward pass."""

    def __post_init__(self) -> None:
        for name in ("data", "model", "output"):
            if not getattr(self, name):
                raise InvalidInputError(name, "is missing", f"Give --{name}.")
        if self.split not in _SPLITS:
            raise UnknownNameError("split", self.split, _SPLITS)
        for name, lowest in (("batch_size", 1), ("examples", 0), ("moving_threshold", 0.0)):
            if not getattr(self, name) >= lowest:
                raise InvalidInputError(name, f"{getattr(self, name)} is below {lowest}")


@dataclass(frozen=True, kw_only=True)
class EvaluationSummary:
    """What an evaluation came to; everything else is in the files."""

    output: str
    report: str
    """Path of report.html."""
    recordings: int
    frames: int
    rejects: int
    """Recordings that could not be evaluated."""
    seconds: float
    headline: dict[str, float] = field(default_factory=dict)
    """Masked errors of the moving angles by method and their reduction."""
