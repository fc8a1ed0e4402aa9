"""Every metric the platform exports to Prometheus, and the calls that record them.

Ray adds the prefix `ray_` and labels for node, session and worker; dashboards/ uses the names of
`METRICS`. Recording costs microseconds, does nothing in a process that is not connected to Ray
(child processes of actors included: their parents count for them), and never raises because of a
value. This module imports no Ray, so that `stages/` may use it.

Sums of seconds are counters of their own beside each histogram: Ray 2.60 fills a histogram's sum
with the middles of its buckets, which is too rough for shares of time.
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["counter", "gauge", "histogram"]

# Seconds of an item: 0.1 s (a recording of the demo) to three hours (a long trial or video).
_ITEM_BOUNDARIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
_STEP_BOUNDARIES = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Metric:
    """One metric: what a dashboard needs to know of it."""

    name: str
    """Without Ray's prefix."""
    kind: Kind
    help: str
    """One line, with the unit."""
    labels: tuple[str, ...]
    boundaries: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets."""


_TRAIN = ("run", "stage")
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "d3ke_stage_items_total",
            "counter",
            "Items of a stage that are over; status: done, skipped (there already), rejected",
            ("stage", "status"),
        ),
        Metric(
            "d3ke_stage_frames_total",
            "counter",
            "Video or mocap frames that a stage has worked on",
            ("stage",),
        ),
        Metric(
            "d3ke_stage_seconds_total",
            "counter",
            "Seconds of work on items, summed over the actors of a stage",
            ("stage",),
        ),
        Metric(
            "d3ke_stage_step_seconds_total",
            "counter",
            "Seconds of work by step of a stage (decode, detect, crop, network, ...)",
            ("stage", "step"),
        ),
        Metric(
            "d3ke_stage_item_seconds",
            "histogram",
            "Seconds that one item of a stage takes",
            ("stage",),
            _ITEM_BOUNDARIES,
        ),
        Metric(
            "d3ke_stage_rejects_total",
            "counter",
            "Items that a stage could not use, by kind of reason",
            ("stage", "reason"),
        ),
        Metric(
            "d3ke_stage_items_waiting",
            "gauge",
            "Items of a stage that are not over yet, those in work included",
            ("stage",),
        ),
        Metric("d3ke_stage_actors", "gauge", "Actors that a stage asked for", ("stage",)),
        Metric(
            "d3ke_device_busy_seconds_total",
            "counter",
            "Seconds in which a process keeps its device at work on a network, by kind of device",
            ("stage", "device"),
        ),
        Metric(
            "d3ke_device_processes",
            "gauge",
            "1 for each process with a network on a device",
            ("stage", "device"),
        ),
        Metric("d3ke_train_workers", "gauge", "1 for each worker inside its training loop", _TRAIN),
        Metric("d3ke_train_epoch", "gauge", "Epochs that are over", _TRAIN),
        Metric("d3ke_train_epochs", "gauge", "Epochs of the whole training", _TRAIN),
        Metric("d3ke_train_steps_total", "counter", "Optimiser steps of all workers", _TRAIN),
        Metric("d3ke_train_samples_total", "counter", "Training samples of all workers", _TRAIN),
        Metric(
            "d3ke_train_step_seconds_total",
            "counter",
            "Seconds of training steps, summed over workers; part: wait (for data), compute",
            (*_TRAIN, "device", "part"),
        ),
        Metric(
            "d3ke_train_step_seconds",
            "histogram",
            "Seconds of one training step, waiting for its data included",
            _TRAIN,
            _STEP_BOUNDARIES,
        ),
        Metric(
            "d3ke_train_epoch_seconds_total",
            "counter",
            "Seconds of epochs on the first worker; part: train, validate, checkpoint",
            (*_TRAIN, "part"),
        ),
        Metric(
            "d3ke_train_loss",
            "gauge",
            "Mean of a loss term over the last epoch; term total is what is minimised",
            (*_TRAIN, "term"),
        ),
        Metric("d3ke_train_learning_rate", "gauge", "Learning rate of the last step", _TRAIN),
        Metric(
            "d3ke_train_validation_error",
            "gauge",
            "Validation error after the last epoch; the measure's name ends with its unit",
            (*_TRAIN, "measure"),
        ),
        Metric(
            "d3ke_tune_trials",
            "gauge",
            "Trials of a search; state: running, finished, stopped (by ASHA), failed, planned",
            ("search", "stage", "state"),
        ),
        Metric(
            "d3ke_tune_epochs_total",
            "counter",
            "Epochs that the trials of a search have trained",
            ("search", "stage"),
        ),
        Metric(
            "d3ke_tune_best_error",
            "gauge",
            "Lowest validation error of a search so far; the measure's name ends with its unit",
            ("search", "stage", "measure"),
        ),
        Metric(
            "d3ke_tracking_failures_total",
            "counter",
            "Writes that the MLflow tracking server did not take",
            (),
        ),
    )
}

_instruments: dict[str, Any] = {}


def count(name: str, value: float = 1.0, **labels: str) -> None:
    """Add to a counter of `METRICS`; nothing happens for values that are not above 0."""
    if value > 0 and math.isfinite(value):
        instrument = _instrument(name)
        if instrument is not None:
            instrument.inc(value, tags=labels)


def gauge(name: str, value: float, **labels: str) -> None:
    """Set a gauge of `METRICS`; values that are not finite are left out."""
    if math.isfinite(value):
        instrument = _instrument(name)
        if instrument is not None:
            instrument.set(value, tags=labels)


def observe(name: str, value: float, **labels: str) -> None:
    """Put a value into a histogram of `METRICS`."""
    if math.isfinite(value):
        instrument = _instrument(name)
        if instrument is not None:
            instrument.observe(value, tags=labels)


def _instrument(name: str) -> Any:
    """Ray's metric object; None where there is no connection to Ray."""
    metric = METRICS[name]
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    if name not in _instruments:
        kinds = importlib.import_module("ray.util.metrics")
        options: dict[str, Any] = {"description": metric.help, "tag_keys": metric.labels}
        if metric.kind == "histogram":
            options["boundaries"] = list(metric.boundaries)
        _instruments[name] = getattr(kinds, metric.kind.capitalize())(name, **options)
    return _instruments[name]


