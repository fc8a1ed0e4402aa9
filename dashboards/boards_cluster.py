"""The machines: are they there, are they busy, are they full."""

from __future__ import annotations

from dashboards.grafana import Board, Panel, Query, Variable
from dashboards.promql import rate, ratio, series, total

GPUS = "a GPU in the cluster"
SESSION = Variable("session", "Ray session", "ray_node_cpu_count", "SessionName")

GPU_USE = Panel(
    "GPU use",
    "Share of time in which a GPU computes, as its driver counts it.",
    "percent",
    (
        Query(
            f"max by (instance, GpuIndex) ({series('ray_node_gpus_utilization')})",
            "{{instance}} GPU {{GpuIndex}}",
        ),
    ),
    maximum=100.0,
    empty_without=GPUS,
)


def node_share(used: str, whole: str) -> str:
    """Share of a node's resource in use, a series per node."""
    return ratio(total(used, by="instance"), total(whole, by="instance"))


CLUSTER = Board(
    name="cluster",
    title="D3KE cluster",
    help="Nodes, CPUs, GPUs, memory, disks and Ray's own state.",
    variables=(SESSION,),
    panels=(
        Panel(
            "Nodes",
            "Nodes that report now. Fewer than were started: look at the alert about dead nodes.",
            "none",
            (Query(f"count({series('ray_node_cpu_count')})", "nodes"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Nodes lost since the start",
            "Nodes that Ray has declared dead, those taken down on purpose included. "
            "Empty or 0 as long as there were none.",
            "none",
            (Query(f"sum({series('ray_node_failure_total')}) or vector(0)", "lost"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "CPUs taken",
            "Share of the cluster's CPUs that actors and tasks reserve.",
            "percentunit",
            (
                Query(
                    ratio(
                        total("ray_resources", 'Name="CPU"', 'State="USED"'),
                        total("ray_resources", 'Name="CPU"'),
                    ),
                    "taken",
                ),
            ),
            kind="stat",
            width=4,
            height=4,
            maximum=1.0,
        ),
        Panel(
            "GPUs taken",
            "Share of the cluster's GPUs that actors and tasks reserve.",
            "percentunit",
            (
                Query(
                    ratio(
                        total("ray_resources", 'Name="GPU"', 'State="USED"'),
                        total("ray_resources", 'Name="GPU"'),
                    ),
                    "taken",
                ),
            ),
            kind="stat",
            width=4,
            height=4,
            maximum=1.0,
            empty_without=GPUS,
        ),
        Panel(
            "Jobs running",
            "Drivers connected to Ray.",
            "none",
            (Query(total("ray_running_jobs"), "jobs"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Writes MLflow refused",
            "Metrics and files that the tracking server did not take; the jobs went on.",
            "none",
            (Query(f"{total('ray_d3ke_tracking_failures_total')} or vector(0)", "lost writes"),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "CPU use by node",
            "Share of a node's cores at work.",
            "percent",
            (Query(f"max by (instance) ({series('ray_node_cpu_utilization')})", "{{instance}}"),),
            maximum=100.0,
        ),
        Panel(
            "Memory use by node",
            "Ray begins to end workers at 95 %.",
            "percentunit",
            (Query(node_share("ray_node_mem_used", "ray_node_mem_total"), "{{instance}}"),),
            maximum=1.0,
        ),
        Panel(
            "Disk use by node",
            "Of the disk that Ray's temporary folder is on. Ray stops spilling at 95 %.",
            "percent",
            (
                Query(
                    f"max by (instance) ({series('ray_node_disk_utilization_percentage')})",
                    "{{instance}}",
                ),
            ),
            maximum=100.0,
        ),
        GPU_USE,
        Panel(
            "GPU memory",
            "Memory in use; a training that fails for lack of it says which batch size fits.",
            "decmbytes",
            (
                Query(
                    f"max by (instance, GpuIndex) ({series('ray_node_gram_used')})",
                    "{{instance}} GPU {{GpuIndex}}",
                ),
            ),
            empty_without=GPUS,
        ),
        Panel(
            "Object store",
            "Bytes by place. SPILLED means the store was full and blocks went to disk: fewer "
            "actors or smaller segments help.",
            "bytes",
            (Query(total("ray_object_store_memory", by="Location"), "{{Location}}"),),
            stacked=True,
        ),
        Panel(
            "Network by node",
            "Bytes per second: received, and sent as a second line.",
            "Bps",
            (
                Query(
                    f"max by (instance) ({series('ray_node_network_receive_speed')})",
                    "{{instance}} received",
                ),
                Query(
                    f"max by (instance) ({series('ray_node_network_send_speed')})",
                    "{{instance}} sent",
                ),
            ),
        ),
        Panel(
            "Actors",
            "Ray's actors by state. Many that stay PENDING_CREATION: the cluster is too small.",
            "none",
            (Query(total("ray_actors", 'State!="DEAD"', 'Source="gcs"', by="State"), "{{State}}"),),
            stacked=True,
        ),
        Panel(
            "Processes that died",
            "Workers that ended unexpectedly, and workers that Ray ended for lack of memory. One "
            "bad video costs a few of them; a steady rate is a defect.",
            "none",
            (
                Query(
                    f"{rate('ray_node_manager_unexpected_worker_failure_total')} * 60 or vector(0)",
                    "died, per minute",
                ),
                Query(
                    f"{rate('ray_memory_manager_worker_eviction_total')} * 60 or vector(0)",
                    "ended for memory, per minute",
                ),
            ),
        ),
    ),
)
