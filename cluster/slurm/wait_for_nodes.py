"""Wait until that many nodes have joined the Ray cluster at RAY_ADDRESS."""

import logging
import sys
import time

import ray

PATIENCE_S = 300.0


def nodes_alive() -> int:
    """Nodes of the cluster; none while its head does not answer."""
    try:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        return sum(node["Alive"] for node in ray.nodes())
    except ConnectionError:
        return 0


def main(wanted: int) -> int:
    """0 when they are there, 1 when time is up."""
    until = time.monotonic() + PATIENCE_S
    while (found := nodes_alive()) < wanted:
        if time.monotonic() > until:
            sys.stderr.write(f"{found} of {wanted} nodes joined Ray within {PATIENCE_S:.0f} s\n")
            return 1
        time.sleep(1.0)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
