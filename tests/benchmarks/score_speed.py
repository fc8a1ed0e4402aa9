"""Scoring beside its two halves alone, and beside a plain script that does one thing at a time.

Run by `make benchmark`. The same videos, boxes, network and batch size: decoding alone, decoding
and cropping (the product's reader) alone, the network (the product's, on crops in memory) alone
on one core and on all, end to end (the product's actors on Ray), and a script that decodes, crops
and predicts in order with plain PyTorch on all cores. End to end is compared with the slower of
decoding and the network with a core each, as they run side by side there, and with the network
on all cores, which leaves none for decoding. Start-up is not counted: what is timed end to end
begins when every worker has finished its first video. Estimates of both are compared.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from machine import machine
from random_bundle import write_random_bundle
from rich.console import Console
from rich.table import Table

from d3ke.camera import Camera, crop_camera, warp
from d3ke.networks.bundle import load_bundle
from d3ke_platform import runtime, storage
from d3ke_platform.pipelines.ray_data import run_stage
from d3ke_platform.schema import BOXES
from d3ke_platform.stages.crop_video import CropRule, CropVideo
from d3ke_platform.stages.decode import frames
from d3ke_platform.stages.detect import DetectorChoice
from d3ke_platform.stages.estimate import CropGeometry, FrameEstimator, bundle_dims
from d3ke_platform.stages.score_plan import ScorePlan
from d3ke_platform.stages.score_video import ScoreVideo
from d3ke_platform.stages.scores_folder import read_scored
from d3ke_platform.stages.segment_files import read_estimates

WAYS = ("decode", "read", "model", "model, all cores", "end to end", "script")
NETWORKS = {"small": ("resnet18_half", 128), "resnext": ("resnext50_32x4d", 256)}
CHOICE = DetectorChoice("none", "", "")


def main() -> None:
    """Print one table per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--size", default="640x480", help="of the pictures")
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--frames", type=int, default=0, help="of a video; 0: 320, resnext 64")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1, help="times each way is run")
    options = parser.parse_args()
    console = Console(width=110)
    console.print(machine())
    with tempfile.TemporaryDirectory(prefix="score") as folder, runtime.connect():
        for name in options.networks:
            console.print(_compare(Path(folder) / name, name, options))


def _compare(folder: Path, name: str, options: argparse.Namespace) -> Table:
    backbone, size = NETWORKS[name]
    count = options.frames or (64 if name == "resnext" else 320)
    bundle = write_random_bundle(
        folder / "bundle", sequence=False, backbone=backbone, image_size=size
    )
    width, height = (int(side) for side in options.size.split("x"))
    items = [_video(folder / f"v{n}.mp4", n, count, (width, height)) for n in range(options.videos)]
    plan = _plan(bundle, folder, options.batch_size)
    ways: dict[str, list[float]] = {way: [] for way in WAYS}
    difference = 0.0
    for number in range(options.rounds):
        plan = _plan(bundle, folder / f"round{number}", options.batch_size)
        ways["decode"].append(_decode_only(items[0]))
        crops, rate = _read_only(plan, items[0])
        ways["read"].append(rate)
        ways["model"].append(_model_only(plan, crops, threads=1))
        ways["model, all cores"].append(_model_only(plan, crops, threads=_cores()))
        ways["end to end"].append(_end_to_end(plan, items))
        expected, rate = _script(bundle, items[0], options.batch_size)
        ways["script"].append(rate)
        difference = max(difference, _difference(plan, items[0], expected))
    title = f"{backbone}, {size} px, batches of {options.batch_size}, {options.size} videos"
    return _table(title, {way: float(np.median(r)) for way, r in ways.items()}, difference)


def _video(path: Path, seed: int, count: int, size: tuple[int, int]) -> dict[str, Any]:
    """A textured person-sized block that walks before a textured wall, with its boxes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    width, height = size
    wall = np.repeat(np.repeat(random.integers(60, 160, (height // 8, width // 8, 3)), 8, 0), 8, 1)
    person = (
        random.integers(0, 255, (height // 2 // 4, height // 5 // 4, 3)).repeat(4, 0).repeat(4, 1)
    )
    boxes = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"g": "60", "preset": "veryfast"}
        for number in range(count):
            image = wall.astype(np.uint8)
            x = int((width - person.shape[1]) * (0.5 + 0.45 * np.sin(number / 40)))
            y = height // 3
            image[y : y + person.shape[0], x : x + person.shape[1]] = person
            boxes.append([x, y, x + person.shape[1] - 1.0, y + person.shape[0] - 1.0])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    table = {"frame": range(count), "box": boxes, "confidence": [1.0] * count}
    storage.write_table(path.with_suffix(".parquet"), BOXES.to_arrow(table))
    return {"uri": str(path), "camera": None, "boxes_uri": str(path.with_suffix(".parquet"))}


def _plan(bundle_folder: Path, output: Path, batch_size: int) -> ScorePlan:
    bundle = load_bundle(bundle_folder)
    geometry = CropGeometry.of_bundle(bundle)
    rule = CropRule(
        stored_size=geometry.stored_size,
        cut_size=geometry.cut_size,
        margin=geometry.stored_field_of_view,
    )
    return ScorePlan(
        output=str(output),
        run="speed",
        bundle=str(bundle_folder),
        dims=bundle_dims(bundle),
        detector=CHOICE,
        rule=rule,
        device="cpu",
        batch_size=batch_size,
    )


def _decode_only(item: dict[str, Any]) -> float:
    """Frames/s of decoding in this process."""
    began = time.perf_counter()
    count = sum(1 for _ in frames(item["uri"]))
    return count / (time.perf_counter() - began)


def _read_only(plan: ScorePlan, item: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Crops of a video, and frames/s of decoding and cropping them in this process."""
    stage = ScoreVideo(plan, network=_Nothing())
    recording, record = stage.look(item)
    job = stage._job(recording, record, Path(item["uri"]))(0, recording.segments)
    reader = CropVideo(CHOICE)
    began = time.perf_counter()
    crops = [batch.images for batch in reader.crops(job) if batch is not None]
    return np.concatenate(crops), recording.frames / (time.perf_counter() - began)


