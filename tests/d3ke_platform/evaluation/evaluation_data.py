"""A small labelled data set, and estimates of it whose errors are known exactly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch

from d3ke.kinematics import MarkerSet
from d3ke.networks import PredictionHead
from d3ke.skeleton import MeasurementSet, PredictedSet, SkeletalModelLayer, Skeleton
from d3ke_platform.data_set import DataSet
from d3ke_platform.schema import CROPS, ESTIMATES, LABELS, RECORDINGS, SUBJECTS, TRIALS
from d3ke_platform.stages.estimate import EstimateArrays
from d3ke_platform.storage import read_table, write_table

FRAMES = 10
BIAS_DEG = 6.0
"""Error of the per-frame estimate in BIASED; the sequence estimate has half of it."""
BIASED = "knee_angle_r"
JITTER_DEG = 2.0
"""Alternating error of the per-frame estimate in SHAKEN; the sequence estimate has none."""
SHAKEN = "hip_flexion_r"
FAR_MARKER, FAR_M, NEAR_M = "RSHO", 0.030, 0.004
_CAMERAS = {
    # Ground x points to the frontal camera, ground z (right) to the sagittal one.
    "frontal": np.array([[0.0, 0, -1], [0, -1, 0], [-1, 0, 0]]),
    "sagittal": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
}
_SIZE = 64


def make_data(folder: Path) -> DataSet:
    """Two training and two test subjects, two movements, two cameras, FRAMES frames each."""
    crop = {"stored_size": _SIZE, "field_of_view": 1.2, "margin": 1.25}
    data = DataSet.create(folder, source="test", settings={"crop": crop})
    markers = MarkerSet.builtin("anny")
    skeleton = Skeleton.full_body().with_markers(
        markers.names, markers.bodies, np.asarray(markers.locations)
    )
    skeleton.save(data.resolve("skeleton.json"))
    markers.save(data.resolve("marker_set.json"))
    MeasurementSet.full_body().save(data.resolve("measurements.json"))
    PredictedSet.full_body().save(data.resolve("predicted.json"))
    subjects, trials, recordings = [], [], []
    for number, split in enumerate(("train", "train", "test", "test")):
        subjects.append(_subject(f"s{number}", split))
        for movement in ("squat", "wave"):
            trial = _trial(f"s{number}", split, movement)
            trials.append(trial)
            labels = _labels(data, trial, phase=number)
            write_table(data.label_uri(trial["trial_id"]), LABELS.to_arrow(labels, data.dims()))
            for camera, rotation in _CAMERAS.items():
                recording = _recording(trial, camera, rotation)
                recordings.append(recording)
                crops = CROPS.to_arrow(_crops(recording, labels), data.dims())
                write_table(data.crop_uri(recording["recording_id"]), crops)
    data.write_rows(SUBJECTS, subjects)
    data.write_rows(TRIALS, trials)
    data.write_rows(RECORDINGS, recordings)
    return data


def head_of(data: DataSet) -> PredictionHead:
    return PredictionHead(data.skeleton(), data.measurements(), data.predicted())


def fake_run_stage(data: DataSet):
    """Stands in for `run_stage`: label plus known errors instead of a network."""

    def run(items, stage, **options):
        predicted = data.skeleton().index_of("coordinate", data.predicted().coordinates)
        names = data.predicted().coordinates
        by_id = {r["recording_id"]: r for r in data.recordings()}
        for item in items:
            crops = CROPS.to_numpy(read_table(item["crops_uri"]))
            trial = by_id[item["recording_id"]]["trial_id"]
            labels = LABELS.to_numpy(read_table(data.label_uri(trial)))
            angles = labels["coordinates"][:, predicted]
            angles[:, names.index(BIASED)] += np.radians(BIAS_DEG)
            signs = np.where(np.arange(FRAMES) % 2, 1, -1)
            angles[:, names.index(SHAKEN)] += np.radians(JITTER_DEG) * signs
            columns = {
                name: crops[name]
                for name in ("frame", "time_s", "box", "crop_intrinsics", "crop_rotation")
            } | {"crop_translation": crops["crop_translation"]}
            columns |= {
                "recording_id": [item["recording_id"]] * FRAMES,
                "person": np.zeros(FRAMES),
                "coordinates": angles,
                "root_rotation": crops["crop_rotation"] @ labels["root_rotation"],
                "measurement_factors": labels["measurement_factors"] + 0.02,
                "confidence": np.ones(FRAMES),
            }
            write_table(item["estimates_uri"], ESTIMATES.to_arrow(columns, data.dims()))
            yield {"recording_id": item["recording_id"], "frames": FRAMES, "seconds": 0.0}

    return run


class FakeRefiner:
    """Stands in for `SequenceRefiner`: knows the errors and halves or removes them."""

    head: PredictionHead

    def __init__(self, folder: str) -> None:
        self.bundle = SimpleNamespace(
            head=self.head,
            skeleton=self.head.skeleton,
            sequence=object(),
            content_hash=lambda: "0123456789abcdef",
        )

    def refine(self, estimates, *, fps: float) -> EstimateArrays:
        names = self.head.predicted.coordinates
        angles = estimates["coordinates"].copy()
        angles[:, names.index(BIASED)] -= np.radians(BIAS_DEG / 2)
        signs = np.where(np.arange(len(angles)) % 2, 1, -1)
        angles[:, names.index(SHAKEN)] -= np.radians(JITTER_DEG) * signs
        return EstimateArrays(angles, estimates["root_rotation"], estimates["measurement_factors"])


def _subject(name: str, split: str) -> dict:
    return {
        "subject": name,
        "split": split,
        "sex": "unknown",
        "height_m": 1.7,
        "mass_kg": 70.0,
        "static_uri": "",
        "scale_setup_uri": "",
        "scaled_model_uri": "",
    }


def _trial(subject: str, split: str, movement: str) -> dict:
    return {
        "trial_id": f"{subject}_{movement}",
        "subject": subject,
        "movement": movement,
        "split": split,
        "rate_hz": 10.0,
        "frame_count": FRAMES,
        "markers_uri": "",
        "ik_setup_uri": "",
    }


def _recording(trial: dict, camera: str, rotation: np.ndarray) -> dict:
    shared = {name: trial[name] for name in ("trial_id", "subject", "movement", "split")}
    return shared | {
        "recording_id": f"{trial['trial_id']}_{camera}",
        "camera": camera,
        "uri": "",
        "content_hash": "",
        "first_frame": 0,
        "start_s": 0.0,
        "fps": 10.0,
        "frame_count": FRAMES,
        "width": _SIZE,
        "height": _SIZE,
        "intrinsics": np.eye(3),
        "rotation": rotation,
        "translation": np.array([0.0, 1.0, 4.0]),
        "distortion": np.zeros(5),
        "calibrated": True,
    }


def _labels(data: DataSet, trial: dict, *, phase: int) -> dict:
    skeleton, dims = data.skeleton(), data.dims()
    time_s = np.arange(FRAMES) / 10
    coordinates = np.tile(skeleton.coordinate_defaults, (FRAMES, 1))
    for name, middle, size in (
        ("knee_angle_r", -50, 40),
        ("hip_flexion_r", 30, 25),
        ("elbow_flexion", 60, 30),
        ("shoulder_elv", 50, 30),
    ):
        column = skeleton.coordinates.index(name)
        coordinates[:, column] = np.radians(middle + size * np.sin(5 * time_s + phase))
    factors = np.full((FRAMES, dims["S"]), 0.95 + 0.03 * phase)
    scales = data.measurements().body_scales(torch.as_tensor(factors), skeleton)
    layer = SkeletalModelLayer(skeleton).double()
    pose = layer(torch.as_tensor(coordinates), scales)
    far = np.full(dims["M"], NEAR_M)
    far[skeleton.markers.index(FAR_MARKER)] = FAR_M
    markers = pose.markers.numpy()
    mask = np.ones((FRAMES, dims["Q"]), bool)
    mask[0, skeleton.coordinates.index(BIASED)] = False
    return {
        "trial_id": [trial["trial_id"]] * FRAMES,
        "subject": [trial["subject"]] * FRAMES,
        "frame": np.arange(FRAMES),
        "time_s": time_s,
        "coordinates": coordinates,
        "root_rotation": pose.body_rotations[:, 0].numpy(),
        "root_position": pose.body_positions[:, 0].numpy(),
        "measurement_factors": factors,
        "body_scales": scales.numpy(),
        "joint_centers": pose.joint_centers.numpy(),
        "markers_measured": markers + np.array([1.0, 0, 0]) * far[:, None],
        "markers_model": markers,
        "marker_error_m": np.tile(far, (FRAMES, 1)),
        "coordinate_mask": mask,
        "marker_mask": np.tile(far < 0.02, (FRAMES, 1)),
        "converged": np.ones(FRAMES, bool),
    }


def _crops(recording: dict, labels: dict) -> dict:
    intrinsics = np.array([[120.0, 0, 31.5], [0, 120.0, 31.5], [0, 0, 1]])
    translation = recording["translation"] - np.array([0.0, 0.1, 0])
    picture = np.full((_SIZE, _SIZE, 3), 190, np.uint8)
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    return {
        "recording_id": [recording["recording_id"]] * FRAMES,
        "trial_id": [recording["trial_id"]] * FRAMES,
        "subject": [recording["subject"]] * FRAMES,
        "split": [recording["split"]] * FRAMES,
        "frame": np.arange(FRAMES),
        "trial_frame": np.arange(FRAMES),
        "time_s": labels["time_s"],
        "jpeg": [jpeg] * FRAMES,
        "box": np.tile([0.0, 0, 40, 60], (FRAMES, 1)),
        "crop_intrinsics": np.tile(intrinsics, (FRAMES, 1, 1)),
        "crop_rotation": np.tile(recording["rotation"], (FRAMES, 1, 1)),
        "crop_translation": np.tile(translation, (FRAMES, 1)),
    }
