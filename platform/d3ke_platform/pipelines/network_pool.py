"""The per-frame network in actors of its own: many videos' crops in common batches.

Workers that decode call these actors directly, so that a segment's estimates come back to whoever
writes it: through Ray Data they would have to be sorted together again by segment.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from d3ke.arrays import ImageArray
from d3ke_platform import telemetry
from d3ke_platform.stages.estimate import EstimateArrays, FrameEstimator
from d3ke_platform.stages.mixed_batches import MixedBatches
from d3ke_platform.stages.score_plan import ScorePlan

CALLERS = 256
"""Calls that may wait in one actor at the same time."""
BATCHES_AHEAD = 2
"""Batches a worker may have under way: one in the network, one on the way there."""
CALL_RETRIES = 3


class _NetworkActor:
    """One network on one device."""

    def __init__(self, plan: ScorePlan) -> None:
        estimator = FrameEstimator(
            plan.bundle, device=plan.device, batch_size=plan.batch_size, precision=plan.precision
        )
        told = partial(telemetry.device_busy, "estimate", estimator.device.type)
        self._batches = MixedBatches(estimator, on_busy=told)
        self._began = time.monotonic()

    def estimate(self, images: ImageArray) -> EstimateArrays:
        return self._batches.estimate(images)

    def use(self) -> dict[str, float]:
        batches = self._batches
        since = time.monotonic() - self._began
        counts = {"images": batches.images, "batches": batches.batches}
        return {"busy_s": batches.busy_s, "since_s": since, **counts}


class RemoteNetwork:
    """The pool as a worker sees it; each call goes to the actor with the least of its own."""

    ahead = BATCHES_AHEAD

    def __init__(self, actors: list[Any]) -> None:
        self._actors = actors
        self._waiting: Counter[int] = Counter()

    def submit(self, images: ImageArray) -> tuple[int, Any]:
        """Send crops; they are copied once, into the object store."""
        chosen = min(range(len(self._actors)), key=lambda index: self._waiting[index])
        self._waiting[chosen] += 1
        return chosen, self._actors[chosen].estimate.remote(images)

    def result(self, ticket: tuple[int, Any]) -> EstimateArrays:
        """Wait for the estimates."""
        import ray

        chosen, reference = ticket
        try:
            return ray.get(reference)
        finally:
            self._waiting[chosen] -= 1


@dataclass
class NetworkUse:
    """How busy the networks of a pool were."""

    busy: float = 0.0
    """Share of the time in which they computed."""
    images: int = 0
    batches: int = 0


class NetworkPool:
    """Actors that are there for the duration of a job."""

    def __init__(self, plan: ScorePlan, *, count: int, gpus: float, cpus: float = 1.0) -> None:
        """`gpus` and `cpus` of each of `count` actors."""
        import ray

        options = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "max_concurrency": CALLERS,
            "max_restarts": -1,
            "max_task_retries": CALL_RETRIES,
        }
        actor = ray.remote(_NetworkActor).options(**options)
        self._actors = [actor.remote(plan) for _ in range(count)]

    @property
    def network(self) -> RemoteNetwork:
        """For the workers."""
        return RemoteNetwork(self._actors)

    def use(self) -> NetworkUse:
        """So far."""
        import ray

        parts = ray.get([actor.use.remote() for actor in self._actors])
        since = sum(part["since_s"] for part in parts)
        return NetworkUse(
            busy=sum(part["busy_s"] for part in parts) / max(since, 1e-9),
            images=int(sum(part["images"] for part in parts)),
            batches=int(sum(part["batches"] for part in parts)),
        )

    def close(self) -> None:
        """End the actors."""
        import ray

        for actor in self._actors:
            ray.kill(actor)


@contextmanager
def network_pool(plan: ScorePlan, *, count: int, gpus: float) -> Iterator[NetworkPool | None]:
    """A pool of `count` actors with so many GPUs each; None for none."""
    if not count:
        yield None
        return
    pool = NetworkPool(plan, count=count, gpus=gpus)
    try:
        yield pool
    finally:
        pool.close()
