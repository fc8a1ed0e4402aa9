"""A prepared data set without recordings: drawn squares whose places tell the joint angles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton
from d3ke_platform.schema import CROPS, LABELS, RECORDINGS, SUBJECTS, TRIALS
from d3ke_platform.storage import DataSet, write_bytes, write_table

MOVED = ("hip_flexion_r", "knee_angle_r", "knee_angle_l", "elbow_flexion")
FACING = np.array([[0.0, 0.0, -1.0], [0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]])
"""Ground to a level camera that looks along -x."""


def make_data_set(
    folder: Path,
    *,
    subjects: dict[str, int] | None = None,
    frames: int = 12,
    trials: int = 2,
    stored_size: int = 40,
    rate_hz: float = 10.0,
    noise_rad: float = 0.0,
) -> DataSet:
    """Data set with so many subjects per split, two cameras, and `frames` per trial.

    Every third frame of the second camera has no label. With `noise_rad` all coordinates move: a
    network that starts at the mean label else has errors of zero, whose sign is rounding.
    """
    subjects = subjects or {"train": 3, "validation": 1}
    crop = {"stored_size": stored_size, "field_of_view": 1.2, "margin": 1.25}
    data = DataSet.create(folder, source="fake", settings={"crop": crop, "frames": frames})
    skeleton = Skeleton.full_body()
    skeleton.save(Path(data.uri("skeleton.json")))
    MeasurementSet.full_body().save(Path(data.uri("measurements.json")))
    PredictedSet.full_body().save(Path(data.uri("predicted.json")))
    write_bytes(data.uri("model.osim"), b"<OpenSimDocument/>")
    rng = np.random.default_rng(1)
    rows = list(_rows(subjects, trials, frames, rate_hz))
    for table, part in ((SUBJECTS, 0), (TRIALS, 1), (RECORDINGS, 2)):
        unique = {row[part][next(iter(row[part]))]: row[part] for row in rows}
        data.write_rows(table, list(unique.values()))
    dims = data.dims()
    for trial in data.trials():
        labels = _labels(skeleton, trial["trial_id"], trial["subject"], frames, dims, rng)
        if noise_rad:
            labels["coordinates"] += noise_rad * rng.normal(size=labels["coordinates"].shape)
        write_table(data.label_uri(trial["trial_id"]), LABELS.to_arrow(labels, dims))
        for recording in data.recordings():
            if recording["trial_id"] == trial["trial_id"]:
                crops = _crops(recording, labels, skeleton, stored_size)
                write_table(data.crop_uri(recording["recording_id"]), CROPS.to_arrow(crops, dims))
    return data


def _rows(
    subjects: dict[str, int], trials: int, frames: int, rate_hz: float
) -> Iterator[tuple[dict, dict, dict]]:
    for split, count in subjects.items():
        for number in range(count):
            subject = {
                "subject": f"{split}_{number}",
                "split": split,
                "sex": "unknown",
                "height_m": 1.7,
                "mass_kg": 70.0,
                "static_uri": "",
                "scale_setup_uri": "",
                "scaled_model_uri": "",
            }
            for movement in range(trials):
                shared = {"subject": subject["subject"], "movement": f"m{movement}", "split": split}
                trial_id = f"{subject['subject']}_m{movement}"
                trial = {
                    "trial_id": trial_id,
                    **shared,
                    "rate_hz": rate_hz,
                    "frame_count": frames,
                    "markers_uri": "",
                    "ik_setup_uri": "",
                }
                for camera in ("frontal", "sagittal"):
                    yield (
                        subject,
                        trial,
                        {
                            "recording_id": f"{trial_id}_{camera}",
                            "trial_id": trial_id,
                            **shared,
                            "camera": camera,
                            "uri": "",
                            "content_hash": "",
                            "first_frame": 0,
                            "start_s": 0.0,
                            "fps": rate_hz,
                            "frame_count": frames,
                            "width": 64,
                            "height": 64,
                            "intrinsics": np.eye(3),
                            "rotation": FACING,
                            "translation": np.zeros(3),
                            "distortion": np.zeros(5),
                            "calibrated": True,
                        },
                    )


def _labels(skeleton, trial_id, subject, frames, dims, rng) -> dict:
    coordinates = np.tile(skeleton.coordinate_defaults, (frames, 1))
    phase = rng.uniform(0, 2 * np.pi, len(MOVED))
    ranges = skeleton.coordinate_ranges
    for column, start in zip(skeleton.index_of("coordinate", list(MOVED)), phase, strict=True):
        middle, half = ranges[column].mean(), np.ptp(ranges[column]) / 4
        coordinates[:, column] = middle + half * np.sin(start + 0.5 * np.arange(frames))
    mask = np.ones((frames, dims["Q"]), bool)
    mask[0, skeleton.index_of("coordinate", "elbow_flexion_l")] = False
    factors = np.tile(rng.uniform(0.95, 1.05, dims["S"]), (frames, 1))
    return {
        "trial_id": [trial_id] * frames,
        "subject": [subject] * frames,
        "frame": np.arange(frames),
        "time_s": np.arange(frames) / 10,
        "coordinates": coordinates,
        "root_rotation": np.tile(np.eye(3), (frames, 1, 1)),
        "root_position": np.zeros((frames, 3)),
        "measurement_factors": factors,
        "body_scales": np.ones((frames, dims["N"], 3)),
        "joint_centers": np.zeros((frames, dims["J"], 3)),
        "markers_measured": np.zeros((frames, dims["M"], 3)),
        "markers_model": np.zeros((frames, dims["M"], 3)),
        "marker_error_m": np.zeros((frames, dims["M"])),
        "coordinate_mask": mask,
        "marker_mask": np.ones((frames, dims["M"]), bool),
        "converged": np.ones(frames, bool),
    }


def _crops(recording: dict, labels: dict, skeleton: Skeleton, size: int) -> dict:
    frames = len(labels["frame"])
    trial_frame = np.arange(frames, dtype=np.int32)
    if recording["camera"] == "sagittal":
        trial_frame[2::3] = -1
    columns = skeleton.index_of("coordinate", list(MOVED))
    low, high = skeleton.coordinate_ranges[columns].T
    places = (labels["coordinates"][:, columns] - low) / (high - low)
    intrinsics = np.array([[size, 0, (size - 1) / 2], [0, size, (size - 1) / 2], [0, 0, 1.0]])
    return {
        "recording_id": [recording["recording_id"]] * frames,
        "trial_id": [recording["trial_id"]] * frames,
        "subject": [recording["subject"]] * frames,
        "split": [recording["split"]] * frames,
        "frame": np.arange(frames, dtype=np.int32),
        "trial_frame": trial_frame,
        "time_s": labels["time_s"],
        "jpeg": [_picture(place, size) for place in places],
        "box": np.tile([0.0, 0.0, 30.0, 30.0], (frames, 1)),
        "crop_intrinsics": np.tile(intrinsics, (frames, 1, 1)),
        "crop_rotation": np.tile(FACING, (frames, 1, 1)),
        "crop_translation": np.zeros((frames, 3)),
    }


def _picture(places: np.ndarray, size: int) -> bytes:
    """JPEG with a red and a green square whose x and y are the four places (0 .. 1)."""
    image = np.full((size, size, 3), 90, np.uint8)
    inner = (0.2 + 0.6 * places) * size
    for channel, (x, y) in enumerate(((inner[0], inner[1]), (inner[2], inner[3]))):
        x0, y0, side = int(x), int(y), size // 6
        image[y0 : y0 + side, x0 : x0 + side, channel] = 255
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
