"""Rules about the source tree itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("d3ke", "platform", "jobs")
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
LONGEST_JOB = 80


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def test_nothing_shadows_the_standard_librarys_platform() -> None:
    """With an __init__.py there, Ray's workers never start and pytest fails at import."""
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert [path.name for path in (ROOT / "platform").glob("*.py")] == []
    assert not (ROOT / "tests" / "platform").exists()


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files(*SOURCES)
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    }
    assert long == {}


def test_functions_are_short() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": lines
        for path in python_files(*SOURCES)
        for node in functions(path)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    }
    assert long == {}


def test_jobs_are_thin() -> None:
    lengths = {
        p.name: len(p.read_text(encoding="utf-8").splitlines()) for p in python_files("jobs")
    }
    assert {name: lines for name, lines in lengths.items() if lines >= LONGEST_JOB} == {}


def test_jobs_import_the_bootstrap_before_the_packages() -> None:
    for path in (ROOT / "jobs").glob("[a-z]*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = [
            name
            for node in tree.body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
        ]
        first = next(i for i, name in enumerate(imported) if name.startswith("d3ke"))
        assert "_bootstrap" in imported[:first], path.name


def test_only_jobs_print() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in python_files("d3ke", "platform")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert found == []


@pytest.mark.parametrize("package", ["d3ke", "d3ke_platform"])
def test_importing_every_light_module_loads_nothing_heavy(package: str) -> None:
    """Workers that need neither OpenSim nor MediaPipe must not load them."""
    heavy = ("opensim", "mediapipe", "anny", "pyvista", "mlflow")
    program = (
        "import importlib, pkgutil, sys\n"
        f"import {package}\n"
        f"for m in pkgutil.walk_packages({package}.__path__, '{package}.'):\n"
        "    importlib.import_module(m.name)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    environment = {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("[]")


def test_packages_depend_in_one_direction() -> None:
    command = Path(sys.executable).parent / "lint-imports"
    if not command.exists():
        pytest.skip("import-linter is not installed (the `dev` extra)")
    done = subprocess.run(
        [str(command), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "PATH": "/usr/bin:/bin"},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
