"""A PostgreSQL of its own for a test, on the loopback interface, with a password."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tracking_server import free_port

USER = "postgres"


@contextmanager
def postgresql(*databases: str) -> Iterator[str]:
    """Address without a database's name, for SQLAlchemy; skips where there is no PostgreSQL."""
    programs = _programs()
    # It refuses to run as root.
    prefix = ["runuser", "-u", USER, "--"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    password, port = secrets.token_urlsafe(12), free_port()
    secret = folder / "password"
    secret.write_text(password)
    if prefix:
        shutil.chown(folder, USER)
        shutil.chown(secret, USER)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*prefix, str(programs / program), *arguments],
            check=True,
            capture_output=True,
            timeout=120,
            cwd=folder,
            env={**os.environ, "PGPASSWORD": password},
        )

    data = str(folder / "data")
    try:
        run("initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", "--pwfile", str(secret))
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        run("pg_ctl", "-D", data, "-w", "-o", options, "-l", str(folder / "log"), "start")
        try:
            for name in databases:
                run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", USER, name)
            yield f"postgresql+psycopg2://{USER}:{password}@127.0.0.1:{port}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """The folder with all of PostgreSQL's programs; Debian has few of them in the path."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "createdb")):
            return folder
    pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