# --- stages -------------------------------------------------------------------------------------


def count_item(stage: str, status: str, seconds: float = 0.0) -> None:
    """An item of a stage is over; `status`: done, skipped, rejected."""
    count("d3ke_stage_items_total", stage=stage, status=status)
    if seconds > 0:
        count("d3ke_stage_seconds_total", seconds, stage=stage)
        observe("d3ke_stage_item_seconds", seconds, stage=stage)


def count_frames(stage: str, frames: int) -> None:
    """A stage has worked on that many more frames."""
    count("d3ke_stage_frames_total", float(frames), stage=stage)


def count_steps(stage: str, seconds: Mapping[str, float]) -> None:
    """Seconds of work by step of the stage."""
    for step, value in seconds.items():
        count("d3ke_stage_step_seconds_total", value, stage=stage, step=step)


def count_reject(stage: str, kind: str) -> None:
    """An item was rejected; `kind` is one of few (see `reject_kinds`), never a whole message."""
    count("d3ke_stage_rejects_total", stage=stage, reason=kind)


def set_queue(stage: str, *, waiting: int, actors: int) -> None:
    """Items of a stage that are not over, and its actors; from the driver."""
    gauge("d3ke_stage_items_waiting", float(waiting), stage=stage)
    gauge("d3ke_stage_actors", float(actors), stage=stage)


def device_busy(stage: str, device: str, seconds: float) -> None:
    """A network of this process kept its device at work; `device`: cuda or cpu."""
    gauge("d3ke_device_processes", 1.0, stage=stage, device=device)
    count("d3ke_device_busy_seconds_total", seconds, stage=stage, device=device)


class DeviceBusy:
    """Context around calls of a network: the share of time in which its device has work.

    On a GPU the context has to end when the result is there, not when the call is queued.
    """

    def __init__(self, stage: str, device: str) -> None:
        """See `device_busy`."""
        self._stage, self._device = stage, device
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *failure: object) -> None:
        device_busy(self._stage, self._device, time.perf_counter() - self._began)


# --- training -----------------------------------------------------------------------------------


class TrainingMetrics:
    """What one worker tells of one training."""

    def __init__(self, *, run: str, stage: str, device: str, epochs: int, first: bool) -> None:
        """Args:
        run: name of the run or trial.
        stage: name of the network's training.
        device: kind of device, "cuda" or "cpu".
        epochs: epochs of the whole training.
        first: whether this is the worker that tells what all share.
        """
        self._labels = {"run": run, "stage": stage}
        self._device, self._epochs, self._first = device, epochs, first

    def working(self, running: bool, *, epoch: int) -> None:
        """The loop begins or ends, after `epoch` epochs."""
        gauge("d3ke_train_workers", float(running), **self._labels)
        self._progress(epoch)

    def step(self, *, wait_s: float, compute_s: float, samples: float) -> None:
        """An optimiser step on `samples` samples of this worker is done."""
        count("d3ke_train_steps_total", 1.0, **self._labels)
        count("d3ke_train_samples_total", samples, **self._labels)
        for part, seconds in (("wait", wait_s), ("compute", compute_s)):
            labels = {**self._labels, "device": self._device, "part": part}
            count("d3ke_train_step_seconds_total", seconds, **labels)
        observe("d3ke_train_step_seconds", wait_s + compute_s, **self._labels)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is over; `row` is its metrics (see `TrainingLoop`)."""
        if not self._first:
            return
        self._progress(int(row["epoch"]))
        for name, value in row.items():
            if name.startswith("loss_"):
                term = name.removeprefix("loss_")
                gauge("d3ke_train_loss", value, **self._labels, term=term)
            elif name.startswith("val_"):
                measure = name.removeprefix("val_")
                gauge("d3ke_train_validation_error", value, **self._labels, measure=measure)
        if "learning_rate" in row:
            gauge("d3ke_train_learning_rate", row["learning_rate"], **self._labels)
        for part in ("train", "validate"):
            self.spent(part, row[f"{part}_s"])

    def spent(self, part: str, seconds: float) -> None:
        """Seconds of an epoch went into `part`: train, validate, checkpoint."""
        if self._first:
            count("d3ke_train_epoch_seconds_total", seconds, **self._labels, part=part)

    def _progress(self, epoch: int) -> None:
        if self._first:
            gauge("d3ke_train_epoch", float(epoch), **self._labels)
            gauge("d3ke_train_epochs", float(self._epochs), **self._labels)
