"""Stages on Ray Data: the only place that calls `map_batches`.

Items and results travel pickled between our own processes, behind Ray's token, as everything that
Ray moves does; no pickle is ever read from a file.
"""

from __future__ import annotations

import logging
import math
import pickle
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from d3ke_platform import runtime, telemetry
from d3ke_platform.progress_bar import progress as progress_bar
from d3ke_platform.reject_kinds import reject_kind
from d3ke_platform.stages.rejects import error_reason, reject_row

NO_PROGRESS_TIMEOUT_S = 7 * 3600.0
"""Longer than any one item may take: the overlay of some hours of video takes six."""
WORKER_DEATHS_PER_ITEM = 2
"""Times an item is begun again at once. A lost node counts twice: its connection breaks, then its
actors start elsewhere."""
WORKER_DEATHS_ALONE, LARGEST_NUMBER_OF_PASSES = 1, 4
ACTOR_STARTS_IN_VAIN = 3
"""Actors in a row that may die before they are ready, for want of memory or a network."""
Results = Iterator[tuple[str, list[dict[str, Any]]]]
_IDENTITY_KEYS = ("item", "recording_id", "trial_id", "unit", "subject", "uri")


def run_stage(
    items: Sequence[dict[str, Any]],
    stage: type,
    *,
    arguments: dict[str, Any],
    name: str,
    actors: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    batch_size: int = 1,
    progress: bool = True,
) -> Iterator[dict[str, Any]]:
    """Run `stage(**arguments)` in actors over `items`; yields ledger rows as they arrive.

    Order is not kept. An exception in the stage, or the death of its worker, gives a reject row
    {"item", "stage", "reason", "traceback", "time_utc"} instead (`is_reject` tells them apart)
    and the others go on. Items that were lost with their workers are tried alone at the end, so
    that neither lost nodes nor the items they travelled with make rejects of good ones. An error
    in the stage's constructor is raised here, as it would be the same for every item. `actors` is
    by default what fits the cluster with two CPUs to spare; `batch_size` items travel together,
    which pays for items of milliseconds only.
    """
    if not items:
        return
    waiting = {identity(item): item for item in items}
    if len(waiting) < len(items):
        raise ValueError(f"{name}: items with the same id; each needs its own")
    blocks = math.ceil(len(items) / batch_size)
    count = min(blocks, actors or actor_count(cpus=cpus, gpus=gpus))
    with (
        progress_bar(name, len(items), visible=progress) as report,
        _data_context(),
        _queue(name, waiting, count),
    ):
        rejected = 0
        run = partial(
            _results,
            stage=stage,
            arguments=arguments,
            name=name,
            count=count,
            cpus=cpus,
            gpus=gpus,
        )
        for key, rows in _results_of_all(items, run, batch_size):
            waiting.pop(key, None)
            telemetry.set_queue(name, waiting=len(waiting), actors=count)
            rejected += any(is_reject(row) for row in rows)
            report.advance(note=f"{rejected} rejected" if rejected else "")
            yield from rows
        for key in waiting:
            reason = "the worker process died on this item (a crash in native code or no memory)"
            report.advance()
            telemetry.count_item(name, "rejected")
            telemetry.count_reject(name, reject_kind(reason))
            yield reject_row(key, name, reason)


def identity(item: Mapping[str, Any]) -> str:
    """What an item is called in rejects: its "item", recording, trial, unit, subject or uri."""
    for key in _IDENTITY_KEYS:
        if key in item:
            return str(item[key])
    raise ValueError(f"Item without any of {', '.join(_IDENTITY_KEYS)}: {item}")


def is_reject(row: Mapping[str, Any]) -> bool:
    """Whether a ledger row is a row of the REJECTS table."""
    return row.keys() == {"item", "stage", "reason", "traceback", "time_utc"}


