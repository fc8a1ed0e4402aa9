"""The files of Ray's cluster launcher, against the schema that `ray up` itself uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
AWS, LOCAL = ROOT / "ray-cluster.yaml", ROOT / "cluster" / "local-cluster.yaml"
FILES = pytest.mark.parametrize("path", [AWS, LOCAL], ids=lambda path: path.name)


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray notes local clusters below the temporary folder."""
    monkeypatch.setattr("ray._common.utils.get_default_ray_temp_dir", lambda: str(tmp_path))


@FILES
def test_rays_own_schema_accepts_it(path: Path) -> None:
    validate_config(prepare_config(load(path)))


@FILES
@pytest.mark.parametrize(
    "change",
    [
        {"idle_timeout_minute": 5},
        {"auth": {"ssh_usr": "ubuntu"}},
        {"docker": {"imgae": "d3ke-platform"}},
    ],
)
def test_the_schema_refuses_a_slip(path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(load(path) | change))


def test_cpus_and_gpus_come_with_the_work_and_go_with_it() -> None:
    config = prepare_config(load(AWS))
    kinds = config["available_node_types"]
    head = kinds.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert {name: kind["min_workers"] for name, kind in kinds.items()} == {"cpu": 0, "gpu": 0}
    assert sum(kind["max_workers"] for kind in kinds.values()) == config["max_workers"]
    assert "GPU" not in kinds["cpu"]["resources"]
    assert kinds["gpu"]["resources"]["GPU"] >= 1
    assert kinds["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in kinds["cpu"]["node_config"]


def test_jobs_are_told_what_the_groups_can_grow_to() -> None:
    config = load(AWS)
    told = dict(
        option.removeprefix("--env ").split("=")
        for option in config["docker"]["run_options"]
        if option.startswith("--env ")
    )
    for resource, name in (("CPU", "D3KE_MAX_CPUS"), ("GPU", "D3KE_MAX_GPUS")):
        most = sum(
            kind["max_workers"] * kind["resources"].get(resource, 0)
            for kind in config["available_node_types"].values()
            if "max_workers" in kind
        )
        assert int(told[name]) == most


@FILES
def test_every_node_starts_ray_with_the_common_environment_and_the_token(path: Path) -> None:
    config = load(path)
    copied = {local: remote for remote, local in config["file_mounts"].items()}
    assert "~/.ray/auth_token" in copied
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [command for command in config[commands] if "ray start" in command]
        assert f". {copied['cluster/ray.env']} " in start
        assert start.index("ray.env") < start.index("ray start")
    for local in copied:
        assert local.startswith("~") or (ROOT / local).is_file(), local


@FILES
def test_the_dashboard_stays_on_the_heads_own_loopback(path: Path) -> None:
    (start,) = [line for line in load(path)["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in start


def test_aws_opens_no_port_beside_the_ones_the_launcher_itself_does() -> None:
    assert "IpPermissions" not in load(AWS)["provider"]["security_group"]
