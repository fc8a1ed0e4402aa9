"""Capacity: costs measured here, the plan checked against real runs, the table of docs/scaling.md.

    python tests/benchmarks/capacity.py [--video FILE] [--pose-model FILE] [--no-check]
        [--picture FILE]

Costs per frame are processor seconds of one thread, so that other work on the machine changes them
little. The check lets stages that sleep instead of computing run on one and on two simulated nodes
(processes of this machine) beside `simulate`; and a real scoring of the same video on one node with
one worker, and on two with one each.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "platform"), str(ROOT / "tests/d3ke_platform/stages")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

from capacity_plans import picture, table  # noqa: E402
from machine import machine  # noqa: E402

from d3ke_platform import runtime  # noqa: E402
from d3ke_platform.capacity import Archive, Costs, Job  # noqa: E402
from d3ke_platform.capacity_simulation import simulate  # noqa: E402
from d3ke_platform.pipelines.ray_data import run_stage  # noqa: E402

EVERY = 3
"""Frames from one look for people to the next, as jobs/score.py does by default."""


class Sleep:
    """An item takes the time that its frames are said to take, and no processor."""

    name = "sleep"

    def __init__(self, per_frame_s: float) -> None:
        self._per_frame_s = per_frame_s

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        time.sleep(item["frames"] * self._per_frame_s)
        return [{"item": item["item"], "frames": item["frames"]}]


@contextmanager
def nodes(count: int, workers: int) -> Iterator[None]:
    """A Ray of its own with so many nodes and room for so many workers."""
    from ray.cluster_utils import Cluster as Simulated

    share = [workers // count + (index < workers % count) for index in range(count)]
    # Others on this machine may have taken the dashboard's own port.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 2 + share[0], "include_dashboard": False, "dashboard_port": port}
    simulated = Simulated(initialize_head=True, head_node_args=head)
    before = os.environ.get("RAY_ADDRESS")
    try:
        for cpus in share[1:]:
            simulated.add_node(num_cpus=cpus)
        simulated.wait_for_nodes()
        os.environ["RAY_ADDRESS"] = simulated.address
        with runtime.connect():
            yield
    finally:
        os.environ.pop("RAY_ADDRESS", None)
        if before is not None:
            os.environ["RAY_ADDRESS"] = before
        simulated.shutdown()


def driver_costs(items: int) -> tuple[float, float]:
    """Processor seconds and bytes of the driver per item; needs a connection to Ray."""
    process = psutil.Process()
    timed = sleeping(list(range(items)), 0.0, 2)
    list(sleeping([0], 0.0, 1))
    before, memory = process.cpu_times(), process.memory_info().rss
    for _ in timed:
        pass
    after = process.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return spent / items, max(0.0, process.memory_info().rss - memory) / items


def sleeping(frames: list[int], per_frame_s: float, workers: int) -> Iterator[dict[str, Any]]:
    """Run the sleeping stage over items of so many frames."""
    items = [{"item": str(number), "frames": count} for number, count in enumerate(frames)]
    arguments = {"per_frame_s": per_frame_s}
    return run_stage(
        items, Sleep, arguments=arguments, name="sleep", actors=workers, progress=False
    )


def seconds_of(rows: Iterator[dict[str, Any]]) -> float:
    """Until the last row."""
    began = time.monotonic()
    for _ in rows:
        pass
    return time.monotonic() - began


def check_sleeping(handed_out_per_s: float) -> list[str]:
    """Predicted and measured duration of the same items on one and two nodes."""
    lines = []
    frames = [400, 100, 250, 150, 300, 200, 350, 50] * 12
    for count, workers in ((1, 2), (1, 6), (2, 2), (2, 6)):
        with nodes(count, workers):
            start_s = seconds_of(sleeping([0] * workers, 0.0, workers))
            measured = seconds_of(sleeping(frames, 0.004, workers))
        costs = Costs(
            decode_s=0.004,
            detect_s=0.0,
            crop_s=0.0,
            start_s=start_s,
            handed_out_per_s=handed_out_per_s,
        )
        played = simulate(frames, workers=workers, gpus=0, costs=costs, job=Job(), stages=1)
        ratio = measured / played.seconds
        lines.append(
            f"{count} node(s), {workers} workers: predicted {played.frames_per_s:.0f} frames/s, "
            f"measured {sum(frames) / measured:.0f} (time {ratio:.2f} of predicted; "
            f"start {start_s:.1f} s)"
        )
    return lines


def measured_costs(video: Path, pose_model: str, folder: Path) -> dict[str, float]:
    """Processor seconds per frame of one thread, by step."""
    import torch
    from random_bundle import write_random_bundle

    from d3ke.camera import Camera, crop_camera, warp
    from d3ke_platform.stages.decode import frames, probe
    from d3ke_platform.stages.detect import build_detector, build_finder, choose_detector
    from d3ke_platform.stages.estimate import FrameEstimator

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    info = probe(video)
    costs = {"decode": per_frame(lambda: sum(1 for _ in islice(frames(video), 60)))}
    shown = list(islice(frames(video), 30))
    kind = "mediapipe" if pose_model else "fallback"
    choice = choose_detector(kind, pose_model=pose_model)
    if pose_model:
        finder = build_finder(choice)
        costs[f"detect ({kind})"] = per_frame(lambda: len([finder.people(f) for f in shown]))
    else:
        detector = build_detector(choice, device="cpu")
        costs[f"detect ({kind})"] = per_frame(lambda: len(detector.boxes(shown)))
    camera = Camera.assumed((info.width, info.height), 55.0)
    box = np.array([0.3 * info.width, 0.2 * info.height, 0.7 * info.width, 0.9 * info.height])

    def cut() -> int:
        for frame in shown:
            warp(frame.image, camera, crop_camera(camera, box, size=256, margin=1.5))
        return len(shown)

    costs["crop"] = per_frame(cut)
    for backbone, size in (("resnet18_half", 128), ("resnext50_32x4d", 256)):
        bundle = write_random_bundle(folder / backbone, backbone=backbone, image_size=size)
        estimator = FrameEstimator(bundle, device="cpu")
        images = np.zeros((8, size, size, 3), np.uint8)
        work = partial(estimator.estimate, images)
        costs[f"network ({backbone}, {size} px)"] = per_frame(lambda w=work: len(w()[0]))
    return costs


def per_frame(work: Any) -> float:
    """Processor seconds per frame of `work`, which returns a number of frames; best of three."""
    work()
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        count = work()
        best = min(best, (time.process_time() - began) / count)
    return best


def check_scoring(video: Path, folder: Path, copies: int) -> list[str]:
    """A real scoring on one node with one worker; then on two with one each, predicted from it."""
    from random_bundle import write_random_bundle

    from d3ke_platform.pipelines.score import ScoreSettings, score

    model = write_random_bundle(folder / "model")
    archive = folder / "archive"
    archive.mkdir()
    for number in range(copies):
        # Other bytes at the end: other content, so that no two are the same recording.
        shutil.copy(video, archive / f"copy{number}.mp4")
        with (archive / f"copy{number}.mp4").open("ab") as file:
            file.write(bytes([number]))
    lines, first = [], None
    for count in (1, 2):
        with nodes(count, count):
            start_s = seconds_of(sleeping([0] * count, 0.0, count))
            settings = ScoreSettings(
                archive=str(archive),
                model=str(model),
                output=str(folder / f"scores{count}"),
                detector="fallback",
                export=("mot",),
                actors=count,
            )
            summary = score(settings)
        if first is None:
            first = summary
            work = summary.seconds - 2 * start_s
            costs = Costs(decode_s=work / summary.frames, detect_s=0.0, crop_s=0.0, start_s=start_s)
            lines.append(f"1 node, 1 worker: {summary.frames_per_second:.1f} frames/s measured")
            continue
        each = [first.frames // copies] * copies
        costs = replace(costs, start_s=start_s)
        played = simulate(each, workers=2, gpus=0, costs=costs, job=Job(), stages=2)
        rate = summary.frames_per_second
        lines.append(
            f"2 nodes, 1 worker each: predicted {played.frames_per_s:.1f} frames/s, measured "
            f"{rate:.1f} ({rate / played.frames_per_s:.2f} of predicted)"
        )
    return lines


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--video", type=Path, help="a real video; default: Pose2Sim's demo")
    parser.add_argument("--pose-model", default=os.environ.get("D3KE_POSE_MODEL", ""))
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--items", type=int, default=2000, help="items that the driver is timed on")
    parser.add_argument("--no-check", action="store_true", help="leave out the real runs")
    options = parser.parse_args()
    say = sys.stdout.write
    with tempfile.TemporaryDirectory(prefix="cap-") as name:
        folder = Path(name)
        video = options.video
        if video is None:
            from d3ke_platform.sources.pose2sim_demo import fetch

            video = fetch(folder / "demo") / "cam01.mp4"
        say(f"{machine()}\n\nprocessor time per frame, one thread, {video.name}:\n")
        measured = measured_costs(video, options.pose_model, folder)
        for step, seconds in measured.items():
            say(f"  {step:<36} {seconds * 1e3:8.2f} ms   {1 / seconds:8.1f} frames/s\n")
        with nodes(1, 2):
            per_item, memory = driver_costs(options.items)
        say(f"driver: {per_item * 1e3:.2f} ms and {memory / 1e3:.1f} kB per item\n")
        if not options.no_check:
            say("\nstages that sleep, predicted and measured:\n")
            for line in check_sleeping(1 / per_item):
                say(f"  {line}\n")
            say("\nscoring, predicted and measured:\n")
            for line in check_scoring(video, folder, copies=4):
                say(f"  {line}\n")
        costs = Costs(
            decode_s=measured["decode"],
            detect_s=next(v for k, v in measured.items() if k.startswith("detect")) / EVERY,
            crop_s=measured["crop"],
            handed_out_per_s=1 / per_item,
            driver_bytes_per_item=memory,
        )
        say(f"\n1 million hours of video, costs {costs}\n\n{table(costs, Archive(hours=1e6))}\n")
        if options.picture:
            picture(options.picture, costs, Archive(hours=1e6))


if __name__ == "__main__":
    main()
