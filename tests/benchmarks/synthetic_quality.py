"""How good the standard recipe's labels and pictures are, on a sample of it.

    python tests/benchmarks/synthetic_quality.py --pose-model FILE.task

Every person performs a few of the movements, so that all people and all movements take part. Their
trials are labelled (scaling and inverse kinematics as the job does them) and a few time steps are
rendered, with the recipe's own settings. Printed: marker errors by person and movement,
the share of pictures in which MediaPipe finds the person and how far its joints are from the true
ones, and what labels and crops take on the disk, also beside the published pipeline's files.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from d3ke.camera import Camera, crop_camera, project, to_camera, warp
from d3ke.kinematics import MarkerSet, write_trc
from d3ke_platform import cli, storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.pipelines.prepare import plan
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.schema import CROPS, LABELS
from d3ke_platform.sources.anny_body import BodyMotion
from d3ke_platform.sources.anny_markers import virtual_markers
from d3ke_platform.sources.sensor import Sensor
from d3ke_platform.sources.synthetic import STATIC, SyntheticSource, vertex_boxes
from d3ke_platform.stages.crop import encode_jpeg
from d3ke_platform.stages.label import LabelTrial, ScaleSubject

REFERENCE_GB = (700.0, 800.0)
"""What the published pipeline stores for BML-MoVi: its own words."""
REFERENCE_FRAMES = 100_839 / 15 * 82
"""Pictures of both cameras: those of the 15 test people's logs, times the people."""
KEYPOINTS = {
    name + side: (bone + suffix, index + right)
    for name, bone, index in (
        ("shoulder", "upperarm01", 11),
        ("elbow", "lowerarm01", 13),
        ("wrist", "wrist", 15),
        ("hip", "upperleg01", 23),
        ("knee", "lowerleg01", 25),
        ("ankle", "foot", 27),
    )
    for side, suffix, right in (("_l", ".L", 0), ("_r", ".R", 1))
}
"""Name -> bone whose head is the joint, MediaPipe's landmark."""


@dataclass(kw_only=True)
class Sample:
    """What has been measured so far."""

    errors: list[tuple[str, str, np.ndarray]] = field(default_factory=list)
    """Person, movement, marker errors [T, markers] m."""
    found: list[tuple[str, str, bool]] = field(default_factory=list)
    """Person, movement, whether MediaPipe found them in a picture."""
    keypoint_errors: list[np.ndarray] = field(default_factory=list)
    """[12] of the body height, one for each picture with a person found."""
    crops: list[dict[str, Any]] = field(default_factory=list)
    """Columns of CROPS."""
    pictures: list[np.ndarray] = field(default_factory=list)


def main() -> None:
    arguments = _arguments()
    recipe = ["--recipe", arguments.recipe]
    with tempfile.TemporaryDirectory() as folder:
        settings = cli.parse(
            PrepareSettings, [*recipe, "--output", f"{folder}/data"], job="prepare"
        )
        source = SyntheticSource(settings.synthetic)
        data = DataSet.create(settings.output, source=settings.source, settings=settings.identity())
        plan(data, source)
        landmarker = _landmarker(arguments.pose_model)
        sample = Sample()
        scale, label = ScaleSubject(data.root), LabelTrial(data.root)
        for subject, movements in _shares(source, arguments.subjects, arguments.movements):
            source.make({"subject": subject, "movement": STATIC}, Path(data.root))
            (row,) = [row for row in data.subjects() if row["subject"] == subject]
            scale(row)
            for movement in movements:
                motion = source.perform(subject, movement)
                trial = f"{subject}_{movement}"
                _label(data, label, source, trial, motion, arguments.every)
                sample.errors.append((subject, movement, _errors(data, trial)))
                _look(sample, source, subject, movement, motion, arguments.pictures, landmarker)
        console = Console(width=110)
        _report(console, sample, settings, _label_bytes(data, label, source, Path(data.root)))
        if landmarker is not None:
            landmarker.close()
        if arguments.sheet:
            _write_sheet(Path(arguments.sheet), sample.pictures)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="standard")
    parser.add_argument("--subjects", type=int, default=0, help="first so many people; 0 = all")
    parser.add_argument("--movements", type=int, default=4, help="per person")
    parser.add_argument("--every", type=int, default=2, help="label one time step of so many")
    parser.add_argument(
        "--pictures", type=int, default=1, help="per trial and camera; 0 = labels only"
    )
    parser.add_argument("--pose-model", default=os.environ.get("D3KE_POSE_MODEL", ""))
    parser.add_argument("--sheet", default="", help="write the pictures to this .png file")
    return parser.parse_args()


