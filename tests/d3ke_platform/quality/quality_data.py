"""A labelled data set whose marker errors, masks and angles are drawn at random, and known."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from d3ke.camera import Camera, project
from d3ke.kinematics import MarkerSet
from d3ke.skeleton import MeasurementSet, PredictedSet, SkeletalModelLayer, Skeleton
from d3ke_platform.data_set import DataSet
from d3ke_platform.pipelines.ray_data import reject_row
from d3ke_platform.schema import LABELS, RECORDINGS, SUBJECT_LABELS, SUBJECTS, TRIALS
from d3ke_platform.sources.video import VideoWriter
from d3ke_platform.storage import read_table, write_table

SUBJECTS_MADE = ("ann", "bob")
MOVEMENTS = ("jump", "walk")
FRAMES = 12
RATE_HZ = 10.0
SIZE = (160, 192)
THRESHOLD_M = 0.025
"""Not the default, so that a test sees whether the data set's own is used."""
WORST, WORST_ROW, WORST_MARKER = "bob_walk", 7, "RKNE"
OUT_USABLE, OUT_MASKED = "elbow_flexion", "knee_angle_r"
"""Coordinates beyond the model's range in a usable frame and in a masked one."""
LIFT = np.array([0.0, 1.0, 0.0])
"""Ground to pelvis, m: the model's default pose has its pelvis at the origin."""
_CAMERA = Camera.looking_at(
    np.array([4.0, 1.0, 0.6]), np.array([0.0, 0.9, 0.0]), focal=220.0, size=SIZE
)


def make_data(folder: Path, *, trials: bool = True) -> DataSet:
    """Two subjects with two movements; `trials`: whether there are labels."""
    labels = {"marker_threshold_m": THRESHOLD_M}
    data = DataSet.create(folder, source="test", settings={"labels": labels, "seed": 3})
    markers = MarkerSet.builtin("anny")
    skeleton = Skeleton.full_body().with_markers(
        markers.names, markers.bodies, np.asarray(markers.locations)
    )
    skeleton.save(data.resolve("skeleton.json"))
    markers.save(data.resolve("marker_set.json"))
    MeasurementSet.full_body().save(data.resolve("measurements.json"))
    PredictedSet.full_body().save(data.resolve("predicted.json"))
    made = [trial_row(s, m) for s in SUBJECTS_MADE for m in MOVEMENTS] if trials else []
    data.write_rows(SUBJECTS, [_subject_row(subject) for subject in SUBJECTS_MADE])
    data.write_rows(TRIALS, made)
    data.write_rows(RECORDINGS, [_recording_row(trial) for trial in made])
    for number, trial in enumerate(made):
        columns = label_columns(data, trial, np.random.default_rng(number))
        write_table(data.label_uri(trial["trial_id"]), LABELS.to_arrow(columns, data.dims()))
    if trials:
        for number, subject in enumerate(SUBJECTS_MADE):
            _write_factors(data, subject, 0.9 + 0.15 * number)
        _film(data, WORST)
        rows = [reject_row(f"cat_{n}", "label", f"trials/cat_{n}.trc: no marker") for n in (1, 2)]
        data.write_rejects("label", [*rows, reject_row("cat", "scale", "MASI is missing")])
    return data


