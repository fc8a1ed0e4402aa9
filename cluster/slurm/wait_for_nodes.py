"""Wait until that many nodes have joined the Ray cluster at RAY_ADDRESS."""

import logging
import os
import socket
import sys
import time

import ray

PATIENCE_S = 300.0


def is_listening(address: str) -> bool:
    """Whether the head takes connections."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex((host, int(port))) == 0


def main(wanted: int) -> int:
    """0 when they are there, 1 when time is up."""
    until = time.monotonic() + PATIENCE_S
    found = 0
    while found < wanted and time.monotonic() < until:
        time.sleep(0.5)
        if ray.is_initialized():
            found = sum(node["Alive"] for node in ray.nodes())
        elif is_listening(os.environ["RAY_ADDRESS"]):
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
    if found < wanted:
        sys.stderr.write(f"{found} of {wanted} nodes joined Ray within {PATIENCE_S:.0f} s\n")
    return int(found < wanted)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
