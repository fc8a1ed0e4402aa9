"""How training workers on several machines find each other, and when they give up on one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.train.torch import TorchConfig

SILENCE_TIMEOUT_S = 300
"""Seconds that a worker waits for the others in one exchange. Their steps take the same time, and
validation and checkpoints are outside, so that minutes of silence are a broken connection. Ray
notices a lost machine itself, after about 15 s; this is for a network that fails between workers
only. PyTorch's own 30 minutes would leave GPUs idle for as long."""
INTERFACE = "GLOO_SOCKET_IFNAME"


@dataclass
class ProcessGroupConfig(TorchConfig):
    """Ray's settings of the process group, with the network interface found out by itself."""

    timeout_s: int = SILENCE_TIMEOUT_S

    @property
    def backend_cls(self) -> type[Any]:
        """What sets up the process group."""
        return _ProcessGroupBackend


class _ProcessGroupBackend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray has no types
    def on_start(self, worker_group: Any, backend_config: ProcessGroupConfig) -> None:
        """Runs in the controller once all workers are there."""
        worker_group.execute(choose_interface)
        try:
            super().on_start(worker_group, backend_config)
        except RayTaskError as error:
            # Workers that cannot reach each other now may do so in a minute. Ray starts a group
            # again when it lost a worker at its start, but takes this for a defect of ours.
            raise RayActorError(error_msg=f"The workers cannot connect: {error}") from error


def choose_interface() -> None:
    """Let Gloo talk through the interface that Ray reaches this node by; a user's choice stays.

    Gloo takes what the host's name resolves to. On many installations that is the loopback
    address, and workers on other machines are told to connect to themselves.
    """
    name = interface_of(ray.util.get_node_ip_address(), _addresses())
    if name:
        os.environ.setdefault(INTERFACE, name)


def interface_of(address: str, addresses: Mapping[str, Iterable[str]]) -> str:
    """Interface with an address; "" where none has it (as behind address translation)."""
    return next((name for name, own in addresses.items() if address in own), "")


def _addresses() -> dict[str, list[str]]:
    """Addresses of each interface of this machine."""
    return {
        # IPv6 addresses carry the interface they are valid on: fe80::1%eth0.
        name: [entry.address.partition("%")[0] for entry in entries]
        for name, entries in psutil.net_if_addrs().items()
    }
