from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from d3ke_platform import runtime
from d3ke_platform.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def test_both_packages_are_sent_to_a_cluster_that_lacks_them() -> None:
    folders = [Path(folder) for folder in runtime.package_folders()]
    assert folders == [ROOT / "d3ke", ROOT / "platform" / "d3ke_platform"]
    environment = runtime._runtime_environment()
    assert environment["py_modules"] == [str(folder) for folder in folders]
    assert environment["env_vars"]["OMP_NUM_THREADS"] == "1"


def test_the_environment_is_put_back_and_the_users_values_win(monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("PYTHONPATH", "/mine")
    with runtime._environment(runtime._local_environment()):
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert os.environ["MKL_NUM_THREADS"] == "1"
        search = os.environ["PYTHONPATH"].split(os.pathsep)
        assert search == [str(ROOT), str(ROOT / "platform"), "/mine"]
    assert os.environ["PYTHONPATH"] == "/mine"
    assert "MKL_NUM_THREADS" not in os.environ


def test_native_messages_show_only_after_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    with runtime._native_stderr_held():
        os.write(2, b"chatter")
    assert capfd.readouterr().err == ""

    def fail() -> None:
        with runtime._native_stderr_held():
            os.write(2, b"cause")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capfd.readouterr().err == "cause"


def test_the_bootstrap_finds_the_packages_from_anywhere() -> None:
    program = "import _bootstrap, d3ke, d3ke_platform.cli; print(d3ke_platform.cli.recipe_folder())"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PYTHONPATH": str(ROOT / "jobs")},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(ROOT / "jobs" / "recipes")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_cluster_that_grows_counts_as_what_it_can_become(monkeypatch) -> None:
    there = runtime.total_cpus()
    monkeypatch.setenv("D3KE_MAX_CPUS", "1000")
    monkeypatch.setenv("D3KE_MAX_GPUS", "8")
    assert (runtime.total_cpus(), runtime.total_gpus()) == (1000.0, 8.0)
    monkeypatch.setenv("D3KE_MAX_CPUS", "1")
    assert runtime.total_cpus() == there
    monkeypatch.setenv("D3KE_MAX_CPUS", "all")
    with pytest.raises(UsageError, match="D3KE_MAX_CPUS is 'all'"):
        runtime.total_cpus()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_local_ray_is_heard_on_this_machine_alone() -> None:
    listening = [
        connection.laddr.ip
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 3
    assert {ip for ip in listening if ip not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")} == set()


def test_the_users_token_is_made_for_the_user_alone(tmp_path: Path, monkeypatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / ".ray" / "auth_token"
    runtime._keep_token_private()
    token = file.read_text()
    assert len(token) == 64
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]
    file.chmod(0o644)  # as Ray makes it
    runtime._keep_token_private()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == token
    file.unlink()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    runtime._keep_token_private()
    assert not file.exists()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_job_still_ends_at_sigterm_as_it_wants_to():
    """Ray puts its own handler in place, with which `finally` clauses end in an abort."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
