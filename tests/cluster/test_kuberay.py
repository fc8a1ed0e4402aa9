"""The manifests for Kubernetes, against the schemas that KubeRay publishes."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

from d3ke_platform import cli
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.pipelines.score import ScoreSettings
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.tuning.settings import TuneSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "kuberay"
SCHEMAS = ROOT.parent / "shared" / "kuberay"
SETTINGS = {
    "prepare": PrepareSettings,
    "train": TrainSettings,
    "tune": TuneSettings,
    "score": ScoreSettings,
}
JOBS = pytest.mark.parametrize("job", sorted(SETTINGS))


def documents(*names: str) -> list[dict[str, Any]]:
    paths = [FOLDER / name for name in names] or sorted(FOLDER.glob("*.yaml"))
    return [part for path in paths for part in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str, *names: str) -> list[dict[str, Any]]:
    return [part for part in documents(*names) if part["kind"] == kind]


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    """Schema by kind, every object closed: Kubernetes drops unknown fields without a word."""
    files = sorted(SCHEMAS.glob("ray.io_*.yaml"))
    if not files:
        pytest.skip("KubeRay's schemas are not beside the project (shared/kuberay)")
    found = {}
    for file in files:
        definition = yaml.load(file.read_text(), yaml.CSafeLoader)["spec"]
        (version,) = (v for v in definition["versions"] if v["name"] == "v1")
        found[definition["names"]["kind"]] = closed(version["schema"]["openAPIV3Schema"])
    return found


def closed(schema: Any) -> Any:
    """The schema, refusing fields that it does not name, as `kubectl --validate=strict` does."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: closed(value) for key, value in schema.items()}
    if "properties" in schema and "additionalProperties" not in schema:
        open_object = schema["properties"].keys() <= {"metadata", "apiVersion", "kind"}
        if not open_object:
            result["additionalProperties"] = False
    return result


def errors(schemas: dict[str, Any], document: dict[str, Any]) -> list[str]:
    checker = jsonschema.Draft202012Validator(schemas[document["kind"]])
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(document)]


@pytest.mark.parametrize(
    "name", sorted(path.name for path in FOLDER.glob("*.yaml")), ids=lambda name: name
)
def test_kuberays_schema_accepts_it(schemas: dict[str, Any], name: str) -> None:
    ours = [part for part in documents(name) if part["apiVersion"] == "ray.io/v1"]
    assert ours
    for document in ours:
        assert errors(schemas, document) == []


def test_kubernetes_own_kinds_fit_the_copies_that_the_schema_has_of_them(
    schemas: dict[str, Any],
) -> None:
    spec = schemas["RayCluster"]["properties"]["spec"]["properties"]
    rule = spec["networkPolicy"]["properties"]["head"]["properties"]["ingressRules"]["items"]
    (policy,) = of_kind("NetworkPolicy")
    for ingress in policy["spec"]["ingress"]:
        jsonschema.validate(ingress, rule)
    template = spec["headGroupSpec"]["properties"]["template"]["properties"]["spec"]["properties"]
    claim = template["volumes"]["items"]["properties"]["ephemeral"]["properties"]
    (volume,) = of_kind("PersistentVolumeClaim")
    jsonschema.validate(volume["spec"], claim["volumeClaimTemplate"]["properties"]["spec"])


SLIPS = {
    "top": ("spec", "enableIntreeAutoscaling"),
    "head": ("spec", "headGroupSpec", "raystartParams"),
    "pod": ("spec", "headGroupSpec", "template", "spec", "securitycontext"),
    "container": ("spec", "workerGroupSpecs", 1, "template", "spec", "containers", 0, "env_from"),
    "probe": (
        *("spec", "workerGroupSpecs", 0, "template", "spec", "containers", 0),
        *("livenessProbe", "httpget"),
    ),
    "security": (
        *("spec", "headGroupSpec", "template", "spec", "containers", 0),
        *("securityContext", "runAsNonroot"),
    ),
}


@pytest.mark.parametrize("place", sorted(SLIPS))
def test_a_slip_anywhere_is_caught(schemas: dict[str, Any], place: str) -> None:
    (document,) = copy.deepcopy(of_kind("RayCluster", "cluster.yaml"))
    *path, name = SLIPS[place]
    target: Any = document
    for step in path:
        target = target[step]
    target[name] = {}
    assert any(str(name) in error for error in errors(schemas, document))


def pods(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spec = document["spec"]
    if "headGroupSpec" in spec:
        yield spec["headGroupSpec"]["template"]["spec"]
    for group in spec.get("workerGroupSpecs", []):
        yield group["template"]["spec"]
    if "submitterPodTemplate" in spec:
        yield spec["submitterPodTemplate"]["spec"]


def test_no_container_runs_as_root_or_may_become_it() -> None:
    found = [pod for document in documents() for pod in pods(document)]
    assert len(found) == 3 + 2 + len(SETTINGS)
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert "privileged" not in security


def test_every_cluster_wants_the_token_and_has_our_version_of_ray() -> None:
    clusters = of_kind("RayCluster")
    assert len(clusters) == 2
    for cluster in clusters:
        assert cluster["spec"]["authOptions"] == {"mode": "token"}
        assert cluster["spec"]["rayVersion"] == ray.__version__


def test_the_cluster_grows_from_nothing_and_gpus_are_tolerated() -> None:
    (cluster,) = of_kind("RayCluster", "cluster.yaml")
    spec = cluster["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert {name: group["minReplicas"] for name, group in groups.items()} == {"cpu": 0, "gpu": 0}
    pod = groups["gpu"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod[
        "tolerations"
    ]
    for pod in pods(cluster):
        assert {"name": "data", "mountPath": "/data"} in pod["containers"][0]["volumeMounts"]
        assert {"readinessProbe", "livenessProbe"} <= pod["containers"][0].keys()


def test_jobs_are_told_what_the_groups_can_grow_to() -> None:
    (cluster,) = of_kind("RayCluster", "cluster.yaml")
    head = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    told = {variable["name"]: variable["value"] for variable in head["env"]}
    for resource, name in (("cpu", "D3KE_MAX_CPUS"), ("nvidia.com/gpu", "D3KE_MAX_GPUS")):
        most = sum(
            group["maxReplicas"]
            * int(
                group["template"]["spec"]["containers"][0]["resources"]["limits"].get(resource, 0)
            )
            for group in cluster["spec"]["workerGroupSpecs"]
        )
        assert int(told[name]) == most


@JOBS
def test_a_job_gives_its_script_flags_that_it_has(job: str) -> None:
    (document,) = of_kind("RayJob", f"job-{job}.yaml")
    python, script, *flags = document["spec"]["entrypoint"].split()
    assert (python, script) == ("python", f"jobs/{job}.py")
    cli.parse(SETTINGS[job], flags, job=job)


@JOBS
def test_a_job_goes_to_the_cluster_with_its_code(job: str) -> None:
    (document,) = of_kind("RayJob", f"job-{job}.yaml")
    (cluster,) = of_kind("RayCluster", "cluster.yaml")
    assert document["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    environment = yaml.safe_load(document["spec"]["runtimeEnvYAML"])
    assert re.match(r"(file|https|s3|gs)://.*\.zip$", environment["working_dir"])
    common = yaml.safe_load((ROOT / "cluster" / "runtime-env.yaml").read_text())
    assert environment["env_vars"] == common["env_vars"]
