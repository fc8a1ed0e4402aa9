"""Ray's encryption with the certificates that cluster/make-certificates.sh makes."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_head import RayHead, client, ray_head

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "make-certificates.sh"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the script prints, as variables."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    # The test's head is reached by whatever address Ray takes for this machine.
    addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True, check=True)
    folder = tmp_path_factory.mktemp("tls") / "certificates"
    command = ["bash", SCRIPT, folder, "head.example.org", *addresses.stdout.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_the_files_are_private_and_the_authoritys_key_is_gone(settings: dict[str, str]) -> None:
    folder = Path(settings["RAY_TLS_CA_CERT"]).parent
    assert {path.name for path in folder.iterdir()} == {"ca.crt", "node.crt", "node.key"}
    assert {path.stat().st_mode & 0o077 for path in folder.iterdir()} == {0}
    names = subprocess.run(
        ["openssl", "x509", "-in", folder / "node.crt", "-noout", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "DNS:head.example.org" in names
    assert "IP Address:127.0.0.1" in names


@pytest.fixture(scope="module")
def head(settings: dict[str, str]) -> Iterator[RayHead]:
    with ray_head(variables=settings) as running:
        yield running


@pytest.mark.long
def test_whoever_speaks_to_the_cluster_sees_its_certificate(
    head: RayHead, settings: dict[str, str]
) -> None:
    host, _, port = head.address.rpartition(":")
    context = ssl.create_default_context(cafile=settings["RAY_TLS_CA_CERT"])
    context.load_cert_chain(settings["RAY_TLS_SERVER_CERT"], settings["RAY_TLS_SERVER_KEY"])
    plain = socket.create_connection((host, int(port)), 10)
    with context.wrap_socket(plain, server_hostname=host) as encrypted:
        assert encrypted.version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.long
def test_a_client_with_the_certificate_works(
    head: RayHead, settings: dict[str, str], tmp_path: Path
) -> None:
    done = client(head, tmp_path, RAY_AUTH_TOKEN=head.environment["RAY_AUTH_TOKEN"], **settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "42"]


@pytest.mark.long
def test_a_client_without_encryption_is_refused_even_with_the_token(
    head: RayHead, tmp_path: Path
) -> None:
    done = client(head, tmp_path, RAY_AUTH_TOKEN=head.environment["RAY_AUTH_TOKEN"])
    assert done.returncode != 0
    assert "42" not in done.stdout
