"""Trainings that somebody kills, as programs of their own: `fault_run.py MODE DATA FOLDER`."""

from __future__ import annotations

import os
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ray
import steps_job
from ray.cluster_utils import Cluster
from steps_job import StepsJob, groups_of, node_of

from d3ke.augmentation import AugmentationConfig
from d3ke_platform import runtime
from d3ke_platform.training.progress import read_rows
from d3ke_platform.training.settings import FrameTraining
from d3ke_platform.training.trainer import Resources, fit

SETTINGS = FrameTraining(
    backbone="resnet18_half",
    image_size=32,
    epochs=(6,),
    batch_size=15,
    learning_rate_start=(2e-5,),
    learning_rate_end=(2e-5,),
    schedule_by="step",
    loading="memory",
    augmentation=AugmentationConfig(),
    pictures_every=0,
)
_WORKER = Resources(workers=2, cpus=2.0, resize_every_s=5.0)
"""Only one of them fits a node."""


def train(data: str, folder: Path, resources: Resources, *, pause_s: float = 0.0, **changes):
    """Train to the end, or on from where a training in the folder was broken off."""
    folder.mkdir(exist_ok=True)
    job = StepsJob(
        data=data,
        settings=replace(SETTINGS, **changes),
        seed=2,
        losses=str(folder),
        pause_s=pause_s,
    )
    return fit(
        job,
        folder,
        run_name="run",
        resources=resources,
        progress=folder / "progress.jsonl",
        max_failures=3,
        deterministic=True,
    )


def driver(data: str, folder: Path) -> None:
    """Two workers and streamed crops on a Ray of its own; its starter kills it."""
    with runtime.connect():
        resources = Resources(workers=2, cpus=0.5, workers_on_node=2)
        train(data, folder, resources, pause_s=0.2, loading="stream", shuffle_buffer=60)


def lost_node(data: str, folder: Path) -> None:
    """Two workers on nodes of their own; one node is lost and another takes its place."""
    on_cluster(data, folder, _WORKER, spare=True)


def elastic(data: str, folder: Path) -> None:
    """Two workers, one after a node is lost, two again when one comes."""
    on_cluster(data, folder, replace(_WORKER, workers_min=1), spare=False)


def on_cluster(data: str, folder: Path, resources: Resources, *, spare: bool) -> None:
    """Train while the node of the second worker is lost."""
    os.environ.update(runtime.WORKER_ENVIRONMENT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 1, "include_dashboard": True, "dashboard_port": port}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(3 if spare else 2):
        cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    done = []

    def meddle() -> None:
        rows = len(read_rows(folder / "progress.jsonl"))
        if not done and rows >= 1 and groups_of(folder)[-1] == 2:
            lost = node_of(folder, 1)
            (node,) = [node for node in cluster.worker_nodes if node.node_id == lost]
            cluster.remove_node(node, allow_graceful=False)
            done.append("lost")
        elif done == ["lost"] and not spare and groups_of(folder)[-1] == 1 and rows >= 2:
            cluster.add_node(num_cpus=2)
            done.append("added")

    try:
        with ThreadPoolExecutor(1) as pool:  # Ray starts nodes in the main thread only
            training = pool.submit(train, data, folder, resources, pause_s=0.5)
            while not training.done():
                meddle()
                time.sleep(0.3)
            training.result()
    finally:
        ray.shutdown()
        cluster.shutdown()
        (folder / "happened").write_text(" ".join(done))


if __name__ == "__main__":
    ray.cloudpickle.register_pickle_by_value(steps_job)
    mode, data_set, output = sys.argv[1:]
    {"driver": driver, "lost_node": lost_node, "elastic": elastic}[mode](data_set, Path(output))