def _shares(
    source: SyntheticSource, subjects: int, movements: int
) -> Iterator[tuple[str, list[str]]]:
    """Person after person, the next few movements each."""
    names = source.movements
    people = list(source.settings.splits())
    for index, subject in enumerate(people[: subjects or None]):
        count = min(movements, len(names))
        yield subject, [names[(index * count + k) % len(names)] for k in range(count)]


def _label(
    data: DataSet,
    label: LabelTrial,
    source: SyntheticSource,
    trial: str,
    motion: BodyMotion,
    every: int,
) -> None:
    """Labels of one of `every` time steps. Not too few: where much happens between two, the solver
    has no neighbour to start from."""
    rate = source.settings.label_rate_hz / every
    markers = virtual_markers(source.body, motion.every(every), rate_hz=rate)
    uri = f"trials/{trial}.trc"
    data.resolve(uri).parent.mkdir(parents=True, exist_ok=True)
    write_trc(data.resolve(uri), markers)
    label(
        {
            "trial_id": trial,
            "subject": trial.split("_")[0],
            "markers_uri": uri,
            "ik_setup_uri": "",
        }
    )


def _errors(data: DataSet, trial: str) -> np.ndarray:
    """Errors of the markers that the labels are made from, [T, markers] m."""
    names = list(data.skeleton().markers)
    markers = MarkerSet.builtin("anny")
    used = [names.index(n) for n, w in zip(markers.names, markers.ik_weights, strict=True) if w > 0]
    table = LABELS.to_numpy(storage.read_table(data.label_uri(trial)), ["marker_error_m"])
    return np.asarray(table["marker_error_m"])[:, used]


def _look(
    sample: Sample,
    source: SyntheticSource,
    subject: str,
    movement: str,
    motion: BodyMotion,
    count: int,
    landmarker: Any,
) -> None:
    """Renders pictures of a trial and asks MediaPipe for the person in them."""
    if not count:
        return
    trial = f"{subject}_{movement}"
    source.set_scene(subject, movement, trial, motion)
    chosen = np.linspace(0, len(motion.vertices) - 1, count + 2).round().astype(int)[1:-1]
    height = source.body.height(source.phenotype(subject))
    for name in source.settings.cameras:
        camera = source.camera(subject, name)
        sensor = Sensor(size=camera.size, rng=np.random.default_rng([len(sample.found)]))
        for step in chosen:
            source.scene.pose(motion.vertices[step])
            picture = sensor(source.scene.picture(camera))
            sample.pictures.append(picture)
            sample.crops.append(_crop(picture, camera, motion, step))
            if landmarker is None:
                continue
            joints = {bone: at[step] for bone, at in motion.joints.items()}
            error = _keypoint_errors(landmarker, picture, camera, joints, height)
            sample.found.append((subject, movement, error is not None))
            sample.keypoint_errors += [] if error is None else [error]


def _landmarker(task_file: str) -> Any:
    """MediaPipe on single pictures, without what it saw before; None without its file."""
    if not task_file:
        return None
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    options = vision.PoseLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=task_file)
    )
    return vision.PoseLandmarker.create_from_options(options)


def _keypoint_errors(
    landmarker: Any,
    picture: np.ndarray,
    camera: Camera,
    joints: dict[str, np.ndarray],
    height_m: float,
) -> np.ndarray | None:
    """Distances [12] of MediaPipe's joints from the true ones, of the body height in the picture;
    None where it finds nobody."""
    import mediapipe

    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
    result = landmarker.detect(image)
    if not result.pose_landmarks:
        return None
    size = np.array(camera.size)
    seen = np.array([[p.x, p.y] for p in result.pose_landmarks[0]]) * size - 0.5
    true = project(camera, np.stack([joints[bone] for bone, _ in KEYPOINTS.values()]))
    depth = to_camera(camera, joints["root"][None])[0, 2]
    height_px = camera.intrinsics[0, 0] * height_m / depth
    distance = np.linalg.norm(seen[[index for _, index in KEYPOINTS.values()]] - true, axis=1)
    return np.asarray(distance / height_px)


def _crop(picture: np.ndarray, camera: Camera, motion: BodyMotion, step: int) -> dict[str, Any]:
    """What the recipes store of a picture: 320 px, the network's 256 and a margin."""
    (box,) = vertex_boxes(camera, motion.vertices[step : step + 1])
    view = crop_camera(camera, box, size=320, margin=1.2 * 1.25)
    return {
        "box": box,
        "jpeg": encode_jpeg(warp(picture, camera, view)),
        "crop_intrinsics": view.intrinsics,
        "crop_rotation": view.rotation,
        "crop_translation": view.translation,
    }


