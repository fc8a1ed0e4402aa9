"""A job as users start it, watched from outside: its memory by kind of process, what it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

ROOT = Path(__file__).parents[2]
_MARK = "D3KE_TEST_JOB"


@dataclass
class WatchedJob:
    """What a finished job has said and taken."""

    status: int
    text: str
    """All it printed."""
    summary: dict[str, Any]
    """Its last line, if that is JSON."""
    left: list[str]
    """Command lines of processes that were there after it, and their end was waited for."""
    peak_bytes: int
    """Highest sum of the memory of all its processes, what they share counted once."""
    peak_by_kind: dict[str, int] = field(default_factory=dict)
    """The highest of each kind of process."""

    def write_figures(self, path: Path) -> None:
        """Keep what was measured as JSON, memory in GB."""
        kinds = {kind: round(used / 1e9, 3) for kind, used in sorted(self.peak_by_kind.items())}
        peak = {"peak_gb": round(self.peak_bytes / 1e9, 3), "peak_gb_by_kind": kinds}
        path.write_text(json.dumps({**peak, "summary": self.summary}, indent=2))


def run_job(job: str, *arguments: str, environment: dict[str, str] | None = None) -> WatchedJob:
    """Run jobs/<job>.py to its end."""
    mark = uuid4().hex
    command = [sys.executable, str(ROOT / "jobs" / f"{job}.py"), *arguments]
    known = {**os.environ, **(environment or {}), _MARK: mark}
    watch = _Watch(mark)
    with subprocess.Popen(
        command, env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watch.start()
        text, _ = process.communicate()
    watch.stop()
    lines = text.strip().splitlines()
    try:
        summary = json.loads(lines[-1]) if lines else {}
    except ValueError:
        summary = {}
    return WatchedJob(
        status=process.returncode,
        text=text,
        summary=summary,
        left=_left(mark),
        peak_bytes=watch.peak_bytes,
        peak_by_kind=dict(watch.peaks),
    )


def job_processes(mark: str) -> list[psutil.Process]:
    """Processes with the job's mark in their environment: all it started, whoever their parent."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(_MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _left(mark: str, patience_s: float = 20.0) -> list[str]:
    until = time.monotonic() + patience_s
    while job_processes(mark) and time.monotonic() < until:
        time.sleep(0.5)
    return [" ".join(process.cmdline()) for process in job_processes(mark)]


class _Watch(threading.Thread):
    """Samples the memory of a job's processes once a second; pages they share count once (PSS)."""

    def __init__(self, mark: str) -> None:
        super().__init__(daemon=True)
        self._mark, self._ended = mark, threading.Event()
        self.peaks: Counter[str] = Counter()
        self.peak_bytes = 0

    def run(self) -> None:
        while not self._ended.wait(1.0):
            now: Counter[str] = Counter()
            for process in job_processes(self._mark):
                try:
                    now[_kind(process)] += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak_bytes = max(self.peak_bytes, sum(now.values()))
            for kind, used in now.items():
                self.peaks[kind] = max(self.peaks[kind], used)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _kind(process: psutil.Process) -> str:
    """What a process is to the job."""
    text = " ".join(process.cmdline())
    if "spawn_main" in text:
        return "decoder child"
    for sign, kind in (
        ("jobs/", "driver"),
        ("ray::IDLE", "idle Ray worker"),
        ("ray::", text.split("::", 1)[-1].split("(")[0].split(".")[0].strip()),
        ("gcs_server", "Ray's own"),
        ("raylet", "Ray's own"),
        ("dashboard", "Ray's own"),
        ("ray/_private", "Ray's own"),
    ):
        if sign in text:
            return kind
    return "other"