class StageActor:
    """A stage in an actor: unpacks items, catches exceptions, packs ledger rows."""

    def __init__(self, stage: type, arguments: dict[str, Any], name: str) -> None:
        self._name = name
        self._stage: Any = None
        self._failure: Exception | None = None
        try:
            self._stage = stage(**arguments)
        except Exception as error:  # noqa: BLE001  raised again in the driver
            self._failure = _portable(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        items = [pickle.loads(packed) for packed in batch["packed"]]  # nosec B301
        outcomes = [self._failure or self._process(item) for item in items]
        return {
            "key": [identity(item) for item in items],
            "packed": [pickle.dumps(outcome) for outcome in outcomes],
        }

    def _process(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        started = time.monotonic()
        try:
            rows = list(self._stage(item))
        except Exception as error:  # noqa: BLE001  becomes a reject
            rows = [
                reject_row(identity(item), self._name, error_reason(error), traceback.format_exc())
            ]
        _count(self._name, rows, time.monotonic() - started)
        return rows


def _count(stage: str, rows: Sequence[Mapping[str, Any]], seconds: float) -> None:
    """Tell Prometheus of an item: its ledger rows say how many frames and which steps it took."""
    rejects = [row for row in rows if is_reject(row)]
    status = "rejected" if rejects else "skipped" if _all_there(rows) else "done"
    telemetry.count_item(stage, status, seconds)
    for row in rejects:
        telemetry.count_reject(stage, reject_kind(row["reason"]))
    if status != "done":
        return
    for row in rows:
        # Of a long video, an item is a part: "estimated" frames of all its "frames".
        frames = row.get("estimated", row.get("frames"))
        if isinstance(frames, int):
            telemetry.count_frames(stage, frames)
        if isinstance(row.get("seconds"), Mapping):
            telemetry.count_steps(stage, row["seconds"])


def _all_there(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an earlier run had done all of the item."""
    return bool(rows) and all(
        row.get("skipped", False) or (row.get("estimated") == 0 and not row.get("parts"))
        for row in rows
    )


@contextmanager
def _queue(stage: str, waiting: Mapping[str, Any], actors: int) -> Iterator[None]:
    """The stage's queue while it runs; nothing waits and nobody works when it is over."""
    telemetry.set_queue(stage, waiting=len(waiting), actors=actors)
    try:
        yield
    finally:
        telemetry.set_queue(stage, waiting=0, actors=0)


def _results_of_all(
    items: Sequence[dict[str, Any]], run: Callable[..., Results], batch_size: int
) -> Results:
    """What `run(items, batch_size, deaths)` gives, run again for items that it gave nothing for.

    Such an item went down with its worker: it broke it, or it was with one that did, or on a node
    that was lost. Passes go on while nodes are being lost.
    """
    waiting = {identity(item): item for item in items}
    deaths = WORKER_DEATHS_PER_ITEM
    for number in range(LARGEST_NUMBER_OF_PASSES):
        nodes = runtime.nodes_alive()
        for key, rows in run(list(waiting.values()), batch_size, deaths):
            if waiting.pop(key, None) is not None:
                yield key, rows
        if not waiting or (number and nodes <= runtime.nodes_alive()):
            return
        batch_size, deaths = 1, WORKER_DEATHS_ALONE


def _results(
    items: list[dict[str, Any]],
    batch_size: int,
    deaths: int,
    *,
    stage: type,
    arguments: dict[str, Any],
    name: str,
    count: int,
    cpus: float,
    gpus: float,
) -> Results:
    """Keys and ledger rows of items; one is given up after `deaths` + 1 workers died on it."""
    import ray

    blocks = math.ceil(len(items) / batch_size)
    size = min(blocks, count)
    data = ray.data.from_items(
        [{"packed": pickle.dumps(item)} for item in items], override_num_blocks=blocks
    )
    with warnings.catch_warnings():
        # max_task_retries has no other place than the deprecated remote arguments in Ray 2.60.
        warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
        mapped = data.map_batches(
            StageActor,
            fn_constructor_args=(stage, arguments, name),
            batch_size=batch_size,
            # One task per actor at a time: a death then costs only the item that caused it.
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=None if gpus else cpus,
            num_gpus=gpus or None,
            max_restarts=-1,
            max_task_retries=deaths,
        )
    for batch in mapped.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        for key, packed in zip(batch["key"], batch["packed"], strict=True):
            outcome = pickle.loads(packed)  # nosec B301
            if isinstance(outcome, Exception):
                raise outcome
            yield str(key), outcome


def actor_count(*, cpus: float = 1.0, gpus: float = 0.0) -> int:
    """Actors that fit the connected cluster, leaving two CPUs to Ray Data's own tasks."""
    if gpus:
        return max(1, int(runtime.total_gpus() / gpus))
    return max(1, int((runtime.total_cpus() - 2) / cpus))


@contextmanager
def _data_context() -> Iterator[None]:
    """Ray Data's settings for stages, put back afterwards."""
    import ray

    context = ray.data.DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "execution_no_progress_timeout_s": NO_PROGRESS_TIMEOUT_S,
        # A block is one item or a few; one whose worker keeps dying is dropped and becomes a
        # reject, because its rows are missing.
        "max_errored_blocks": -1,
        "max_consecutive_actor_init_deaths": ACTOR_STARTS_IN_VAIN,
    }
    before = {key: getattr(context, key) for key in wanted}
    for key, value in wanted.items():
        setattr(context, key, value)
    # The terminal shows one progress line per stage; Ray's log file keeps everything.
    consoles = [h for h in logging.getLogger("ray.data").handlers if hasattr(h, "stream")]
    levels = [handler.level for handler in consoles]
    for handler in consoles:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in zip(consoles, levels, strict=True):
            handler.setLevel(level)
        for key, value in before.items():
            setattr(context, key, value)


def _portable(error: Exception) -> Exception:
    error.add_note(traceback.format_exc())
    try:
        return pickle.loads(pickle.dumps(error))  # nosec B301
    except Exception:  # noqa: BLE001  any failure to pickle has the same remedy
        return RuntimeError(f"{type(error).__name__}: {error}")
