"""Clusters and jobs to plan with: the table and the picture of docs/scaling.md."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from d3ke_platform.capacity import (
    Archive,
    Cluster,
    Costs,
    Job,
    Outlook,
    cpu_nodes_for,
    plan,
    with_window,
)

# Assumed, where there is no GPU to measure on: what this project asks of one H100 with ResNeXt-50
# at 256 px in bf16, and ten times the paper's figure on a T4.
H100_FRAMES_PER_S, T4_FRAMES_PER_S = 3000.0, 320.0
# Prices of machines on demand, as of 2026; anybody's own differ.
H100_NODE_PER_H, T4_NODE_PER_H, CPU_NODE_PER_H = 30.0, 1.2, 8.0
# Workers of one job and one Ray cluster, as docs/scaling.md advises.
WORKERS_OF_A_SHARD = 2000


def kinds() -> dict[str, tuple[Cluster, float]]:
    """Machines to plan with, and the assumed frames/s of one of their GPUs."""
    return {
        "T4": (
            Cluster(
                gpus=1,
                gpus_per_node=1,
                cpus_per_node=16,
                memory_per_node=64e9,
                network_bytes_per_s=2.5e9,
                node_price_per_h=T4_NODE_PER_H,
            ),
            T4_FRAMES_PER_S,
        ),
        "H100 and cores": (
            Cluster(
                gpus=8,
                gpus_per_node=8,
                cpus_per_node=192,
                memory_per_node=384e9,
                network_bytes_per_s=6e9,
                node_price_per_h=H100_NODE_PER_H,
                cpu_node_price_per_h=CPU_NODE_PER_H,
            ),
            H100_FRAMES_PER_S,
        ),
    }


def outlooks(costs: Costs, archive: Archive) -> Iterator[tuple[str, int, str, Outlook]]:
    """Kind of GPU, number, name of the job's form, outlook."""
    for kind, (one, rate) in kinds().items():
        for gpus in (1, 8, 32, 100, 320, 1000):
            share = min(1.0, gpus / one.gpus_per_node)
            cluster = replace(
                one,
                gpus=gpus,
                gpus_per_node=min(gpus, one.gpus_per_node),
                cpus_per_node=int(one.cpus_per_node * share),
                memory_per_node=one.memory_per_node * share,
                network_bytes_per_s=one.network_bytes_per_s * share,
                node_price_per_h=one.node_price_per_h * share,
                cpu_node_price_per_h=one.cpu_node_price_per_h * share,
            )
            here = replace(costs, gpu_frames_per_s=rate)
            if cluster.cpu_node_price_per_h:
                cluster = replace(cluster, nodes_without_gpu=cpu_nodes_for(cluster, here))
            for name, job in forms(cluster):
                yield kind, gpus, name, plan(archive, cluster, here, job)


def forms(cluster: Cluster) -> Iterator[tuple[str, Job]]:
    """The job as it is by default, and as docs/scaling.md advises."""
    yield "default", with_window(Job(), cluster.cpus)
    shards = math.ceil(cluster.cpus / WORKERS_OF_A_SHARD)
    job = Job(segment_frames=8192, shards=shards)
    yield "advised", with_window(job, cluster.cpus // shards)


def table(costs: Costs, archive: Archive) -> str:
    """Markdown."""
    head = (
        "| GPUs | form | workers | frames/s | bound by | GPUs busy | days | cost | files | "
        "first to give out |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    rows = [
        f"| {gpus} {kind} | {name} | {o.workers:,} | {o.frames_per_s:,.0f} | {o.bound} | "
        f"{o.gpu_busy:.0%} | {o.hours / 24:,.1f} | {o.cost:,.0f} | {o.files / 1e6:,.0f} M | "
        f"{o.first.name} ({o.first.share:.1f}) |"
        for kind, gpus, name, o in outlooks(costs, archive)
    ]
    return "\n".join([head, *rows])


def picture(path: Path, costs: Costs, archive: Archive) -> None:
    """How near each limit is, by number of GPUs."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    found = list(outlooks(costs, archive))
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.5), sharex=True, sharey=True)
    colors = (*plt.get_cmap("tab20").colors[::2], "black")
    for axis, (kind, form) in zip(
        axes.flat, [(k, f) for k in kinds() for f in ("default", "advised")], strict=True
    ):
        chosen = [(gpus, o) for k, gpus, f, o in found if (k, f) == (kind, form)]
        for index, limit in enumerate(chosen[0][1].limits):
            shares = [o.limits[index].share for _, o in chosen]
            style = "-" if index % 2 else "--"
            axis.plot([g for g, _ in chosen], shares, style, color=colors[index], label=limit.name)
        axis.axhspan(1.0, 100.0, color="red", alpha=0.08, lw=0)
        axis.set(xscale="log", yscale="log", title=f"{kind}, {form}", ylim=(0.01, 20))
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("GPUs")
    for axis in axes[:, 0]:
        axis.set_ylabel("share of the limit (red: gives out)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=110)