def _label_bytes(data: DataSet, label: LabelTrial, source: SyntheticSource, root: Path) -> float:
    """Bytes of the labels file of a whole trial for each of its time steps."""
    subject, movement = next(iter(source.settings.splits())), source.settings.movements[0]
    motion = source.perform(subject, movement)
    trial = f"{subject}_{movement}"
    _label(data, label, source, trial, motion, 1)
    return (root / f"labels/{trial}.parquet").stat().st_size / len(motion.vertices)


def _crop_bytes(crops: list[dict[str, Any]]) -> float:
    """Bytes of a crops file for each picture."""
    count = len(crops)
    text = dict.fromkeys(("recording_id", "trial_id", "subject", "split"), ["s001_walk"] * count)
    columns = {key: [row[key] for row in crops] for key in crops[0]}
    table = CROPS.to_arrow(
        {
            **text,
            **columns,
            "frame": np.arange(count),
            "trial_frame": np.arange(count) * 4,
            "time_s": np.arange(count) / 30,
        }
    )
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        storage.write_table(file.name, table)
        return Path(file.name).stat().st_size / count


def _report(
    console: Console, sample: Sample, settings: PrepareSettings, label_bytes: float
) -> None:
    for title, column in (("person", 0), ("movement", 1)):
        _print_errors(console, sample, title, column)
    people = sorted({row[0] for row in sample.errors})
    rms = [_rms([e for s, _, e in sample.errors if s == person]) for person in people]
    everything = np.concatenate([e.ravel() for _, _, e in sample.errors])
    console.print(
        f"marker RMS, mean of {len(people)} people: {1e3 * np.mean(rms):.2f} mm "
        f"(worst {1e3 * max(rms):.2f}); over 2 cm: {100 * np.nanmean(everything > 0.02):.2f} % "
        f"of {np.isfinite(everything).sum()} marker-frames"
    )
    if sample.found:
        found = np.array([f for _, _, f in sample.found])
        missed = sorted({(s, m) for s, m, f in sample.found if not f})
        errors = 100 * np.concatenate(sample.keypoint_errors)
        console.print(
            f"MediaPipe: {100 * found.mean():.1f} % of {len(found)} pictures, missed {missed}; "
            f"keypoint error median {np.median(errors):.2f} %, mean {errors.mean():.2f} %, "
            f"90th percentile {np.percentile(errors, 90):.2f} % of body height"
        )
    if not sample.crops:
        return
    synthetic = settings.synthetic
    steps = synthetic.labels_per_frame / len(synthetic.cameras)
    crop = _crop_bytes(sample.crops)
    total = crop + label_bytes * steps
    reference = [gb * 1e9 / REFERENCE_FRAMES for gb in REFERENCE_GB]
    console.print(
        f"storage: crop {crop / 1e3:.1f} kB, labels {label_bytes / 1e3:.2f} kB per time step and "
        f"{label_bytes * steps / 1e3:.1f} kB per crop: {total / 1e3:.1f} kB per frame, 1/"
        f"{reference[0] / total:.0f} to 1/{reference[1] / total:.0f} of the published pipeline's"
    )


def _print_errors(console: Console, sample: Sample, title: str, column: int) -> None:
    table = Table(title, "RMS mm", "mean mm", "max mm", "> 2 cm %", box=None)
    for name in sorted({row[column] for row in sample.errors}):
        errors = [row[2] for row in sample.errors if row[column] == name]
        flat = np.concatenate([e.ravel() for e in errors])
        table.add_row(
            name,
            f"{1e3 * _rms(errors):.1f}",
            f"{1e3 * np.nanmean(flat):.1f}",
            f"{1e3 * np.nanmax(flat):.0f}",
            f"{100 * np.nanmean(flat > 0.02):.1f}",
        )
    console.print(table)


def _rms(errors: list[np.ndarray]) -> float:
    return float(np.sqrt(np.nanmean(np.concatenate([e.ravel() for e in errors]) ** 2)))


def _write_sheet(path: Path, pictures: list[np.ndarray], columns: int = 8) -> None:
    small = [cv2.resize(picture, (320, 320), interpolation=cv2.INTER_AREA) for picture in pictures]
    small += [np.zeros_like(small[0])] * (-len(small) % columns)
    rows = [np.hstack(small[i : i + columns]) for i in range(0, len(small), columns)]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
