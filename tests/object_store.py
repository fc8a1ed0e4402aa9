"""A real S3 server on the loopback interface, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

pytest.importorskip("moto", reason="the S3 server, moto, is not installed")


class S3Server:
    """moto's server in a process of its own; the environment points pyarrow at it."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self._log, self._names = log, count()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.endpoint}/moto-api/", timeout=5).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.close()
                    raise RuntimeError(f"moto did not start:\n{self._log.read_text()}") from None
                time.sleep(0.1)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to find the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def bucket(self) -> str:
        """URI of a new bucket."""
        name = f"bucket-{next(self._names)}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()
        return f"s3://{name}"

    def root(self, uri: str) -> str:
        """URI of an object's bucket."""
        return "/".join(uri.split("/")[:3])

    def requests(self) -> list[str]:
        """Lines of the server's log, one for each request."""
        return [line for line in self._log.read_text().splitlines() if " HTTP/1.1" in line]

    def close(self) -> None:
        """End the server."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server, with the environment of this process pointing at it."""
    server = S3Server(tmp_path_factory.mktemp("s3") / "server.log")
    before = {name: os.environ.get(name) for name in server.environment}
    os.environ.update(server.environment)
    try:
        yield server
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        server.close()