def _model_only(plan: ScorePlan, crops: np.ndarray, *, threads: int) -> float:
    """Crops/s of the product's network alone."""
    with _threads(threads):
        estimator = FrameEstimator(plan.bundle, device="cpu", batch_size=plan.batch_size)
        estimator.estimate(crops[: plan.batch_size])
        began = time.perf_counter()
        estimator.estimate(crops)
        return len(crops) / (time.perf_counter() - began)


def _end_to_end(plan: ScorePlan, items: list[dict[str, Any]]) -> float:
    """Frames/s of the product, from when each worker has finished its first video."""
    workers = max(1, int(runtime.total_cpus()) - 2)
    frames, began, now = 0, 0.0, 0.0
    rows = run_stage(
        items, ScoreVideo, arguments={"plan": plan}, name="speed", actors=workers, progress=False
    )
    for number, row in enumerate(rows, start=1):
        now = time.perf_counter()
        frames += row["estimated"] if number > workers else 0
        began = now if number == workers else began
    return frames / (now - began)


def _script(bundle_folder: Path, item: dict[str, Any], batch_size: int) -> tuple[np.ndarray, float]:
    """Angles of a video, and frames/s: decode, crop, predict, one after the other."""
    boxes = BOXES.to_numpy(storage.read_table(item["boxes_uri"]))["box"]
    bundle = load_bundle(bundle_folder)
    geometry = CropGeometry.of_bundle(bundle)
    network = bundle.frame.eval()
    angles: list[np.ndarray] = []
    with _threads(_cores()), torch.inference_mode():
        network(torch.zeros(batch_size, 3, geometry.image_size, geometry.image_size))
        began = time.perf_counter()
        pairs = zip(frames(item["uri"]), boxes, strict=True)
        while part := list(islice(pairs, batch_size)):
            crops = []
            for frame, box in part:
                height, width = frame.image.shape[:2]
                camera = Camera.assumed((width, height))
                margin = geometry.stored_field_of_view
                view = crop_camera(camera, box, size=geometry.stored_size, margin=margin)
                crops.append(torch.from_numpy(warp(frame.image, camera, view)).permute(2, 0, 1))
            estimate = network(geometry.seen(torch.stack(crops)))
            angles.append(estimate.coordinates.double().numpy())
        seconds = time.perf_counter() - began
    return np.concatenate(angles), len(boxes) / seconds


def _difference(plan: ScorePlan, item: dict[str, Any], expected: np.ndarray) -> float:
    """Largest difference of the angles, rad."""
    recording, _ = ScoreVideo(plan, network=_Nothing()).look(item)
    scored = read_scored(plan.folder, recording.recording_id)
    assert scored is not None
    found = read_estimates(plan.folder, scored).columns["coordinates"]
    return float(np.abs(found - expected).max())


class _Nothing:
    """In the place of a network where none is asked."""

    ahead = 0

    def submit(self, images: np.ndarray) -> None:
        raise AssertionError("nobody asks")

    def result(self, ticket: object) -> Any:
        raise AssertionError("nobody asks")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _table(title: str, rates: dict[str, float], difference: float) -> Table:
    table = Table(title=title)
    for column in ("", "frames/s", "asked", "measured"):
        table.add_column(column, justify="left" if not column else "right")

    def row(text: str, way: str, asked: str = "", measured: str = "") -> None:
        table.add_row(text, f"{rates[way]:.1f}" if way else "", asked, measured)

    end = rates["end to end"]
    slower = min(rates["decode"], rates["model"])
    crowded = min(rates["decode"], rates["model, all cores"])
    row("decoding alone, one process", "decode")
    row("decoding, boxes and crops alone, one process", "read")
    row("network alone, one core", "model")
    row("network alone, all cores", "model, all cores")
    row("end to end, of the slower with a core each", "end to end", "0.85", f"{end / slower:.2f}")
    row("  of the slower, the network on all cores", "", "", f"{end / crowded:.2f}")
    row("script, of which end to end is", "script", "1.6", f"{end / rates['script']:.2f}")
    row("difference of the angles [rad]", "", "1e-4", f"{difference:.1e}")
    return table


if __name__ == "__main__":
    main()
