"""Whoever lacks the token gets nothing from a cluster; whoever has it needs to say nothing more."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ray_head import RAY, RayHead, client, ray_head

ROOT = Path(__file__).parents[2]


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


@pytest.mark.slow
def test_a_token_of_ones_own_does_no_harm_where_none_is_wanted(tmp_path: Path) -> None:
    """Shown to a cluster without tokens, it had every actor ended at once."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    with ray_head(variables={"RAY_AUTH_MODE": "disabled"}) as open_head:
        done = client(open_head, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "42"]


@pytest.mark.long
def test_a_client_without_the_token_is_told_what_it_lacks(head: RayHead, tmp_path: Path) -> None:
    done = client(head, tmp_path)
    assert done.returncode != 0
    assert "42" not in done.stdout
    assert "RAY_AUTH_TOKEN" in done.stderr.splitlines()[-1]


def test_what_all_agree_on_is_in_one_place_and_no_secret_is_anywhere() -> None:
    files = [ROOT / "ray-cluster.yaml", *(ROOT / "cluster").rglob("*")]
    texts = {path: path.read_text() for path in files if path.is_file() and path.suffix != ".pyc"}
    assert len(texts) > 12
    setting = [path.name for path, text in texts.items() if re.search("RAY_AUTH_MODE[=:]", text)]
    assert setting == ["ray.env"]
    assert common_environment()["RAY_AUTH_MODE"] == "token"
    secret = re.compile(
        r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|[0-9a-f]{40}"
        r"|(password|secret|token|key)\s*[:=]\s*['\"]?[\w/+]{16}",
        re.IGNORECASE,
    )
    assert {
        path.name: found[0] for path, text in texts.items() if (found := secret.search(text))
    } == {}
