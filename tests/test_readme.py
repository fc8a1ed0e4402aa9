"""What the README tells a stranger to type is what the project has."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from d3ke_platform import cli
from d3ke_platform.evaluation.settings import EvaluateSettings
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.pipelines.score import ScoreSettings
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.tuning.settings import TuneSettings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SETTINGS = {
    "prepare": PrepareSettings,
    "train": TrainSettings,
    "tune": TuneSettings,
    "evaluate": EvaluateSettings,
    "score": ScoreSettings,
}
COMMANDS = re.findall(r"python (jobs/\w+\.py[^`\n#]*)", README)


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_a_job_takes_the_flags_the_readme_gives_it(command: str) -> None:
    # Brackets mark what may be left out; here it is there.
    script, *flags = shlex.split(command.replace("[", "").replace("]", ""))
    # A file that a search has written: any recipe stands for it.
    written = str(ROOT / "jobs" / "recipes" / "demo.toml")
    flags = [written if flag.endswith(".toml") and "/" in flag else flag for flag in flags]
    assert (ROOT / script).is_file()
    job = Path(script).stem
    if flags:
        cli.parse(SETTINGS[job], flags, job=job)


def test_every_job_is_in_the_readme() -> None:
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py") if not path.stem.startswith("_")}
    assert jobs == {Path(shlex.split(command)[0]).stem for command in COMMANDS}


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)(?=`|  )", README))
    assert named >= {"demo", "test"}
    assert named <= targets


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_python_of_the_readme_runs(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_every_file_the_readme_links_to_exists(link: str) -> None:
    assert "://" in link or (ROOT / link).exists()
