"""The training loop of both networks."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from d3ke.errors import D3KEError, InvalidInputError
from d3ke_platform.telemetry import TrainingMetrics
from d3ke_platform.training import checkpoint as saved
from d3ke_platform.training import collectives
from d3ke_platform.training.average import WeightAverage
from d3ke_platform.training.checkpoint import Progress
from d3ke_platform.training.failed_batch import save_failed_batch
from d3ke_platform.training.memory_need import (
    GPUMemory,
    OutOfMemoryError,
    first_samples,
    fitting_samples,
    sample_count,
)
from d3ke_platform.training.pictures import write_picture
from d3ke_platform.training.schedule import Schedule
from d3ke_platform.training.seeds import number_seed
from d3ke_platform.training.task import Predict, Task
from d3ke_platform.training.transfer import hold_statistics
from d3ke_platform.training.worker import Worker, share_statistics


class NonFiniteLossError(D3KEError):
    """Training ran into NaN or infinity; the weights are still those of the step before."""

    def __init__(
        self, stage: str, epoch: int, step: int, terms: dict[str, float], batch: str = ""
    ) -> None:
        values = ", ".join(f"{name} {value:g}" for name, value in terms.items())
        kept = f" The batch is kept in {batch}." if batch else ""
        super().__init__(
            f"The {stage} network's loss or gradient is not finite at epoch {epoch}, step {step}"
            f" ({values}). Lower the learning rate or set gradient_clip; check the labels.{kept}",
            stage,
            epoch,
            step,
            terms,
            batch,
        )


@dataclass(frozen=True)
class StageResult:
    """What a training came to."""

    best_epoch: int
    best_value: float
    history: list[dict[str, Any]]


class TrainingLoop:
    """Epochs of steps, validation and checkpoints for one `Task` on one `Worker`.

    `on_epoch` gets the metrics of every epoch, on rank 0 only. A checkpoint is written after each
    epoch, while the next one is trained; a later loop with the same worker continues from it with
    the same results. A batch whose loss is not finite is kept in the folder `failed_batches`, and
    what the network makes of a few validation frames goes into the folder `pictures`, where there
    is one; `on_epoch` gets their paths as "pictures".
    """

    def __init__(
        self,
        task: Task,
        worker: Worker,
        *,
        seed: int,
        on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
        failed_batches: Path | None = None,
        pictures: Path | None = None,
    ) -> None:
        self._task, self._worker, self._seed, self._on_epoch = task, worker, seed, on_epoch
        self._failed_batches, self._pictures = failed_batches, pictures
        self._settings = task.settings
        self._schedule = Schedule(task.settings, task.steps_per_epoch)
        self._module = task.module
        self._distributed = worker.distribute(
            task.module, sync_batch_norm=task.settings.sync_batch_norm
        )
        if self._settings.compile:
            self._distributed.compile()
        self._optimizer = torch.optim.AdamW(
            [p for p in self._module.parameters() if p.requires_grad],
            lr=self._schedule.learning_rate(0, 0),
            weight_decay=self._settings.weight_decay,
            fused=True,
        )
        self._average = (
            WeightAverage(self._module, self._settings.ema_decay)
            if self._settings.ema_decay
            else None
        )
        self._metrics = TrainingMetrics(
            run=worker.run,
            stage=task.name,
            device=worker.device.type,
            epochs=task.settings.total_epochs,
            first=worker.rank == 0,
        )
        self._progress = Progress()
        self._best = self._snapshot()

    def run(self) -> StageResult:
        """Train the epochs that are left.

        Raises:
            NonFiniteLossError: on all workers at once, before the optimiser step.
            OutOfMemoryError: on the workers whose GPU is too small.
        """
        self._restore()
        self._metrics.working(True, epoch=self._progress.finished_epochs)
        try:
            if self._task.validate_untrained and not self._progress.history:
                self._finish_epoch(0, {}, started=time.perf_counter())
            for epoch in range(self._progress.finished_epochs, self._settings.total_epochs):
                if self._has_lost_patience(epoch):
                    break
                started = time.perf_counter()
                self._finish_epoch(epoch + 1, self._train_epoch(epoch), started=started)
        finally:
            # A search ends trials here, in a process that goes on with the next one.
            self._metrics.working(False, epoch=self._progress.finished_epochs)
            self._worker.finish()
        progress = self._progress
        return StageResult(progress.best_epoch, progress.best_value, progress.history)

    def _has_lost_patience(self, epoch: int) -> bool:
        """Whether the last epochs have brought nothing: the same on all workers, as errors are."""
        patience = self._settings.patience
        return bool(patience and epoch - self._progress.best_epoch >= patience)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the training samples; mean loss terms and where the time went."""
        if self._schedule.place(epoch).first_of_phase:
            self._optimizer.state.clear()
        # Drop-out depends on the epoch alone, not on the epochs before it:
        # resumed and uninterrupted training agree.
        torch.manual_seed(number_seed(self._seed, epoch, self._worker.rank))
        self._distributed.train()
        hold_statistics(self._module)
        predict = self._predict(self._distributed)
        sums: dict[str, Tensor] = {}
        waited, mark = 0.0, time.perf_counter()
        share = self._task.samples_per_epoch / self._task.steps_per_epoch / self._worker.world_size
        for step, batch in enumerate(self._task.batches(epoch)):
            began = time.perf_counter()
            waited += began - mark
            try:
                losses = self._step(predict, batch, epoch, step)
            except torch.OutOfMemoryError:
                losses = None  # what the error's traceback holds is freed after this block
            if losses is None:
                raise self._does_not_fit(batch)
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value
            done = time.perf_counter()
            self._metrics.step(wait_s=began - mark, compute_s=done - began, samples=share)
            mark = time.perf_counter()
        names = sorted(sums)
        steps = self._task.steps_per_epoch * self._worker.world_size
        means = self._worker.reduce(torch.stack([sums[name] for name in names])) / steps
        losses = dict(zip((f"loss_{name}" for name in names), means.tolist(), strict=True))
        rate = self._optimizer.param_groups[0]["lr"]
        return {**losses, "learning_rate": rate, "wait_s": waited}

    def _step(self, predict: Predict, batch: Any, epoch: int, step: int) -> dict[str, Tensor]:
        for group in self._optimizer.param_groups:
            group["lr"] = self._schedule.learning_rate(epoch, step)
        self._optimizer.zero_grad(set_to_none=True)
        losses = self._task.losses(predict, batch)
        total = losses["total"]
        # A loss that is not finite becomes a NaN gradient, which averaging carries to every
        # worker: all stop at the same step, none waits for another.
        poison = torch.where(torch.isfinite(total.detach()), 1.0, math.nan)
        (total * poison).backward()
        parameters = [p for p in self._module.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not torch.isfinite(norm):
            raise self._not_finite(losses, batch, epoch, step)
        if self._settings.gradient_clip:
            nn.utils.clip_grads_with_norm_(parameters, self._settings.gradient_clip, norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update(self._module)
        return {name: value.detach() for name, value in losses.items()}

    def _not_finite(
        self, losses: dict[str, Tensor], batch: Any, epoch: int, step: int
    ) -> NonFiniteLossError:
        """The error, with the batch kept by the workers whose own loss it is (rank 0's as well,
        where it is the gradient)."""
        terms = {name: float(value.detach()) for name, value in losses.items()}
        kept = ""
        guilty = not math.isfinite(terms["total"]) or self._worker.rank == 0
        if self._failed_batches is not None and guilty:
            name = f"{self._task.name}_epoch{epoch + 1}_step{step}_rank{self._worker.rank}"
            kept = str(save_failed_batch(batch, self._failed_batches, name))
        return NonFiniteLossError(self._task.name, epoch + 1, step, terms, kept)

    def _does_not_fit(self, batch: Any) -> OutOfMemoryError:
        """The error, with the number of samples that would have fitted."""
        self._optimizer.zero_grad(set_to_none=True)
        # A copy: gradients of the network itself would set off the exchange with other workers.
        copied = copy.deepcopy(self._module).train()
        hold_statistics(copied)
        predict = self._predict(copied)

        def run(count: int) -> None:
            copied.zero_grad(set_to_none=True)
            self._task.losses(predict, first_samples(batch, count))["total"].backward()

        count, device = sample_count(batch), self._worker.device
        trained = sum(p.numel() for p in self._module.parameters() if p.requires_grad)
        state = 0 if self._optimizer.state else 8 * trained
        with collectives.apart():
            fitting = fitting_samples(run, count, GPUMemory(device), extra_bytes=state)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
        return OutOfMemoryError(self._task.name, name, count, self._worker.world_size, fitting)

    def _finish_epoch(self, epoch: int, trained: dict[str, float], *, started: float) -> None:
        """Validate, choose, report and save after `epoch` (from 1; 0 = untrained)."""
        share_statistics(self._module, self._worker)
        if self._average is not None:
            self._average.copy_buffers(self._module)
        train_s = time.perf_counter() - started
        errors = self._validate()
        progress, value = self._progress, errors[self._settings.selection_metric]
        if math.isnan(value):
            raise InvalidInputError(
                f"selection_metric {self._settings.selection_metric!r}",
                "nothing on the validation subjects gives it a value",
                f"Choose another: {', '.join(k for k, v in errors.items() if not math.isnan(v))}.",
            )
        if value < progress.best_value:
            progress.best_value, progress.best_epoch = value, epoch
            self._best = self._snapshot()
        progress.finished_epochs = epoch
        row: dict[str, Any] = {
            "stage": self._task.name,
            "epoch": epoch,
            "epochs": self._settings.total_epochs,
            **trained,
            **{f"val_{name}": error for name, error in errors.items()},
            "best_epoch": progress.best_epoch,
            "train_s": train_s,
            "validate_s": time.perf_counter() - started - train_s,
        }
        if trained:
            row["samples_per_s"] = self._task.samples_per_epoch / train_s
        progress.history.append(row)
        self._metrics.epoch(row)
        if self._worker.rank == 0:
            self._on_epoch({**row, **self._draw(epoch)})
        began = time.perf_counter()
        self._save(row)
        self._metrics.spent("checkpoint", time.perf_counter() - began)

    @torch.no_grad()
    def _draw(self, epoch: int) -> dict[str, Any]:
        """Paths of new pictures, in the epochs that get some."""
        every, last = self._settings.pictures_every, self._settings.total_epochs
        if self._pictures is None or not every or (epoch % every and epoch != last):
            return {}
        folder, stem = self._pictures, f"{self._task.name}_epoch_{epoch:03d}"
        drawn = self._task.pictures(self._predict(self._evaluated()))
        paths = {name: write_picture(folder, f"{stem}_{name}", i) for name, i in drawn.items()}
        return {"pictures": paths}

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        errors = self._task.validate(self._predict(self._evaluated()))
        errors.table = self._worker.reduce(errors.table)
        return errors.means()

    def _evaluated(self) -> nn.Module:
        """The network that is validated, in evaluation mode."""
        return (self._module if self._average is None else self._average.module).eval()

    def _predict(self, module: nn.Module) -> Predict:
        device = self._worker.device.type
        enabled = self._settings.precision == "bfloat16"

        def predict(*inputs: Any) -> Any:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=enabled):
                return module(*inputs)

        return predict

    def _snapshot(self) -> dict[str, Tensor]:
        state = self._module.state_dict() if self._average is None else self._average.state()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def _save(self, row: dict[str, Any]) -> None:
        if self._average is not None:
            self._progress.average_updates = self._average.updates
        snapshot = None
        if self._worker.rank == 0:
            snapshot = saved.Snapshot.take(
                weights=self._module.state_dict(),
                average=None if self._average is None else self._average.state(),
                best=self._best,
                optimizer=self._optimizer.state_dict(),
                progress=self._progress,
            )
        metrics = {name: value for name, value in row.items() if name != "stage"}
        self._worker.report(metrics, snapshot)

    def _restore(self) -> None:
        with self._worker.restore() as folder:
            if folder is not None:
                self._load(folder)

    def _load(self, folder: Path) -> None:
        self._progress = saved.load_progress(folder)
        self._module.load_state_dict(saved.load_weights(folder, saved.WEIGHTS))
        self._optimizer.load_state_dict(saved.load_optimizer(folder))
        self._best = saved.load_weights(folder, saved.BEST)
        if self._average is not None:
            self._average.module.load_state_dict(saved.load_weights(folder, saved.AVERAGE))
            self._average.updates = self._progress.average_updates
