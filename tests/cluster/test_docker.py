"""The container files: linted, since no image can be built in a test."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "docker"
DOCKERFILE = FOLDER / "Dockerfile"


def tool(name: str) -> Path:
    found = Path(sys.executable).parent / name
    if not found.exists():
        pytest.skip(f"{name} is not installed (the `dev` extra)")
    return found


def checked(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_nothing() -> None:
    checked(tool("hadolint"), DOCKERFILE)


def test_compose_fits_its_published_schema() -> None:
    checked(
        *(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"),
        FOLDER / "compose.yaml",
    )


def test_the_image_holds_dependencies_and_no_code_of_the_project() -> None:
    text = DOCKERFILE.read_text()
    copied = re.findall(r"^(?:COPY|ADD) (?:--\S+ )*(.*)$", text, re.MULTILINE)
    assert copied == ["pyproject.toml constraints.txt cluster/docker/requirements.py ./"]
    assert "--constraint constraints.txt --requirement requirements.txt" in text


def test_the_image_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\S+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert users == ["1000:100"]


def test_the_requirements_are_those_of_the_project_and_pinned() -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "requirements.py", "pyproject.toml", "--extra", "cluster"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cluster"]]
    assert done.stdout.splitlines() == wanted
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    known = {name.lower().replace("_", "-") for name in pinned}
    names = {re.split(r"[\[<>=!~ ]", line)[0].lower().replace("_", "-") for line in wanted}
    assert names <= known


def test_three_nodes_share_token_environment_and_network_and_open_one_local_port() -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    services = compose["services"]
    assert 1 + services["worker"]["deploy"]["replicas"] == 3
    for service in services.values():
        assert service["env_file"] == "../ray.env"
        assert service["secrets"] == ["ray_auth_token"]
        assert service["networks"] == ["ray"]
        assert service["cap_drop"] == ["ALL"]
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:8265:8265"]
    assert compose["secrets"]["ray_auth_token"] == {"environment": "RAY_AUTH_TOKEN"}
