"""A training of the per-frame network whose losses are written down step by step."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import ray

from d3ke_platform.training.frame_stage import FrameJob, FrameTask


@dataclass(frozen=True, kw_only=True)
class StepsJob(FrameJob):
    """Trains the per-frame network, writes the loss of every step, and dies once."""

    losses: str
    """File for the losses of each worker."""
    dies: bool = False
    """Whether the last worker dies in its second epoch when it comes there first."""
    pause_s: float = 0.0
    """Time between steps, so that something can happen meanwhile."""

    def task(self, worker):
        task = FrameTask(self, worker)
        # Rounding: in single precision the losses of two runs whose batches differ in nothing but
        # the order of their samples are 0.001 to 0.01 apart after twenty steps of AdamW.
        task.module.double()
        self._sign(worker)
        folder, dies = Path(self.losses), self.dies and worker.rank == 1
        batches, losses = task.batches, task.losses

        def watched(epoch):
            for step, batch in enumerate(batches(epoch)):
                if dies and (epoch, step) == (1, 3) and not (folder / "died").exists():
                    (folder / "died").touch()
                    time.sleep(2)  # until Ray has taken the checkpoint of the first epoch
                    os._exit(1)
                task.place = f"{epoch} {step}"
                time.sleep(self.pause_s)
                yield batch

        def noted(predict, batch):
            terms = losses(predict, batch)
            mean = worker.reduce(terms["total"].detach()) / worker.world_size
            with (folder / f"rank{worker.rank}").open("a") as file:
                file.write(f"{task.place} {float(mean)}\n")
            return terms

        task.batches, task.losses = watched, noted
        return task

    def _sign(self, worker):
        """Note how many workers there are, and on which node this one is."""
        node = ray.get_runtime_context().get_node_id() if worker.has_cluster else ""
        with (Path(self.losses) / f"workers{worker.rank}").open("a") as file:
            file.write(f"{worker.world_size} {node}\n")


def steps_of(folder):
    """Loss by (epoch, step), as it was last."""
    lines = [line.split() for line in (folder / "rank0").read_text().splitlines()]
    return {(int(epoch), int(step)): float(loss) for epoch, step, loss in lines}


def groups_of(folder):
    """Numbers of workers that trained one after the other."""
    return [int(line.split()[0]) for line in (folder / "workers0").read_text().splitlines()]


def node_of(folder, rank):
    """Node that a worker was started on last."""
    return (folder / f"workers{rank}").read_text().splitlines()[-1].split()[1]
