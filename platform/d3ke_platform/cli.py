"""Command lines of the jobs: settings from flags, files and recipes; exit codes; the last line.

Every job's settings are a frozen dataclass; tyro makes flags and `--help` of it. A recipe or
configuration file only prepends flags, so it is checked like them and flags win.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import signal
import sys
import threading
import time
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

import tyro

from d3ke.errors import D3KEError, UnknownNameError
from d3ke_platform import files
from d3ke_platform.errors import UsageError

DONE, FAILED, BAD_USAGE, TOO_MANY_REJECTS = 0, 1, 2, 3
_INTERRUPTED, _TERMINATED = 130, 143
JOBS = ("prepare", "train", "tune", "score", "evaluate", "demo")

Settings = TypeVar("Settings")


def parse(
    settings_class: type[Settings],
    argv: Sequence[str] | None = None,
    *,
    job: str,
    beneath: Sequence[str] = (),
) -> Settings:
    """Settings of a job from its command line (`sys.argv` by default).

    `--recipe NAME` reads the table of the job in jobs/recipes/NAME.toml (or in NAME, where that
    is the path of a .toml file), `--config FILE.toml` that table of a file, or the whole file where
    it has no tables named after jobs; later ones win, flags win over both. A file's tables of the
    jobs `beneath` are read before the job's own. Raises UsageError, UnknownNameError (an unknown
    key) or whatever the settings' own validation raises; ends with SystemExit(2) after tyro's
    message for wrong flags and SystemExit(0) for `--help`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    recipes, configurations, flags = _split_arguments(arguments)
    paths = [*map(recipe_path, recipes), *map(Path, configurations)]
    tables = [table for path in paths for table in _job_tables(path, (*beneath, job))]
    given = [flag for table in tables for flag in _flags(settings_class, table)]
    names = ", ".join(recipe_names()) or "none"
    return tyro.cli(
        settings_class,
        prog=f"{job}.py",
        args=given + flags,
        description=(
            f"{(settings_class.__doc__ or '').strip()}\n\n"
            f"--recipe NAME takes settings from jobs/recipes/NAME.toml (there are: {names}) or "
            "from a file whose name ends in .toml, --config FILE.toml from any file; flags win "
            "over both."
        ),
    )


def run_job(
    main: Callable[[Any], Any],
    settings_class: type[Any],
    *,
    job: str,
    argv: Sequence[str] | None = None,
    beneath: Sequence[str] = (),
) -> int:
    """Run a job and return its exit code: 0 done, 1 failed, 2 bad usage, 3 too many rejects.

    `main(settings)` returns a summary (dataclass or mapping) whose values are printed as the last
    line, one JSON object; "rejects" in it is compared with the settings' `max_rejects` (a
    negative number allows any), "usable" that is false means failed. A D3KEError becomes one line
    without a traceback.
    """
    started = time.monotonic()
    try:
        settings = parse(settings_class, argv, job=job, beneath=beneath)
    except (D3KEError, ValueError) as error:
        return _fail(job, error, BAD_USAGE, started)
    try:
        with _log_to_stderr(), _terminable():
            summary = main(settings)
    except D3KEError as error:
        return _fail(job, error, getattr(error, "exit_code", FAILED), started)
    except KeyboardInterrupt:
        return _fail(job, UsageError("interrupted; run again to go on"), _INTERRUPTED, started)
    except Exception as error:  # noqa: BLE001  a defect: shown in full, and the last line kept
        traceback.print_exc()
        return _fail(job, error, FAILED, started)
    content = _as_dict(summary)
    code = _exit_code(content, settings)
    status = {DONE: "done", FAILED: "failed"}.get(code, "too many rejects")
    _last_line({"job": job, "status": status, "seconds": _since(started), **content})
    return code


