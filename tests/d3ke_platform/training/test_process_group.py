"""Which network interface the workers of a training use."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
from ray.exceptions import RayActorError, RayTaskError

from d3ke_platform.training.process_group import (
    INTERFACE,
    SILENCE_TIMEOUT_S,
    ProcessGroupConfig,
    choose_interface,
    interface_of,
)
from d3ke_platform.training.trainer import Resources


def test_the_interface_is_the_one_with_rays_address() -> None:
    addresses = {
        "lo": ["127.0.0.1", "::1"],
        "ib0": ["192.168.9.4"],
        "eth0": ["10.0.0.4", "fe80::1"],
    }
    assert interface_of("10.0.0.4", addresses) == "eth0"
    assert interface_of("fe80::1", addresses) == "eth0"
    assert interface_of("10.0.0.40", addresses) == ""


def test_this_machines_addresses_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INTERFACE, raising=False)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    choose_interface()
    loopback = os.environ.pop(INTERFACE)
    assert "127.0.0.1" in {entry.address for entry in psutil.net_if_addrs()[loopback]}


def test_a_users_own_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INTERFACE, "ib0")
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    choose_interface()
    assert os.environ[INTERFACE] == "ib0"


def test_an_unknown_address_leaves_the_choice_to_gloo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(INTERFACE, raising=False)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "203.0.113.9")
    choose_interface()
    assert INTERFACE not in os.environ


def test_the_interface_is_chosen_before_the_group_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Group:
        def execute(self, function: Any, *_: Any, **__: Any) -> None:
            order.append(function.__name__)

    backend = ProcessGroupConfig().backend_cls()
    monkeypatch.setattr(
        type(backend).__mro__[1], "on_start", lambda *_: order.append("process group")
    )
    backend.on_start(Group(), ProcessGroupConfig())
    assert order == [choose_interface.__name__, "process group"]
    assert ProcessGroupConfig().to_dict()["timeout_s"] == SILENCE_TIMEOUT_S


def test_workers_that_cannot_connect_are_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray does so after the loss of a worker only."""

    def fail(*_: Any) -> None:
        raise RayTaskError("setup", "traceback", RuntimeError("connection refused"))

    backend = ProcessGroupConfig().backend_cls()
    monkeypatch.setattr(type(backend).__mro__[1], "on_start", fail)
    with pytest.raises(RayActorError, match="cannot connect: .*"):
        backend.on_start(SimpleNamespace(execute=lambda _: None), ProcessGroupConfig())


def test_cpu_workers_are_spread_over_machines_and_gpu_workers_packed() -> None:
    assert Resources(workers=2).scaling().placement_strategy == "SPREAD"
    assert Resources(workers=2, gpu=True).scaling().placement_strategy == "PACK"
