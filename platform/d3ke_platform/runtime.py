"""Connecting to Ray: by itself on a laptop, to the job's cluster everywhere else."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d3ke_platform.errors import UsageError

PACKAGES = ("d3ke", "d3ke_platform")

# One thread per worker process: the number of workers follows the CPUs, more threads only fight.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # The controller answers a worker's report at this interval; the default of 2 s costs every
    # epoch of a short training run up to 2 s.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray's C++ core prints harmless errors about every actor pool (ray#53727).
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_TOKEN_LOGGER = "ray._private.authentication.authentication_token_setup"  # nosec B105
# Unix socket paths end at 107 characters; Ray's own part of them is about 65 long.
_LONGEST_TEMPORARY_FOLDER = 35
_PATIENCE_S = 10.0
"""For a cluster's answer to a question."""


@dataclass(frozen=True)
class Session:
    """What the connected cluster offers."""

    is_local: bool
    """Ray was started by this process, on this machine only."""
    address: str
    """GCS address of the cluster."""
    cpus: float
    """`total_cpus`."""
    gpus: float
    """`total_gpus`."""


@contextmanager
def connect(*, cpus: int | None = None) -> Iterator[Session]:
    """Connect to Ray for the duration of the context.

    With RAY_ADDRESS set (as `ray job submit` does) it is that cluster, and the two packages are
    sent along, so that its nodes need not have them installed. Otherwise a local Ray is started
    with `cpus` logical CPUs: by default two more than the machine has, because reads and writes
    of Ray Data want a CPU while all actors hold theirs. It listens to this machine alone, and
    its token is this user's alone. Inside an existing connection that one is used and left as
    it is.

    Raises UsageError: the cluster at RAY_ADDRESS is not there or wants another token.
    """
    import ray

    if ray.is_initialized():
        yield _session()
        return
    logging.getLogger(_TOKEN_LOGGER).setLevel(logging.ERROR)  # warns at every start
    is_local = not os.environ.get("RAY_ADDRESS")
    with _environment(_local_environment() if is_local else WORKER_ENVIRONMENT):
        with _native_stderr_held(), _own_signal_handler():
            if is_local:
                _start_local(cpus)
            else:
                _connect_to(os.environ["RAY_ADDRESS"])
        try:
            yield _session()
        finally:
            ray.shutdown()


def total_cpus() -> float:
    """CPUs of the connected cluster, those included that it can still grow by."""
    return _total("CPU", "D3KE_MAX_CPUS")


def total_gpus() -> float:
    """GPUs of the connected cluster, those included that it can still grow by."""
    return _total("GPU", "D3KE_MAX_GPUS")


def _total(resource: str, limit: str) -> float:
    """What there is, or what the environment says an autoscaling cluster may have: Ray does not
    tell, and from what is there alone no job would ever ask for more."""
    import ray

    value = os.environ.get(limit) or "0"
    try:
        return max(float(ray.cluster_resources().get(resource, 0.0)), float(value))
    except ValueError as error:
        raise UsageError(f"{limit} is {value!r}, not a number of {resource}s.") from error


def nodes_alive() -> frozenset[str]:
    """Ids of the nodes of the connected cluster; one that comes back has another id."""
    import ray

    return frozenset(str(node["NodeID"]) for node in ray.nodes() if node["Alive"])


def package_folders() -> list[str]:
    """Folders of the two packages, wherever they are imported from."""
    folders = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ModuleNotFoundError(f"Package {name} is not importable; `pip install -e .`")
        folders.append(str(Path(next(iter(spec.submodule_search_locations))).resolve()))
    return folders


def _start_local(cpus: int | None) -> None:
    import ray

    machine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    _keep_token_private()
    options: dict[str, Any] = {}
    if len(tempfile.gettempdir()) > _LONGEST_TEMPORARY_FOLDER:
        options["_temp_dir"] = f"/tmp/ray-{os.getuid()}"  # nosec
    with _loopback_only():
        ray.init(
            address="local",
            num_cpus=cpus or max(4, (machine or 2) + 2),
            # Train frees the resources of a stopped run through the dashboard's API; without it
            # they are never freed.
            include_dashboard=True,
            **_quiet(),
            **options,
        )


