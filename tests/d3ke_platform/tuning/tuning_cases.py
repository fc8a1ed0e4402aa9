"""Small searches: settings, and a task of a few numbers whose epochs take a moment."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from toy_task import ToyTask, toy_settings

from d3ke_platform.training.settings import FrameTraining, SequenceTraining, StageSettings
from d3ke_platform.tuning.ledger import Ledger
from d3ke_platform.tuning.search import Search
from d3ke_platform.tuning.settings import TuneSettings
from d3ke_platform.tuning.space import make_space

EPOCHS = 6


def tune_settings(**changes):
    """A search of tiny networks."""
    defaults = {
        "data": "d",
        "output": "o",
        "trials": 8,
        "frame": FrameTraining(
            backbone="resnet18_half",
            image_size=32,
            epochs=(2,),
            batch_size=16,
            learning_rate_start=(2e-3,),
            learning_rate_end=(1e-4,),
        ),
        "sequence": SequenceTraining(
            window=9,
            width=32,
            layers=1,
            heads=2,
            feed_forward=32,
            strides=(3,),
            epochs=(EPOCHS,),
            batch_size=8,
            estimate_passes=1,
        ),
    }
    return TuneSettings(**{**defaults, **changes})


def make_search(folder: Path, *, trials=8, observer=None, **changes):
    """A search whose ledger is in `folder`."""
    return Search(
        space=make_space(tune_settings(trials=trials, **changes), "sequence"),
        ledger=Ledger(folder, "mae_all_deg"),
        trials=trials,
        seed=3,
        observer=observer,
    )


def row(epoch, error, **more):
    """Metrics of an epoch as the training loop tells them."""
    return {
        "stage": "sequence",
        "epoch": epoch,
        "epochs": EPOCHS,
        "val_mae_all_deg": error,
        "val_mpblpe_mm": 100 * error,
        "val_mv_main_deg_s": 40 / error,
        "val_mv_main_label_deg_s": 30.0,
        "train_s": 1.0,
        "validate_s": 0.5,
        "best_epoch": epoch,
        **more,
    }


def landscape(values):
    """A made-up error: lowest at loss weight angle 0.3, learning rate 0.002 and width 64."""
    off = np.log(values["sequence.loss.angle"] / 0.3) ** 2
    off += np.log(values["sequence.learning_rate"] / 2e-3) ** 2
    return 1 + 0.2 * off + 0.1 * (values["sequence.width"] != 64)


def run_alone(search, *, last=10**6):
    """Run trials one after the other on `landscape`, without Ray; `last`: cut off in that trial."""
    while (record := search.next()) is not None:
        for epoch in range(1, EPOCHS + 1):
            error = landscape(record.parameters) * (1 + 1 / epoch)
            search.row(record.number, row(epoch, error))
            if record.number == last and epoch == 2:
                return
        search.end(record.number)


@dataclass(frozen=True, kw_only=True)
class SlowToyJob:
    """The toy training with epochs of `epoch_s`; can fail, or die once and leave a mark."""

    settings: StageSettings
    epoch_s: float = 0.0
    fails: str = ""
    dies_once: str = ""
    seed: int = 7
    name: str = "toy"

    def task(self, worker):
        if self.fails:
            raise ValueError(self.fails)
        return SlowToyTask(self, worker)


class SlowToyTask(ToyTask):
    """See `SlowToyJob`."""

    def __init__(self, job, worker):
        super().__init__(job.settings, worker, seed=job.seed)
        self._job = job

    def batches(self, epoch):
        time.sleep(self._job.epoch_s)
        mark = self._job.dies_once
        if mark and epoch == 1 and not Path(mark).exists():
            Path(mark).touch()
            os._exit(1)
        yield from super().batches(epoch)


def toy_job(record, **options):
    """The training of a trial: its learning rate counts."""
    rate = record.parameters["sequence.learning_rate"]
    settings = toy_settings(
        epochs=(EPOCHS,), learning_rate_start=(30 * rate,), learning_rate_end=(3 * rate,)
    )
    return SlowToyJob(settings=replace(settings), **options)
