"""The plan against what can be worked out by hand, and against the simulation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from d3ke.errors import InvalidInputError
from d3ke_platform.capacity import (
    Archive,
    Cluster,
    Costs,
    Job,
    cpu_nodes_for,
    plan,
    with_window,
)
from d3ke_platform.capacity_simulation import simulate

COSTS = Costs(
    decode_s=0.005,
    detect_s=0.004,
    crop_s=0.001,
    finish_s=0.001,
    network_s=0.02,
    gpu_frames_per_s=3000.0,
    start_s=10.0,
    handed_out_per_s=200.0,
)
ONE_GPU = Cluster(gpus=1, gpus_per_node=1, cpus_per_node=23, node_price_per_h=4.0)


def test_frames_videos_and_files_of_a_million_hours() -> None:
    archive = Archive(hours=1e6)
    assert archive.frames == pytest.approx(1.08e11)
    assert archive.videos == 6_000_000
    found = plan(archive, ONE_GPU, COSTS, Job(exports=3))
    # 18,000 frames are 36 segments; record, description, results and three exports besides.
    assert found.files == 6e6 * (36 + 3 + 3)


def test_rates_are_those_of_the_slower_part() -> None:
    archive = Archive(hours=1000.0)
    found = plan(archive, ONE_GPU, COSTS, Job(window_videos=6000))
    assert found.workers == 20
    assert found.bound == "workers"
    # 20 workers at 10 ms a frame, then 1 ms of finishing; one window starts actors three times.
    seconds = archive.frames * (0.010 + 0.001) / 20 + 3 * 10.0
    assert found.hours * 3600 == pytest.approx(seconds)
    assert found.cost == pytest.approx(seconds / 3600 * 4.0)
    slow = plan(archive, ONE_GPU, replace(COSTS, gpu_frames_per_s=500.0), Job())
    assert slow.bound == "GPUs"
    assert slow.gpu_busy == pytest.approx(1 / (1 + 500 * 0.001 / 20), abs=0.03)


def test_without_gpus_the_network_runs_on_the_cores() -> None:
    cores = Cluster(gpus=0, nodes_without_gpu=2, cpus_per_node=11)
    found = plan(Archive(hours=100.0), cores, COSTS, Job(window_videos=600))
    seconds = 100 * 3600 * 30 * (0.010 + 0.020 + 0.001) / 20 + 30.0
    assert found.hours * 3600 == pytest.approx(seconds)
    assert found.gpu_busy == 0.0


def test_what_gives_out_first_changes_with_size() -> None:
    archive = Archive(hours=1e6)
    names = []
    for gpus in (8, 1000):
        cluster = Cluster(gpus=gpus, gpus_per_node=8, cpus_per_node=192)
        names.append(plan(archive, cluster, COSTS, Job()).first.name)
    assert names[0] == "files of one file system"
    assert names[1] != names[0]


def test_shards_share_the_drivers_work() -> None:
    cluster = Cluster(gpus=1000, gpus_per_node=8, cpus_per_node=192)
    archive = Archive(hours=1e6)
    one = {limit.name: limit for limit in plan(archive, cluster, COSTS, Job()).limits}
    ten = {limit.name: limit for limit in plan(archive, cluster, COSTS, Job(shards=10)).limits}
    for name in ("items the driver hands out", "Ray actors", "Ray nodes"):
        assert ten[name].use == pytest.approx(one[name].use / 10, rel=0.01), name
    assert ten["files of one file system"].use == one["files of one file system"].use


def test_nodes_of_cores_keep_gpus_at_work() -> None:
    cluster = Cluster(gpus=8, gpus_per_node=8, cpus_per_node=192, node_price_per_h=30.0)
    # 8 x 3000 frames/s at 10 ms are 240 cores, of which the GPUs' own machine has 182.
    assert cpu_nodes_for(cluster, COSTS) == 1
    both = replace(cluster, nodes_without_gpu=1, cpu_node_price_per_h=8.0)
    assert both.price_per_h == 38.0
    alone, together = (plan(Archive(hours=1e4), c, COSTS, Job()) for c in (cluster, both))
    assert (alone.bound, together.bound) == ("workers", "GPUs")


def test_a_cluster_without_a_free_core_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="leave none"):
        plan(Archive(hours=1.0), Cluster(gpus=2, gpus_per_node=2, cpus_per_node=4), COSTS, Job())


@pytest.mark.parametrize(("workers", "gpus"), [(20, 1), (40, 1), (100, 4)])
def test_the_simulation_of_a_long_job_is_the_plan(workers: int, gpus: int) -> None:
    """With short starts and many videos a worker, the ends of windows hardly matter."""
    costs = replace(COSTS, start_s=0.5)
    archive = Archive(hours=2000.0)
    cluster = Cluster(gpus=gpus, gpus_per_node=gpus, cpus_per_node=workers + 2 + gpus)
    job = Job(window_videos=20_000)
    played = simulate(
        [archive.video_frames] * archive.videos, workers=workers, gpus=gpus, costs=costs, job=job
    )
    expected = plan(archive, cluster, costs, job)
    assert played.frames_per_s == pytest.approx(expected.frames_per_s, rel=0.02)
    assert played.frames == archive.frames


def test_small_windows_leave_workers_idle() -> None:
    videos = [18_000] * 4000
    few = simulate(videos, workers=1000, gpus=40, costs=COSTS, job=Job(window_videos=500))
    wide = with_window(Job(window_videos=500), 1000, rounds=4)
    many = simulate(videos, workers=1000, gpus=40, costs=COSTS, job=wide)
    assert wide.window_videos == 4000
    assert many.frames_per_s > 1.8 * few.frames_per_s
    assert few.worker_busy < 0.6 < many.worker_busy


def test_the_driver_hands_items_out_one_after_the_other() -> None:
    costs = replace(COSTS, handed_out_per_s=10.0, start_s=0.0)
    played = simulate([1] * 1000, workers=500, gpus=0, costs=costs, job=Job(), stages=1)
    assert played.seconds == pytest.approx(100.0, abs=0.1)
