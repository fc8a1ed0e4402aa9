"""Who gets the crops: actors that are there, in turns, and another one where one falls silent."""

from __future__ import annotations

import sys
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from d3ke_platform.pipelines import network_pool
from d3ke_platform.pipelines.network_pool import RemoteNetwork

CROPS = np.zeros((2, 3, 8, 8), np.uint8)


class Answer:
    """A reference: there when its actor is."""

    def __init__(self, actor: FakeActor, value: object) -> None:
        self.actor, self.value = actor, value


class FakeActor:
    def __init__(self, number: int, *, there: bool = True) -> None:
        self.number, self.there, self.asked = number, there, 0
        self.use = SimpleNamespace(remote=lambda: Answer(self, {}))
        self.estimate = SimpleNamespace(remote=self._estimate)

    def _estimate(self, images: np.ndarray) -> Answer:
        self.asked += 1
        return Answer(self, self.number)


@pytest.fixture(autouse=True)
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def wait(answers: list[Answer], *, num_returns: int = 1, timeout: float | None = None) -> Any:
        done = [answer for answer in answers if answer.actor.there]
        assert done or timeout is not None, "waits for ever"
        return done[:num_returns], done[num_returns:]

    monkeypatch.setitem(
        sys.modules, "ray", SimpleNamespace(wait=wait, get=lambda answer: answer.value)
    )


def score(network: RemoteNetwork, batches: int) -> list[Any]:
    """As a worker does: some batches ahead, results in order."""
    waiting: list[Any] = []
    found = []
    for _ in range(batches):
        waiting.append(network.submit(CROPS))
        if len(waiting) > network.ahead:
            found.append(network.result(waiting.pop(0)))
    return found + [network.result(ticket) for ticket in waiting]


@pytest.mark.parametrize("workers", [1, 5])
def test_all_actors_get_as_much(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    actors = [FakeActor(number) for number in range(8)]
    for worker in range(workers):
        monkeypatch.setattr(network_pool.os, "getpid", lambda worker=worker: 1000 + 3 * worker)
        assert len(score(RemoteNetwork(actors), 40)) == 40
    assert {actor.asked for actor in actors} == {5 * workers}


def test_workers_begin_with_different_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    actors = [FakeActor(number) for number in range(4)]
    first = Counter()
    for worker in range(8):
        monkeypatch.setattr(network_pool.os, "getpid", lambda worker=worker: 1000 + worker)
        first[RemoteNetwork(actors).submit(CROPS).actor] += 1
    assert set(first.values()) == {2}


def test_an_actor_that_never_came_is_not_asked_and_one_that_comes_late_is() -> None:
    actors = [FakeActor(0, there=False), FakeActor(1), FakeActor(2, there=False)]
    network = RemoteNetwork(actors)
    assert score(network, 6) == [1] * 6
    actors[2].there = True
    assert Counter(score(network, 10)) == {1: 5, 2: 5}
    assert actors[0].asked == 0


def test_crops_of_a_silent_actor_go_to_another() -> None:
    actors = [FakeActor(0), FakeActor(1)]
    network = RemoteNetwork(actors)
    tickets = [network.submit(CROPS) for _ in range(4)]
    actors[0].there = False  # its node is gone
    assert [network.result(ticket) for ticket in tickets] == [1] * 4
    assert score(network, 4) == [1] * 4
    actors[0].there = True
    assert Counter(score(network, 8)) == {0: 4, 1: 4}
