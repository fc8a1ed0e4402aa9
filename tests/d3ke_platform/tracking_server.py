"""A real MLflow tracking server with basic authentication, on the loopback interface."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

ADMIN = "admin"


@dataclass
class TrackingServer:
    """One server process; artefacts go through it."""

    folder: Path
    store: str
    """Database of runs."""
    users: str
    """Database of users."""
    permission: str = "READ"
    """What users may do with each other's experiments."""
    bucket: str = ""
    """Where the server keeps artefacts; "": in its folder."""
    endpoint: str = ""
    """Of the bucket's server."""
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """What MLFLOW_TRACKING_URI is set to."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def artifacts(self) -> Path:
        """Where the server keeps artefacts; clients never see it."""
        return self.folder / "artifacts"

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "auth.ini"
        config.write_text(
            f"[mlflow]\ndefault_permission = {self.permission}\ndatabase_uri = {self.users}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        environment = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
        environment |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(config),
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        }
        if self.endpoint:
            environment["MLFLOW_S3_ENDPOINT_URL"] = self.endpoint
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
        command += ["--backend-store-uri", self.store, "--artifacts-destination"]
        command += [
            self.bucket or str(self.artifacts),
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--workers", "1"],
                env=environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    def stop(self) -> None:
        """End the server and its workers at once."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)

    def log(self) -> str:
        """What the server has printed."""
        return (self.folder / "log.txt").read_text(encoding="utf-8", errors="replace")

    def _wait(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 300.0
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5)
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.5)
            else:
                return
        raise TimeoutError(self.log())


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
