"""A training task of a few numbers: the loop's behaviour without images and skeletons."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from d3ke_platform.training.batch_plan import BatchPlan
from d3ke_platform.training.error_sums import ErrorSums
from d3ke_platform.training.settings import StageSettings

_WEIGHTS = torch.linspace(-1, 1, 6)


class ToyTask:
    """Learn a linear function of 6 numbers, with drop-out so that randomness matters."""

    name = "toy"

    def __init__(
        self,
        settings,
        worker,
        *,
        seed=7,
        count=50,
        dropout=0.1,
        untrained=False,
        poison=None,
        die_once=None,
    ):
        """`poison`: (epoch, step) at which the last worker's batch is NaN; `die_once`: a file
        whose absence makes the last worker write it and die in the middle of its second epoch."""
        self.settings, self.validate_untrained = settings, untrained
        self._worker, self._poison, self._die_once = worker, poison, die_once
        generator = torch.Generator().manual_seed(seed)
        self._inputs = torch.randn(count, 6, generator=generator)
        self._plan = BatchPlan(
            count=count,
            batch_size=settings.batch_size,
            seed=seed,
            world_size=worker.world_size,
            rank=worker.rank,
        )
        self.steps_per_epoch = self._plan.steps
        self.samples_per_epoch = self._plan.steps * self._plan.slots
        torch.manual_seed(seed)
        self.module = nn.Sequential(nn.Dropout(dropout), nn.Linear(6, 1)).to(worker.device)

    def batches(self, epoch):
        for step, rows in enumerate(self._plan.epoch(epoch)):
            inputs = self._inputs[torch.from_numpy(rows)]
            if self._worker.rank == self._worker.world_size - 1:
                inputs = self._misbehave(epoch, step, inputs)
            yield inputs.to(self._worker.device)

    def _misbehave(self, epoch, step, inputs):
        if self._die_once and (epoch, step) == (1, 3) and not Path(self._die_once).exists():
            Path(self._die_once).touch()
            time.sleep(2)  # until Ray has taken the checkpoint of the first epoch
            os._exit(1)
        return inputs * torch.nan if self._poison == (epoch, step) else inputs

    def losses(self, predict, batch):
        error = (predict(batch)[:, 0] - batch @ _WEIGHTS.to(batch)).abs().mean()
        return {"error": error, "total": error}

    def validate(self, predict):
        sums = ErrorSums(("mae_all_deg", "mae_main_deg"), self._worker.device)
        share = self._inputs[self._worker.rank :: self._worker.world_size]
        sums.add("mae_all_deg", (predict(share)[:, 0] - share @ _WEIGHTS).abs())
        sums.add("mae_main_deg", torch.ones(1))
        return sums

    def pictures(self, predict):
        level = float(predict(self._inputs[:1])[0, 0].clamp(0, 1))
        return {"plain": np.full((8, 8, 3), round(255 * level), np.uint8)}


@dataclass(frozen=True, kw_only=True)
class ToyJob:
    """Picklable: becomes a ToyTask on each worker."""

    settings: StageSettings
    seed: int = 7
    name: str = "toy"
    poison: tuple[int, int] | None = None
    die_once: str = ""
    dropout: float = 0.1

    def task(self, worker):
        return ToyTask(
            self.settings,
            worker,
            seed=self.seed,
            poison=self.poison,
            die_once=self.die_once,
            dropout=self.dropout,
        )


def toy_settings(**changes):
    """Settings under which the toy task learns within a second."""
    defaults = {
        "epochs": (6,),
        "learning_rate_start": (0.1,),
        "learning_rate_end": (0.01,),
        "batch_size": 8,
        "weight_decay": 0.0,
        "schedule_by": "step",
    }
    return StageSettings(**{**defaults, **changes})
