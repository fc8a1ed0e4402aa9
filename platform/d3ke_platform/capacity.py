"""How long scoring an archive takes on a cluster, what it costs, and what gives out first.

`plan` is arithmetic: rates, numbers of actors and files, bytes, against limits;
`capacity_simulation` plays a job through. Figures of one's own machine come from
`tests/benchmarks/capacity.py`; docs/scaling.md has the results.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from d3ke.errors import InvalidInputError

HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one frame and one item take; measured, or assumed where there is no such machine."""

    decode_s: float
    """Decoding a frame on one core [s]."""
    detect_s: float
    """Finding people, per frame of the video (the detector's time over `detect_every`) [s]."""
    crop_s: float
    """Cutting a person out of a frame [s]."""
    other_s: float = 0.0
    """Rest of a worker's time per frame: passing on, writing [s]."""
    finish_s: float = 0.0
    """Sequence network, results and exports, per frame on one core [s]."""
    network_s: float = 0.0
    """Per-frame network on one core, where there is no GPU [s]."""
    gpu_frames_per_s: float = 0.0
    """Per-frame network on one GPU [1/s]."""
    start_s: float = 15.0
    """From asking for an actor to its first item: a process, imports, the model [s]."""
    handed_out_per_s: float = 100.0
    """Items that one driver hands out and takes back [1/s]."""
    driver_bytes_per_item: float = 20e3
    """Memory of the driver that stays with each item of a window [bytes]."""
    worker_bytes: float = 1.2e9
    """Memory of a worker and its child process [bytes]."""

    @property
    def worker_s(self) -> float:
        """A frame in a worker, the network left out [s]."""
        return self.decode_s + self.detect_s + self.crop_s + self.other_s


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Videos to be scored."""

    hours: float
    """Length of all videos [h]."""
    video_minutes: float = 10.0
    """Length of one [min]."""
    frames_per_s: float = 30.0
    """Frame rate [1/s]."""
    bytes_per_frame: float = 17e3
    """Size of the files (17 kB: 4 Mbit/s at 30 frames/s) [bytes]."""

    @property
    def frames(self) -> float:
        """Frames of all videos."""
        return self.hours * HOUR_S * self.frames_per_s

    @property
    def video_frames(self) -> int:
        """Frames of one video."""
        return max(1, round(self.video_minutes * 60 * self.frames_per_s))

    @property
    def videos(self) -> int:
        """Number of videos."""
        return max(1, math.ceil(self.frames / self.video_frames))


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines; without GPUs, `nodes` of CPUs."""

    gpus: int
    """GPUs of the cluster."""
    gpus_per_node: int = 8
    """GPUs of a machine."""
    cpus_per_node: int = 192
    """Cores of a machine."""
    memory_per_node: float = 2e12
    """Memory of a machine [bytes]."""
    network_bytes_per_s: float = 12.5e9
    """Network of a machine, each way (12.5e9: 100 Gbit/s) [bytes/s]."""
    nodes_without_gpu: int = 0
    """Machines that have cores alone."""
    node_price_per_h: float = 0.0
    """Price of a machine with GPUs [currency/h]."""
    cpu_node_price_per_h: float = 0.0
    """Price of a machine that has cores alone [currency/h]."""

    @property
    def nodes(self) -> int:
        """Machines."""
        return math.ceil(self.gpus / self.gpus_per_node) + self.nodes_without_gpu

    @property
    def cpus(self) -> int:
        """Cores."""
        return self.nodes * self.cpus_per_node

    @property
    def price_per_h(self) -> float:
        """Price of all machines [currency/h]."""
        alone = self.nodes_without_gpu
        return (self.nodes - alone) * self.node_price_per_h + alone * self.cpu_node_price_per_h


