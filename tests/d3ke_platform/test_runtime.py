from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from d3ke_platform import runtime, telemetry

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


def test_progress_without_a_terminal_is_a_log_line_now_and_then(monkeypatch, caplog) -> None:
    monkeypatch.setattr(telemetry.logger, "propagate", True)
    monkeypatch.setattr(telemetry, "_LOG_INTERVAL_S", 0.0)
    with caplog.at_level("INFO"), telemetry.progress("crop", 3) as report:
        report.advance()
        report.advance(2, note="1 rejected")
    assert [record.message for record in caplog.records] == [
        "crop: 1 of 3 ",
        "crop: 3 of 3 1 rejected",
    ]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_job_still_ends_at_sigterm_as_it_wants_to():
    """Ray puts its own handler in place, with which `finally` clauses end in an abort."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