def recipe_folder() -> Path:
    """Folder of the recipes: beside the job that runs, else in the project that holds this file."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    beside = Path(script).resolve().parent / "recipes" if script else None
    if beside is not None and beside.is_dir():
        return beside
    return Path(__file__).resolve().parents[2] / "jobs" / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes there are."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def recipe_path(name: str) -> Path:
    """File of a recipe, by its name or by the path of a .toml file; raises UnknownNameError."""
    if name.endswith(".toml"):
        return Path(name)
    if name not in recipe_names():
        raise UnknownNameError("recipe", name, recipe_names())
    return recipe_folder() / f"{name}.toml"


def _split_arguments(arguments: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Values of --recipe, values of --config, everything else."""
    taken: dict[str, list[str]] = {"--recipe": [], "--config": []}
    rest = []
    waiting = iter(arguments)
    for argument in waiting:
        flag, separator, value = argument.partition("=")
        if flag not in taken:
            rest.append(argument)
            continue
        value = value if separator else next(waiting, "")
        if not value:
            raise UsageError(f"{flag} needs a value.")
        taken[flag].append(value)
    return taken["--recipe"], taken["--config"], rest


def _job_tables(path: Path, jobs: Sequence[str]) -> list[dict[str, Any]]:
    """The file's tables of these jobs, or the whole file if it has no tables named after jobs."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    if any(name in content for name in JOBS):
        for name in content:
            if name not in JOBS:
                raise UnknownNameError(f"table of {path}", name, JOBS)
        return [dict(content.get(job, {})) for job in jobs]
    return [content]


def _flags(settings_class: type[Any], table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Command-line flags of a TOML table; raises UnknownNameError for a key that is no setting."""
    hints = get_type_hints(settings_class)
    valid = [field.name for field in dataclasses.fields(settings_class)]
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in valid:
            raise UnknownNameError("setting", f"{prefix}{key}", [prefix + item for item in valid])
        flag = f"{prefix}{name}".replace("_", "-")
        if isinstance(value, Mapping) and get_origin(hints[name]) is dict:
            yield from (f"--{flag}", *(str(part) for pair in value.items() for part in pair))
        elif isinstance(value, Mapping):
            if not dataclasses.is_dataclass(hints[name]):
                raise UsageError(f"Setting {prefix}{key} is not a table but a value.")
            yield from _flags(hints[name], value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            head, _, tail = flag.rpartition(".")
            negated = f"{head}.no-{tail}" if head else f"no-{tail}"
            yield f"--{flag if value else negated}"
        elif isinstance(value, list):
            yield from (f"--{flag}", *map(str, value))
        else:
            yield f"--{flag}={value}"


def _exit_code(summary: Mapping[str, Any], settings: Any) -> int:
    if summary.get("usable") is False:
        return FAILED
    allowed = getattr(settings, "max_rejects", -1)
    rejects = summary.get("rejects", 0)
    if allowed >= 0 and isinstance(rejects, int) and rejects > allowed:
        return TOO_MANY_REJECTS
    return DONE


def _as_dict(summary: Any) -> dict[str, Any]:
    if summary is None:
        return {}
    return dict(files.plain(summary))


def _fail(job: str, error: BaseException, code: int, started: float) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    sys.stderr.write(f"{job}: {text}\n")
    status = "bad usage" if code == BAD_USAGE else "failed"
    _last_line({"job": job, "status": status, "seconds": _since(started), "error": text})
    return code


def _last_line(content: Mapping[str, Any]) -> None:
    sys.stderr.flush()
    sys.stdout.write(json.dumps(_without_nan(content), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _without_nan(value: Any) -> Any:
    """NaN and infinities as null: they are not JSON."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _since(started: float) -> float:
    return round(time.monotonic() - started, 1)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """The platform's log lines on stderr for the duration of a job."""
    logger = logging.getLogger("d3ke_platform")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM (`ray job stop`, Slurm) ends the job through its `finally` clauses."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals belong to the main thread
        return

    def end(number: int, frame: Any) -> None:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
