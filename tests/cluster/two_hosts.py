"""Hosts of a cluster on this machine: network namespaces with addresses, processes and /tmp of
their own, joined by a switch whose ports can be shut.

All namespaces are anonymous: they are there as long as their first process, which ends with the
process that made it. A test that is killed leaves no namespace, interface or process behind.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).resolve().parents[2]
HEAD, WORKER = "10.77.0.1", "10.77.0.2"
GATEWAY = "10.77.0.254"  # nobody; Ray wants a default route to find out its own address
GCS_PORT, DASHBOARD = 6379, "http://127.0.0.1:8265"
OBJECT_STORE_BYTES = 200_000_000
_TOOLS = ("ip", "unshare", "nsenter", "setpriv", "taskset", "mount", "bash")
_PATIENCE_S = 300.0

# First process of a host. Bash collects the processes that lose their parent.
_INIT = """
mount -t tmpfs none /dev/shm && mount -t tmpfs none /tmp/ray && ip link set lo up || exit 1
echo ready
sleep infinity & wait
"""

_NODES = """
import json, os, urllib.request
token = os.environ["RAY_AUTH_TOKEN"]
request = urllib.request.Request("{url}/nodes?view=summary", headers=dict(Authorization="Bearer " + token))
nodes = json.load(urllib.request.urlopen(request, timeout=20))["data"]["summary"]
print(json.dumps([(node["ip"], node["raylet"]["state"]) for node in nodes]))
"""  # noqa: E501


def unavailable() -> str:
    """Why hosts cannot be made here; empty where they can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)} (Debian: iproute2, util-linux)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Namespace() as one, Namespace() as other:
            _connect(one, other)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"network namespaces cannot be made here ({error})"
    return ""


class Closing:
    """A context that closes itself at its end."""

    def close(self) -> None:
        """End everything that was started."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Namespace(Closing):
    """Network, processes and mounts of their own; ended by `close` or with this process."""

    def __init__(self, cores: Collection[int] = ()) -> None:
        """`cores`: of the machine, that what runs inside may use; none: all."""
        self._cores = ",".join(map(str, cores))
        Path("/tmp/ray").mkdir(exist_ok=True)  # mounted over, never written
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),
                *("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"),
                *("--kill-child=KILL", "--", "bash", "-c", _INIT),
            ],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            self.close()
            raise RuntimeError("a namespace did not start")
        shown = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        self.pid = int(shown)

    def enter(self, *command: str) -> list[str]:
        """The command, as one that runs inside."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", "--", *command]
        return ["taskset", "--cpu-list", self._cores, *enter] if self._cores else enter

    def ip(self, *arguments: str) -> None:
        """Run `ip` inside."""
        _run(*self.enter("ip", *arguments))

    def close(self) -> None:
        """End every process inside at once, as a power cut would."""
        self._process.kill()
        self._process.wait()


