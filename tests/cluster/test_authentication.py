"""Whoever lacks the token gets nothing from a cluster; whoever has it needs to say nothing more."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ray_head import RAY, RayHead, ray_head

ROOT = Path(__file__).parents[2]
CONNECT = (
    "from d3ke_platform import runtime\n"
    "import ray\n"
    "with runtime.connect() as session:\n"
    "    @ray.remote\n"
    "    def answer():\n"
    "        return 42\n"
    "    print(session.is_local, ray.get(answer.remote()))\n"
)


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    # Common environment of all clusters, as the cluster files give it to their nodes.
    with ray_head(variables=common_environment()) as running:
        yield running


def common_environment() -> dict[str, str]:
    lines = (ROOT / "cluster" / "ray.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return dict(pairs)


def request(head: RayHead, token: str | None) -> int:
    """Status of an attempt to have the cluster run a command."""
    place = urlsplit(head.dashboard)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    connection.request("POST", "/api/jobs/", json.dumps({"entrypoint": "id"}), headers)
    return connection.getresponse().status


def client(head: RayHead, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A program on the cluster, of a user who has no more than these variables."""
    bare = {name: value for name, value in head.environment.items() if "RAY_" not in name}
    search = os.pathsep.join((str(ROOT), str(ROOT / "platform")))
    given = {"RAY_ADDRESS": head.address, "HOME": str(home), "PYTHONPATH": search}
    return subprocess.run(
        [sys.executable, "-c", CONNECT],
        env=bare | given | variables,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_submission_without_the_token_is_refused(head: RayHead, tmp_path: Path) -> None:
    assert request(head, None) == 401
    assert request(head, "0" * 64) == 403
    submit = ("job", "submit", "--address", head.dashboard, "--", "id")
    environment = {k: v for k, v in head.environment.items() if not k.startswith("RAY_AUTH")}
    done = subprocess.run(
        [sys.executable, *RAY, *submit],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "authentication token" in done.stdout + done.stderr
    assert request(head, head.environment["RAY_AUTH_TOKEN"]) == 200


@pytest.mark.slow
def test_a_client_needs_the_token_and_no_more(head: RayHead, tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text(head.environment["RAY_AUTH_TOKEN"])
    done = client(head, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "42"]


@pytest.mark.long
def test_a_client_without_the_token_is_told_what_it_lacks(head: RayHead, tmp_path: Path) -> None:
    done = client(head, tmp_path)
    assert done.returncode != 0
    assert "42" not in done.stdout
    assert "RAY_AUTH_TOKEN" in done.stderr.splitlines()[-1]
