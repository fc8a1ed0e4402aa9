"""The per-frame network in actors of its own: many videos' crops in common batches.

Workers that decode call these actors directly, so that a segment's estimates come back to whoever
writes it: through Ray Data they would have to be sorted together again by segment.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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
SILENCE_S = 600.0
"""After which an actor is taken for lost; crops may wait long where many workers share few."""
PATIENCE_S = 10.0
"""For an answer of all actors about their use."""


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


class Ticket(NamedTuple):
    """Crops that are under way."""

    actor: int
    answer: Any
    """Reference to the estimates."""
    images: ImageArray


class RemoteNetwork:
    """The pool as a worker sees it; each call goes to the actor with the least of its own.

    Only to actors that are there: a GPU that was asked for may come late or not at all. Equally
    busy ones take turns, and each worker begins with another one, or all would choose the first.
    """

    ahead = BATCHES_AHEAD

    def __init__(self, actors: list[Any]) -> None:
        self._actors = actors
        self._waiting: Counter[int] = Counter()
        self._there: list[int] = []
        self._starting: dict[Any, int] | None = None
        self._turn = 0

    def submit(self, images: ImageArray) -> Ticket:
        """Send crops; they are copied once, into the object store."""
        self._look()
        count = len(self._actors)
        chosen = min(self._there, key=lambda n: (self._waiting[n], (n - self._turn) % count))
        self._turn = chosen + 1
        self._waiting[chosen] += 1
        return Ticket(chosen, self._actors[chosen].estimate.remote(images), images)

    def result(self, ticket: Ticket) -> EstimateArrays:
        """Wait for the estimates; of an actor that is silent for too long, ask another one."""
        import ray

        while not ray.wait([ticket.answer], timeout=SILENCE_S)[0]:
            if [ticket.actor] != self._there:
                self._leave(ticket.actor)
                ticket = self.submit(ticket.images)
        self._waiting[ticket.actor] -= 1
        return ray.get(ticket.answer)

    def _leave(self, actor: int) -> None:
        """Do without an actor until it answers again: its node may be gone for good."""
        assert self._starting is not None
        self._waiting[actor] -= 1
        if actor in self._there:
            self._there.remove(actor)
            self._starting[self._actors[actor].use.remote()] = actor

    def _look(self) -> None:
        """See which actors are there; wait for the first."""
        import ray

        if self._starting is None:
            self._starting = {a.use.remote(): n for n, a in enumerate(self._actors)}
            self._turn = os.getpid() % len(self._actors)
        if self._starting:
            waiting = list(self._starting)
            if not self._there:
                ray.wait(waiting, num_returns=1)
            done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0.0)
            self._there += [self._starting.pop(reference) for reference in done]


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
        """So far, of the actors that are there."""
        import ray

        asked = [actor.use.remote() for actor in self._actors]
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE_S)
        parts = ray.get(answered)
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