class Running:
    """A command on a host; its output goes to a file."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                command,
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=dict(environment),
                cwd=ROOT,
            )

    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def wait(self, timeout_s: float) -> int:
        """Exit status; AssertionError with the end of its output when it takes longer."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s:\n{self.tail()}") from None

    def tail(self, lines: int = 60) -> str:
        """The last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def last_line(self) -> dict[str, Any]:
        """The JSON object that jobs print last."""
        lines = self.log.read_text(errors="replace").splitlines()
        return json.loads(next(line for line in reversed(lines) if line.startswith("{")))

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


class TwoHosts(Closing):
    """A Ray head and a Ray worker node, each a host of its own, with token authentication.

    Ray is started again whenever it ends, as systemd or Kubernetes would; on a loaded machine it
    sometimes takes itself for dead at its start.
    `folder` is what both hosts share, as they share the whole disk.
    """

    def __init__(self, folder: Path, *, cpus: int = 2) -> None:
        """Start both and wait for them; `cpus`: logical CPUs of each."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._cpus = folder, cpus
        self._environment = _environment(folder)
        self._jobs: list[Running] = []
        self._hosts: dict[str, Namespace] = {}
        self._switch = Namespace()
        try:
            self._switch.ip("link", "add", "br0", "type", "bridge")
            self._switch.ip("link", "set", "br0", "up")
            self._boot(HEAD)
            self._boot(WORKER)
            self.wait_for_nodes(2)
        except BaseException:
            self.close()
            raise

    def submit(self, name: str, *command: str) -> Running:
        """`ray job submit` of a command from the head, as cluster/README.md has it."""
        return self.run(
            name,
            *("ray", "job", "submit", f"--address={DASHBOARD}", f"--working-dir={ROOT}"),
            *(f"--runtime-env={ROOT / 'cluster' / 'runtime-env.yaml'}", "--", *command),
        )

    def run(self, name: str, *command: str) -> Running:
        """Start a command on the head."""
        entered = self._hosts[HEAD].enter(*command)
        self._jobs.append(Running(entered, self.folder / f"{name}.log", self._environment))
        return self._jobs[-1]

    def cut(self) -> None:
        """Pull the worker's cable."""
        self._switch.ip("link", "set", _port(WORKER), "down")

    def mend(self) -> None:
        """Plug it in again."""
        self._switch.ip("link", "set", _port(WORKER), "up")

    def cut_for(self, seconds: float) -> None:
        """A cable that is out for a while."""
        self.cut()
        time.sleep(seconds)
        self.mend()

    def kill(self, address: str) -> None:
        """Power off a host."""
        self._hosts.pop(address).close()

    def commands_of(self, address: str) -> list[str]:
        """Command lines of the processes on a host."""
        space = os.readlink(f"/proc/{self._hosts[address].pid}/ns/pid")
        commands = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):  # it may have ended meanwhile
                if os.readlink(f"/proc/{process.pid}/ns/pid") == space:
                    commands.append(" ".join(process.cmdline()))
        return commands

    def busy(self, address: str) -> list[str]:
        """Processes on a host that work for a job: actors, and the children of actors."""
        ours = ("ray::MapWorker", "ray::RayTrainWorker", "multiprocessing.spawn")
        return [line for line in self.commands_of(address) if any(name in line for name in ours)]

    def nodes_alive(self) -> list[str]:
        """Addresses of the nodes that Ray believes to be alive."""
        program = _NODES.format(url=DASHBOARD)
        command = self._hosts[HEAD].enter(sys.executable, "-S", "-c", program)
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            return []
        return [ip for ip, state in json.loads(done.stdout) if state == "ALIVE"]

    def wait_for_nodes(self, count: int, timeout_s: float = _PATIENCE_S) -> float:
        """Wait until so many nodes are alive; seconds that it took."""
        return wait_until(
            lambda: len(self.nodes_alive()) == count, f"{count} nodes", timeout_s, every_s=0.5
        )

    def close(self) -> None:
        """Power off everything."""
        for job in self._jobs:
            job.stop()
        for host in (*self._hosts.values(), self._switch):
            host.close()
        self._hosts.clear()

    def _boot(self, address: str) -> None:
        """Make a host, plug it in and start Ray on it."""
        cores = sorted(os.sched_getaffinity(0))
        half = len(cores) // 2  # of the machine's cores are each host's own, if it has two
        own = cores[:half] if address == HEAD else cores[half : 2 * half]
        host = self._hosts[address] = Namespace(own)
        _connect(host, self._switch, _port(address))
        self._switch.ip("link", "set", _port(address), "master", "br0", "up")
        host.ip("addr", "add", f"{address}/24", "dev", "eth0")
        host.ip("link", "set", "eth0", "up")
        host.ip("route", "add", "default", "via", GATEWAY)
        where = (
            f"--head --port={GCS_PORT} --dashboard-host=127.0.0.1"
            if address == HEAD
            else f"--address={HEAD}:{GCS_PORT}"
        )
        start = (
            f"ray start --block {where} --node-ip-address={address} --num-cpus={self._cpus} "
            f"--object-store-memory={OBJECT_STORE_BYTES}"
        )
        log = self.folder / f"ray-{address}.log"
        command = host.enter("bash", "-c", f"while :; do {start}; sleep 1; done")
        self._jobs.append(Running(command, log, self._environment))


def wait_until(
    condition: Callable[[], Any], what: str, timeout_s: float = _PATIENCE_S, every_s: float = 0.05
) -> float:
    """Wait until `condition()` holds; seconds that it took, AssertionError after `timeout_s`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > timeout_s:
            raise AssertionError(f"no {what} within {timeout_s} s")
        time.sleep(every_s)
    return time.monotonic() - began


def _environment(folder: Path) -> dict[str, str]:
    """Of everything on the hosts: little of ours, and the token."""
    kept = {name: os.environ[name] for name in ("LANG", "D3KE_POSE_MODEL") if name in os.environ}
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return {
        **kept,
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "platform")]),
        **_settings(ROOT / "cluster" / "ray.env"),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "OMP_NUM_THREADS": "1",
    }


def _settings(file: Path) -> dict[str, str]:
    """Variables of an environment file."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _connect(host: Namespace, switch: Namespace, port: str = "port") -> None:
    """A cable from the host's eth0 to a port of the switch."""
    _run(
        *("ip", "link", "add", "eth0", "netns", str(host.pid)),
        *("type", "veth", "peer", "name", port, "netns", str(switch.pid)),
    )


def _port(address: str) -> str:
    return f"port{address.rpartition('.')[2]}"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
