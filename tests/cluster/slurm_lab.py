"""A Slurm cluster of two nodes on this machine: network namespaces with addresses of their own.

Everything lives in one private process namespace, so that nothing can be left behind. Needs root
and Debian's packages slurmctld, slurmd, slurm-client and munge.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "mungekey", "unshare", "nsenter", "ip")
NETWORK = "10.98.0"

CONFIGURATION = """
ClusterName=lab
SlurmctldHost=control({network}.254)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=30
NodeName=node[1-2] NodeAddr={network}.[1-2] CPUs=4 State=UNKNOWN
PartitionName=lab Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

# $1: folder; $2: network. Nodes share the control's processes and files, but neither its network
# nor its host name nor its scratch disk.
START = r"""
set -eu
folder=$1 network=$2
ip link set lo up
hostname control
ip link add lab type bridge
ip addr add $network.254/24 dev lab
ip link set lab up
munged --force --foreground --num-threads=2 --key-file=$folder/munge.key \
  --socket=$folder/munge.socket --log-file=$folder/munged.log \
  --pid-file=$folder/munged.pid --seed-file=$folder/munged.seed &
for n in 1 2; do
  unshare --net --uts --mount sleep infinity &
  node=$!
  echo $node > $folder/node$n.namespace
  until [ "$(readlink /proc/$node/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
  ip link add lab$n type veth peer name eth0 netns $node
  ip link set lab$n master lab up
  nsenter --target $node --net --uts --mount bash -euc "
    hostname node$n
    ip link set lo up
    ip addr add $network.$n/24 dev eth0
    ip link set eth0 up
    ip route add default via $network.254
    mount -t tmpfs scratch /mnt"
done
until [ -S $folder/munge.socket ]; do sleep 0.1; done
slurmctld -D -f $folder/slurm.conf &
for n in 1 2; do
  nsenter --target $(cat $folder/node$n.namespace) --net --uts --mount \
    slurmd -D -N node$n -f $folder/slurm.conf &
done
wait
"""


@dataclass(frozen=True)
class SlurmLab:
    """A running Slurm."""

    folder: Path
    process: int
    """Process in whose namespaces the control daemon runs."""

    def run(self, *command: str | Path, **variables: str) -> str:
        """Output of a command on the control machine; fails with its errors."""
        kinds = ("--net", "--uts", "--mount", "--pid", f"--wd={Path.cwd()}")
        enter = ("nsenter", "--target", str(self.process), *kinds)
        done = subprocess.run(
            [*enter, *command],
            env={**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` says of a job, by its names."""
        words = self.run("scontrol", "--oneliner", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait_for(self, number: str, *states: str, timeout_s: float) -> dict[str, str]:
        """The job once it is in one of the states."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            job = self.job(number)
            if job["JobState"] in states:
                return job
            time.sleep(1.0)
        raise AssertionError(f"job {number} is not {states} within {timeout_s} s: {job}")

    def processes(self) -> list[str]:
        """Command lines of all processes of the lab that are not Slurm's own."""
        lines = self.run("ps", "-eo", "args", "--no-headers").splitlines()
        own = (
            "munged",
            "slurm",
            ": slurm",
            "sleep infinity",
            "bash -c",
            "ps -eo",
            "unshare",
            "nsenter",
        )
        return [line for line in map(str.strip, lines) if not line.startswith(own)]


@contextmanager
def slurm_lab(folder: Path) -> Iterator[SlurmLab]:
    """Slurm on two nodes of four CPUs each, while the context lasts."""
    for name in ("state", "spool-node1", "spool-node2"):
        (folder / name).mkdir(parents=True)
    text = CONFIGURATION.format(folder=folder, network=NETWORK)
    (folder / "slurm.conf").write_text(text)
    subprocess.run(["mungekey", "--create", f"--keyfile={folder}/munge.key"], check=True)
    kinds = ("--net", "--uts", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL")
    with (folder / "lab.log").open("w") as log:
        outer = subprocess.Popen(
            ["unshare", *kinds, "bash", "-c", START, "lab", folder, NETWORK],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        lab = SlurmLab(folder, _child(outer))
        _wait_until_idle(lab, outer)
        yield lab
    finally:
        outer.send_signal(signal.SIGKILL)
        outer.wait()


def _child(outer: subprocess.Popen[bytes]) -> int:
    """The first process of the namespaces: the only child of `unshare`."""
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    for _ in range(100):
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.1)
    raise AssertionError("unshare made no process: root is needed")


def _wait_until_idle(lab: SlurmLab, outer: subprocess.Popen[bytes]) -> None:
    for _ in range(60):
        time.sleep(1.0)
        assert outer.poll() is None, (lab.folder / "lab.log").read_text()
        try:
            states = lab.run("sinfo", "--noheader", "--Node", "--format=%T").split()
        except AssertionError:
            continue  # the control daemon is not up yet
        if states == ["idle", "idle"]:
            return
    raise AssertionError((lab.folder / "lab.log").read_text())


def missing() -> str:
    """What a lab lacks on this machine; "" for nothing."""
    if os.geteuid():
        return "network namespaces need root"
    absent = [name for name in NEEDED if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else ""
