from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from d3ke.errors import InvalidInputError, KinematicsError, UnknownNameError
from d3ke_platform import cli
from d3ke_platform.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Inner."""

    image_size: int = 3
    """Side, px."""
    fast: bool = False
    """Quick."""
    names: tuple[str, ...] = ("a",)
    """Names."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Do it."""

    output: str
    """Where to."""
    rate_hz: float = 1.5
    """Frames per second, Hz."""
    inner: Inner = field(default_factory=Inner)
    """Inner."""
    max_rejects: int = 0
    """Rejects allowed."""

    def __post_init__(self) -> None:
        if self.rate_hz <= 0:
            raise InvalidInputError("rate_hz", "must be positive")


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def run(capsys: Any, main: Any, *argv: str) -> tuple[int, dict[str, Any], str]:
    code = cli.run_job(main, Job, job="prepare", argv=argv)
    captured = capsys.readouterr()
    return code, json.loads(captured.out.splitlines()[-1]), captured.err


def test_flags_win_over_files_and_files_over_recipes(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(cli, "recipe_folder", lambda: tmp_path)
    write(
        tmp_path / "demo.toml", "[prepare]\nrate_hz = 7\n[prepare.inner]\nimage-size = 9\n[train]"
    )
    config = write(
        tmp_path / "c.toml",
        'output = "o"\n[inner]\nfast = true\nnames = ["x", "y"]\nimage_size = 8',
    )
    argv = ["--recipe", "demo", f"--config={config}", "--inner.no-fast", "--inner.image-size", "7"]
    settings = cli.parse(Job, argv, job="prepare")
    inner = Inner(image_size=7, fast=False, names=("x", "y"))
    assert settings == Job(output="o", rate_hz=7.0, inner=inner)


def test_a_file_with_job_tables_gives_only_the_jobs_own(tmp_path: Path) -> None:
    config = write(tmp_path / "c.toml", '[train]\nnonsense = 1\n[prepare]\noutput = "here"')
    assert cli.parse(Job, ["--config", config], job="prepare").output == "here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate = 1", "Unknown setting 'rate'.*Did you mean 'rate_hz'.*output, rate_hz, inner"),
        ("[inner]\nsize = 1", r"'inner\.size'.*inner\.image_size, inner\.fast"),
        ("[prepare]\nx = 1", "Unknown setting 'x'"),
        ("[prepare]\n[prepar]", "Unknown table.*'prepar'.*Did you mean 'prepare'"),
        ("output = ", "not valid TOML"),
        ("rate_hz = {a = 1}", "not a table but a value"),
    ],
)
def test_wrong_files_name_the_key_and_the_valid_ones(tmp_path, text: str, message: str) -> None:
    config = write(tmp_path / "c.toml", text)
    with pytest.raises((UnknownNameError, UsageError), match=message):
        cli.parse(Job, ["--config", config, "--output", "o"], job="prepare")


@pytest.mark.parametrize("argv", [["--recipe", "no"], ["--config", "/no/such.toml"], ["--config"]])
def test_absent_files_are_bad_usage(capsys: Any, argv: list[str]) -> None:
    code, line, errors = run(capsys, lambda settings: None, *argv)
    assert (code, line["status"]) == (2, "bad usage")
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    "argv", [[], ["--output", "o", "--ratee", "1"], ["--output", "o", "--rate-hz", "x"]]
)
def test_wrong_flags_exit_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse(Job, argv, job="prepare")
    assert caught.value.code == 2


def test_help_shows_descriptions_and_defaults(capsys: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse(Job, ["--help"], job="prepare")
    text = capsys.readouterr().out
    assert caught.value.code == 0
    for part in ("Frames per second, Hz.", "1.5", "--inner.image-size", "--recipe", "--config"):
        assert part in text


def test_the_last_line_is_json_with_the_summary(capsys: Any) -> None:
    def main(settings: Job) -> dict[str, Any]:
        return {"output": settings.output, "share": float("nan"), "rejects": 0}

    code, line, errors = run(capsys, main, "--output", "o")
    assert code == 0
    assert line == {
        "job": "prepare", "status": "done", "seconds": line["seconds"], "output": "o",
        "share": None, "rejects": 0,
    }  # fmt: skip
    assert errors == ""


@pytest.mark.parametrize(("allowed", "code"), [("0", 3), ("1", 3), ("2", 0), ("-1", 0)])
def test_rejects_beyond_the_allowed_end_with_3(capsys: Any, allowed: str, code: int) -> None:
    argv = ("--output", "o", "--max-rejects", allowed)
    assert run(capsys, lambda settings: {"rejects": 2}, *argv)[0] == code


def raising(error: BaseException) -> Any:
    def main(settings: Job) -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KinematicsError("trial", "no\n markers"), 1),
        (UsageError("no"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_known_errors_are_one_line_without_traceback(capsys: Any, error: Any, code: int) -> None:
    found, line, errors = run(capsys, raising(error), "--output", "o")
    assert found == code
    assert errors.count("\n") == 1
    assert "Traceback" not in errors
    assert line["error"]


def test_settings_that_contradict_are_bad_usage(capsys: Any) -> None:
    code, line, _ = run(capsys, raising(AssertionError()), "--output", "o", "--rate-hz", "-1")
    assert (code, line["error"]) == (2, "rate_hz: must be positive.")


def test_defects_show_their_traceback(capsys: Any) -> None:
    code, _, errors = run(capsys, raising(ZeroDivisionError("x")), "--output", "o")
    assert code == 1
    assert "Traceback" in errors


def test_every_recipe_is_valid_for_the_jobs_there_are() -> None:
    from d3ke_platform.pipelines.prepare_settings import PrepareSettings

    for name in cli.recipe_names():
        settings = cli.parse(PrepareSettings, ["--recipe", name, "--output", "o"], job="prepare")
        assert settings.output == "o"