@dataclass(frozen=True, kw_only=True)
class Job:
    """How the job goes about it; the defaults are those of jobs/score.py on up to 100 workers."""

    segment_frames: int = 512
    """Frames of an estimates file."""
    part_frames: int = 8192
    """Frames of an item that goes to one worker (16 segments)."""
    window_videos: int = 2000
    """Videos estimated before they are finished; see `with_window` for more workers."""
    exports: int = 3
    """Export files per video."""
    crop_bytes: float = 196_608.0
    """A crop on its way to the network (256 x 256 x 3) [bytes]."""
    result_bytes: float = 4_200.0
    """Estimates (600) and results (3,600) of a frame on disk [bytes]."""
    batch_size: int = 64
    """Crops of a batch."""
    batches_ahead: int = 2
    """Batches a worker may have under way."""
    shared_out: int = 0
    """Network actors a worker talks to; 0: all of them."""
    shards: int = 1
    """Jobs of their own, on equal parts of archive and cluster."""


@dataclass(frozen=True)
class Limit:
    """One thing that can give out."""

    name: str
    use: float
    """What the job wants of it."""
    most: float
    """What there is."""
    unit: str

    @property
    def share(self) -> float:
        """Above 1 it gives out."""
        return self.use / self.most


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What `plan` comes to."""

    workers: int
    """Workers that decode, each on a core."""
    network_actors: int
    frames_per_s: float
    """Of the whole cluster, while it works."""
    bound: str
    """What the rate ends at: workers, GPUs or the driver that hands out items."""
    gpu_busy: float
    """Share of time in which the GPUs have work."""
    hours: float
    """Duration [h]."""
    cost: float
    """Of the machines, over that time."""
    files: float
    """Files written."""
    written_bytes: float
    """Their size, exports left out."""
    limits: tuple[Limit, ...]

    @property
    def first(self) -> Limit:
        """The limit that is nearest, or furthest passed."""
        return max(self.limits, key=lambda limit: limit.share)


# What is known of others' limits; docs/scaling.md says from where.
RAY_ACTORS, RAY_NODES = 20_000, 3_000
CONNECTIONS = 65_536 / 2  # two of a process' file descriptors each
FILES = 100e6
READING = 10e9
DRIVER_BYTES = 64e9
OBJECT_STORE_SHARE = 0.3


def plan(archive: Archive, cluster: Cluster, costs: Costs, job: Job) -> Outlook:
    """Rates, sizes and limits of a job.

    Raises:
        InvalidInputError: a cluster without room for a single worker.
    """
    networks = cluster.gpus
    # Two cores are Ray Data's, one is each network actor's.
    workers = cluster.cpus - 2 * job.shards - networks
    if workers < 1:
        raise InvalidInputError(
            "cluster", f"{cluster.cpus} cores for {networks} GPUs leave none", "Add nodes of cores."
        )
    by_workers = workers / (costs.worker_s + (0.0 if networks else costs.network_s))
    by_gpus = networks * costs.gpu_frames_per_s if networks else math.inf
    estimating = min(by_workers, by_gpus)
    # Finishing runs after estimating, window by window, by the same workers; GPUs are idle then.
    rate = 1.0 / (1.0 / estimating + costs.finish_s / workers)
    handed = job.shards * costs.handed_out_per_s * archive.video_frames / _items(archive, job)
    bound = "GPUs" if by_gpus <= by_workers else "workers"
    if handed < rate:
        rate, bound = handed, "driver"
    busy_s = archive.frames / rate
    windows = math.ceil(archive.videos / job.shards / job.window_videos)
    seconds = busy_s + windows * _STARTS_OF_A_WINDOW * costs.start_s
    hours = seconds / HOUR_S
    return Outlook(
        workers=workers,
        network_actors=networks,
        frames_per_s=archive.frames / seconds,
        bound=bound,
        gpu_busy=archive.frames / seconds / by_gpus if networks else 0.0,
        hours=hours,
        cost=hours * cluster.price_per_h,
        files=_files(archive, job),
        written_bytes=archive.frames * job.result_bytes,
        limits=_limits(archive, cluster, costs, job, workers=workers, rate=rate, peak=estimating),
    )


# Estimating, the parts of long videos, finishing: each starts its actors anew.
_STARTS_OF_A_WINDOW = 3


def _items(archive: Archive, job: Job) -> int:
    """Items of a video: itself, its parts where it is more than one, finishing it."""
    parts = math.ceil(archive.video_frames / job.part_frames)
    return (1 if parts == 1 else 1 + parts) + 1


def _files(archive: Archive, job: Job) -> float:
    """Estimates by segment; record, description, results and exports by video."""
    segments = math.ceil(archive.video_frames / job.segment_frames)
    return float(archive.videos * (segments + 3 + job.exports))


def _limits(
    archive: Archive,
    cluster: Cluster,
    costs: Costs,
    job: Job,
    *,
    workers: int,
    rate: float,
    peak: float,
) -> tuple[Limit, ...]:
    """Everything that can give out; `peak` frames/s while videos are estimated, `rate` in all."""
    return (
        *_limits_of_control(archive, cluster, costs, job, workers=workers, rate=rate, peak=peak),
        *_limits_of_nodes(archive, cluster, costs, job, workers=workers, peak=peak),
        Limit("reading from one file system", peak * archive.bytes_per_frame, READING, "bytes/s"),
        Limit("files of one file system", _files(archive, job), FILES, "files"),
    )


def _limits_of_control(
    archive: Archive,
    cluster: Cluster,
    costs: Costs,
    job: Job,
    *,
    workers: int,
    rate: float,
    peak: float,
) -> tuple[Limit, ...]:
    """What there is one of in each job: its driver and its Ray cluster."""
    shards, items = job.shards, _items(archive, job)
    window = min(job.window_videos, archive.videos)
    window_s = window * archive.video_frames / (rate / shards)
    handed = peak / shards / archive.video_frames * items
    remembered = window * items * costs.driver_bytes_per_item
    talks_to = job.shared_out or cluster.gpus / shards
    callers = workers * talks_to / cluster.gpus if cluster.gpus else 0.0
    starts = _STARTS_OF_A_WINDOW * costs.start_s
    return (
        Limit("starts beside a window's work", starts, window_s, "s"),
        Limit("items the driver hands out", handed, costs.handed_out_per_s, "1/s"),
        Limit("driver memory", remembered, DRIVER_BYTES, "bytes"),
        Limit("Ray actors", (workers + cluster.gpus) / shards, RAY_ACTORS, "actors"),
        Limit("Ray nodes", cluster.nodes / shards, RAY_NODES, "nodes"),
        Limit("connections of a network actor", callers, CONNECTIONS, "connections"),
    )


def _limits_of_nodes(
    archive: Archive, cluster: Cluster, costs: Costs, job: Job, *, workers: int, peak: float
) -> tuple[Limit, ...]:
    """What each machine has."""
    nodes, memory = cluster.nodes, cluster.memory_per_node
    per_node = workers / nodes
    crops = peak / nodes * job.crop_bytes if cluster.gpus and nodes > 1 else 0.0
    carried = crops + peak * archive.bytes_per_frame / nodes
    ahead = per_node * job.batches_ahead * job.batch_size * job.crop_bytes if cluster.gpus else 0.0
    store = OBJECT_STORE_SHARE * memory
    return (
        Limit("network of a node", carried, cluster.network_bytes_per_s, "bytes/s"),
        Limit("object store of a node", ahead, store, "bytes"),
        Limit("memory of a node", per_node * costs.worker_bytes, memory - store, "bytes"),
    )


def cpu_nodes_for(cluster: Cluster, costs: Costs) -> int:
    """Machines with cores alone that keep the cluster's GPUs at work."""
    wanted = cluster.gpus * costs.gpu_frames_per_s * costs.worker_s
    free = cluster.cpus - cluster.gpus - 2
    return max(0, math.ceil((wanted - free) / cluster.cpus_per_node))


def with_window(job: Job, workers: int, *, rounds: int = 20) -> Job:
    """The job with a window that gives each worker `rounds` videos."""
    return replace(job, window_videos=max(job.window_videos, rounds * workers))
