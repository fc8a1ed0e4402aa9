"""A Ray head of a test's own: own ports, own folder, own token, ended with the test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

RAY = ("-m", "ray.scripts.scripts")
ROOT = Path(__file__).parents[1]
PATIENCE_S = 60
CONNECT = (
    "from d3ke_platform import runtime\n"
    "import ray\n"
    "with runtime.connect() as session:\n"
    "    @ray.remote\n"
    "    class Actor:\n"
    "        def answer(self):\n"
    "            return 42\n"
    "    print(session.is_local, ray.get(Actor.remote().answer.remote()))\n"
)


@dataclass(frozen=True)
class RayHead:
    """A running head."""

    python: Path
    """Interpreter that it and its jobs run in."""
    environment: dict[str, str]
    """Environment of its clients, the token included."""
    dashboard: str
    """URL that takes jobs."""
    address: str
    """Address for `ray.init`."""


@contextmanager
def ray_head(
    *,
    python: Path = Path(sys.executable),
    cpus: int = 4,
    variables: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[RayHead]:
    """`ray start --head` with a token of its own; `variables` come on top of the environment."""
    # Unix sockets have short paths, so pytest's long folder will not do.
    session = Path(tempfile.mkdtemp(prefix="ray-"))
    dashboard, gcs, agent, clients = (str(free_port()) for _ in range(4))
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "PYTHONPATH", "PYTEST_"))
    }
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
    # Ray 2.60 makes a token at the first local session and then wants it from clients too, who do
    # not look for it by themselves.
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"  # nothing is left to wait for
    environment |= variables or {}
    ports = ("--port", gcs, "--dashboard-port", dashboard, "--dashboard-agent-listen-port", agent)
    # A second head on a machine would end over the port for old-style clients, 10001.
    ports = (*ports, "--ray-client-server-port", clients)
    more = ("--num-cpus", str(cpus), "--temp-dir", str(session), "--disable-usage-stats", *options)
    log = session / "start.log"
    with log.open("w") as output:
        head = subprocess.Popen(
            [python, *RAY, "start", "--head", "--block", *ports, *more],
            env=environment,
            cwd="/",
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(head, log)
        yield RayHead(python, environment, f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}")
    finally:
        head.send_signal(signal.SIGTERM)
        try:
            head.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
        shutil.rmtree(session, ignore_errors=True)


def client(head: RayHead, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program that has the cluster compute 42, of a user with no settings but these.

    It gets a minute; one that is still waiting then ends with the status of `timeout`, 124.
    """
    bare = {name: value for name, value in head.environment.items() if "RAY_" not in name}
    search = os.pathsep.join((str(ROOT), str(ROOT / "platform")))
    given = {"RAY_ADDRESS": head.address, "HOME": str(home), "PYTHONPATH": search}
    return subprocess.run(
        ["timeout", str(PATIENCE_S), sys.executable, "-c", CONNECT],
        env=bare | given | variables,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(head: subprocess.Popen[bytes], log: Path) -> None:
    """Until `ray start` says that everything runs."""
    for _ in range(300):
        text = log.read_text()
        if "Ray runtime started" in text:
            return
        assert head.poll() is None, f"the Ray head ended with {head.returncode}:\n{text}"
        time.sleep(0.5)
    pytest.fail(f"the Ray head did not come up:\n{text}")
