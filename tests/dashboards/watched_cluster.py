"""A Ray cluster of its own with a Prometheus that watches it, and jobs to run on it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from board_parts import DASHBOARDS, ROOT

_ATTEMPTS = 5
_STARTED = "Ray runtime started"
RAY = (sys.executable, "-m", "ray.scripts.scripts")


@dataclass
class Watched:
    """The cluster, and questions to its Prometheus."""

    folder: Path
    """Short: Ray's sockets lie below it."""
    gcs: int = field(default_factory=lambda: free_port())
    prometheus_port: int = field(default_factory=lambda: free_port())
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("RAY_", "MLFLOW_", "PYTEST_"))
        }
        self.environment |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "OMP_NUM_THREADS": "1",
            # Ray's workers give way to everybody else on the machine by default.
            "RAY_worker_niceness": "0",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}",
        }

    def start_head(self) -> None:
        """A head of six logical CPUs. On a busy machine Ray gives up after 30 s: once more."""
        ports = ("--port", str(self.gcs), "--dashboard-port", str(free_port()))
        for _ in range(_ATTEMPTS):
            agent = ("--dashboard-agent-listen-port", str(free_port()))
            command = (*RAY, "start", "--head", "--block", *ports, *agent, *self._options(6))
            self._start("head", *command)
            if self._is_up("head", self.processes[-1]):
                return
            end(self.processes.pop())
        raise TimeoutError((self.folder / "head.log").read_text()[-2000:])

    def _is_up(self, name: str, process: subprocess.Popen[bytes]) -> bool:
        """Wait until Ray says so; False where it gave up."""
        log = self.folder / f"{name}.log"
        before = log.read_text().count(_STARTED) if log.exists() else 0
        while process.poll() is None:
            if log.read_text().count(_STARTED) > before:
                return True
            time.sleep(0.5)
        return False

    def start_node(self) -> subprocess.Popen[bytes]:
        """A second node on this machine."""
        agent = ("--dashboard-agent-listen-port", str(free_port()))
        address = ("--address", f"127.0.0.1:{self.gcs}")
        self._start("node", *RAY, "start", "--block", *address, *agent, *self._options(1))
        return self.processes[-1]

    def start_prometheus(self, program: Path) -> None:
        """With the configuration of this repository, but for where the list of nodes lies."""
        text = (DASHBOARDS / "prometheus.yml").read_text(encoding="utf-8")
        known = "/tmp/ray/prom_metrics_service_discovery.json"
        assert known in text
        listed = str(self.folder / "ray" / "prom_metrics_service_discovery.json")
        text = text.replace(known, listed).replace("scrape_interval: 15s", "scrape_interval: 5s")
        text = text.replace("evaluation_interval: 30s", "evaluation_interval: 5s")
        (self.folder / "prometheus.yml").write_text(text)
        shutil.copy(DASHBOARDS / "alerts.yml", self.folder)
        shutil.copytree(DASHBOARDS / "targets", self.folder / "targets")
        self._start(
            "prometheus",
            str(program),
            f"--config.file={self.folder}/prometheus.yml",
            f"--storage.tsdb.path={self.folder}/metrics",
            f"--web.listen-address=127.0.0.1:{self.prometheus_port}",
        )
        wait_for_port(self.prometheus_port, self.processes[-1])

    def job(self, name: str, *arguments: str, timeout_s: float = 3600.0) -> dict[str, Any]:
        """Run a job on the cluster as a user types it; its line of JSON."""
        done = subprocess.run(
            [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments],
            env=self.environment | {"RAY_ADDRESS": f"127.0.0.1:{self.gcs}"},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return dict(json.loads(done.stdout.strip().splitlines()[-1]))

    def ask(self, kind: str, **parameters: object) -> Any:
        """A question to Prometheus' API."""
        query = urllib.parse.urlencode(parameters)
        address = f"http://127.0.0.1:{self.prometheus_port}/api/v1/{kind}?{query}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            return json.load(answer)["data"]

    def has_data(self, expression: str, began: float) -> bool:
        """Whether an expression had a value at any time since `began`."""
        times = {"start": began, "end": time.time(), "step": 5}
        return bool(self.ask("query_range", query=expression, **times)["result"])

    def stop(self) -> None:
        """End everything, the newest first."""
        for process in reversed(self.processes):
            end(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _options(self, cpus: int) -> tuple[str, ...]:
        temporary = ("--temp-dir", str(self.folder / "ray")) if cpus > 1 else ()
        store = ("--object-store-memory", str(300_000_000))
        return ("--num-cpus", str(cpus), "--disable-usage-stats", *store, *temporary)

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment,
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)


@contextmanager
def watched_cluster(prometheus: Path) -> Iterator[Watched]:
    """A running head and a running Prometheus."""
    cluster = Watched(Path(tempfile.mkdtemp(prefix="w-")))
    try:
        cluster.start_head()
        cluster.start_prometheus(prometheus)
        yield cluster
    finally:
        cluster.stop()


def end(process: subprocess.Popen[bytes], *, kindly: bool = True) -> None:
    """End a process and all that it has started; Ray's leave their parent's group."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    if kindly:
        process.send_signal(signal.SIGTERM)
        psutil.wait_procs([*family], timeout=30)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    if process.poll() is None:
        process.kill()
    process.wait(30)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens, or the process has ended."""
    deadline = time.monotonic() + 180.0
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise TimeoutError(f"nobody listens on {port}")