@contextmanager
def _loopback_only() -> Iterator[None]:
    """Have Ray's processes listen to this machine alone, as they do where Ray knows no clusters
    (Windows, macOS); elsewhere it takes an address that others can reach, even for 127.0.0.1."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _connect_to(address: str) -> None:
    """Join a running cluster; with the user's token, if there is one and the cluster wants it.

    Ray itself shows a token only where no address is given. Shown to a cluster that wants none, it
    does harm: this process then refuses what the cluster asks it without one, which takes that for
    the end of every actor ("all references to the actor were removed").
    """
    import ray
    from ray._private.authentication import authentication_token_setup

    has_token = _wants_token(address) and (
        authentication_token_setup.maybe_enable_token_auth_if_token_available(
            warn_if_disabled=False
        )
    )
    try:
        ray.init(runtime_env=_runtime_environment(), **_quiet())
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        token = "with a token" if has_token else "without a token"
        raise UsageError(
            f"Cannot join the Ray cluster at {address} {token} ({error}). Is RAY_ADDRESS right, "
            "and RAY_AUTH_TOKEN or ~/.ray/auth_token the cluster's token? See docs/security.md."
        ) from error


def _wants_token(address: str) -> bool:
    """Whether a cluster refuses who shows no token; where it cannot be asked, it is taken to."""
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray._private.services import canonicalize_bootstrap_address

    if os.environ.get("RAY_AUTH_MODE"):
        return True  # said already, for this process as for the cluster
    place = None if "://" in address else canonicalize_bootstrap_address(address)
    if place is None:
        return True
    with init_grpc_channel(place) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            ask(b"", timeout=_PATIENCE_S)
        except grpc.RpcError as error:
            return bool(error.code() != grpc.StatusCode.UNIMPLEMENTED)
    return False


def _token_file() -> Path:
    """Where Ray keeps a user's token."""
    return Path.home() / ".ray" / "auth_token"


def _keep_token_private() -> None:
    """Make the user's token before Ray does, which would let all users of the machine read it."""
    wanted = os.environ.get("RAY_AUTH_MODE", "token").lower() == "token"
    if not wanted or any(os.environ.get(name) for name in _TOKEN_VARIABLES):
        return
    file = _token_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent) as made:  # for its owner alone
        made.write(secrets.token_hex(32))
        made.flush()
        try:
            os.link(made.name, file)
        except FileExistsError:
            file.chmod(0o600)


def _session() -> Session:
    import ray

    address = ray.get_runtime_context().gcs_address
    owned = ray._private.worker._global_node
    return Session(
        is_local=owned is not None and owned.is_head(),
        address=address,
        cpus=total_cpus(),
        gpus=total_gpus(),
    )


def _runtime_environment() -> dict[str, Any]:
    return {"py_modules": package_folders(), "env_vars": dict(WORKER_ENVIRONMENT)}


def _local_environment() -> dict[str, str]:
    """Environment that local workers inherit; the packages' parents lead their search path."""
    parents = [str(Path(folder).parent) for folder in package_folders()]
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    search = dict.fromkeys([*parents, *filter(None, known)])
    return {**WORKER_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(search)}


def _quiet() -> dict[str, Any]:
    """Options of `ray.init` that keep the terminal for the job's own progress."""
    return {"log_to_driver": False, "logging_level": logging.WARNING}


@contextmanager
def _native_stderr_held() -> Iterator[None]:
    """Keep what native code writes to stderr, and show it only if the block fails.

    Ray's C++ core reports its own log level there, past Python's logging.
    """
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)


@contextmanager
def _own_signal_handler() -> Iterator[None]:
    """Keep this process's way of ending at SIGTERM; `ray.init` puts its own in its place."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for the duration of the context; a user's own values win."""
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        if name == "PYTHONPATH" or before[name] is None:
            os.environ[name] = value
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = old
