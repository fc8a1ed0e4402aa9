"""What the training loop needs to know of a network and its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import Tensor, nn

from d3ke.arrays import ImageArray
from d3ke_platform.training.error_sums import ErrorSums
from d3ke_platform.training.settings import StageSettings

Predict = Callable[..., Any]
"""The network as the loop runs it: distributed, in the number format of the settings."""


class Task(Protocol):
    """One network with its training and validation data, on one worker."""

    @property
    def name(self) -> str:
        """Name of the training in messages and metrics."""

    @property
    def settings(self) -> StageSettings:
        """How it is optimised."""

    @property
    def module(self) -> nn.Module:
        """The network, on the worker's device."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch."""

    @property
    def samples_per_epoch(self) -> int:
        """Samples of an epoch over all workers, for the speed."""

    @property
    def validate_untrained(self) -> bool:
        """Whether epoch 0, the untrained network, takes part in the choice of the best epoch."""

    def batches(self, epoch: int) -> Iterator[Any]:
        """This worker's batches of `epoch` (from 0), on the device; the same for equal seeds."""

    def losses(self, predict: Predict, batch: Any) -> dict[str, Tensor]:
        """Loss terms of a batch as scalars; "total" is what is minimised."""

    def validate(self, predict: Predict) -> ErrorSums:
        """Errors over this worker's share of the validation subjects."""

    def pictures(self, predict: Predict) -> dict[str, ImageArray]:
        """What the network makes of a few validation frames, by name; asked for on rank 0 only."""