def columns_of(data: DataSet) -> dict[str, np.ndarray]:
    """All labels of the data set in one piece, the naive way, with subject and movement."""
    parts = [
        LABELS.to_numpy(read_table(data.label_uri(trial["trial_id"])))
        | {"movement": np.full(FRAMES, trial["movement"], object)}
        for trial in data.trials()
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def replicate(data: DataSet, folder: Path, *, copies: int, frames: int) -> DataSet:
    """The data set with every trial `copies` times, each with `frames` frames."""
    shutil.copytree(data.root, folder, ignore=shutil.ignore_patterns("labels", "videos"))
    copied = DataSet.open(folder)
    trials = []
    for trial in data.trials():
        columns = LABELS.to_numpy(read_table(data.label_uri(trial["trial_id"])))
        rows = np.arange(frames) % FRAMES
        table = LABELS.to_arrow({k: v[rows] for k, v in columns.items()}, data.dims())
        first = Path(copied.label_uri(f"{trial['trial_id']}_0"))
        write_table(first, table)
        for number in range(copies):
            name = f"{trial['trial_id']}_{number}"
            trials.append(trial | {"trial_id": name, "frame_count": frames})
            if number:
                Path(copied.label_uri(name)).hardlink_to(first)
    copied.write_rows(TRIALS, trials)
    return copied


def trial_row(subject: str, movement: str) -> dict[str, Any]:
    return {
        "trial_id": f"{subject}_{movement}",
        "subject": subject,
        "movement": movement,
        "split": "train",
        "rate_hz": RATE_HZ,
        "frame_count": FRAMES,
        "markers_uri": "",
        "ik_setup_uri": "",
    }


def label_columns(
    data: DataSet, trial: dict[str, Any], random: np.random.Generator
) -> dict[str, Any]:
    """Columns of LABELS; one marker of the worst trial is far off in one row."""
    skeleton, dims = data.skeleton(), data.dims()
    coordinates = np.tile(skeleton.coordinate_defaults, (FRAMES, 1))
    coordinates += random.normal(0.0, 0.01, coordinates.shape)
    usable = random.random(coordinates.shape) > 0.1
    if trial["trial_id"] == WORST:
        for name, use in ((OUT_USABLE, True), (OUT_MASKED, False)):
            index = skeleton.coordinates.index(name)
            coordinates[3, index] = skeleton.coordinate_ranges[index, 1] + 0.2
            usable[3, index] = use
    scales = np.ones((FRAMES, dims["N"], 3))
    layer = SkeletalModelLayer(skeleton)
    pose = layer(torch.from_numpy(coordinates), torch.from_numpy(scales))
    model = pose.markers.numpy() + LIFT
    measured = model + random.normal(0.0, 0.008, model.shape)
    measured[random.random(measured.shape[:2]) < 0.05] = np.nan
    if trial["trial_id"] == WORST:
        column = skeleton.markers.index(WORST_MARKER)
        measured[WORST_ROW, column] = model[WORST_ROW, column] + [0.5, 0.0, 0.0]
    errors = np.linalg.norm(measured - model, axis=-1)
    with np.errstate(invalid="ignore"):
        fitted = errors <= THRESHOLD_M
    return {
        "trial_id": [trial["trial_id"]] * FRAMES,
        "subject": [trial["subject"]] * FRAMES,
        "frame": np.arange(FRAMES),
        "time_s": np.arange(FRAMES) / RATE_HZ,
        "converged": np.ones(FRAMES, bool),
        "coordinates": coordinates,
        "root_rotation": pose.body_rotations[:, 0].numpy(),
        "root_position": pose.body_positions[:, 0].numpy(),
        "measurement_factors": np.ones((FRAMES, dims["S"])),
        "body_scales": scales,
        "joint_centers": pose.joint_centers.numpy() + LIFT,
        "markers_measured": measured,
        "markers_model": model,
        "marker_error_m": errors,
        "coordinate_mask": usable,
        "marker_mask": fitted,
    }


def _subject_row(subject: str) -> dict[str, Any]:
    texts = dict.fromkeys(("static_uri", "scale_setup_uri", "scaled_model_uri"), "")
    known = {"subject": subject, "split": "train", "sex": "unknown"}
    return known | {"height_m": 1.7, "mass_kg": 70.0} | texts


def _write_factors(data: DataSet, subject: str, factor: float) -> None:
    dims = data.dims()
    row = {
        "subject": subject,
        "model_uri": "",
        "measurement_factors": np.full(dims["S"], factor),
        "body_scales": np.full((dims["N"], 3), factor),
        "static_marker_rms_m": 0.004,
    }
    write_table(data.subject_label_uri(subject), SUBJECT_LABELS.from_rows([row], dims))


def _recording_row(trial: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: trial[key] for key in ("trial_id", "subject", "movement", "split")},
        "recording_id": f"{trial['trial_id']}_cam",
        "camera": "cam",
        "uri": f"videos/{trial['trial_id']}.mp4",
        "content_hash": "",
        "fps": RATE_HZ,
        "first_frame": 0,
        "start_s": 0.0,
        "frame_count": FRAMES,
        "width": SIZE[0],
        "height": SIZE[1],
        "intrinsics": _CAMERA.intrinsics,
        "rotation": _CAMERA.rotation,
        "translation": _CAMERA.translation,
        "distortion": _CAMERA.distortion,
        "calibrated": True,
    }


def _film(data: DataSet, trial_id: str) -> None:
    """A video of the trial in which the measured markers are white."""
    columns = LABELS.to_numpy(read_table(data.label_uri(trial_id)))
    file = data.resolve(f"videos/{trial_id}.mp4")
    file.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(file, size=SIZE, fps=RATE_HZ) as video:
        for number, markers in enumerate(columns["markers_measured"]):
            image = np.full((SIZE[1], SIZE[0], 3), 40 + 10 * number, np.uint8)
            for x, y in project(_CAMERA, markers[np.isfinite(markers).all(axis=1)]):
                image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2] = 255
            video.write(image)
