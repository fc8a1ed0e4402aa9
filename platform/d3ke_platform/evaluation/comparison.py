"""Labels and estimates of the evaluated recordings, side by side.

Everything that has a direction is in ground axes, because the crop camera turns with the box from
frame to frame: speeds would otherwise contain the camera's own motion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from d3ke.arrays import BoolArray, FloatArray, IntArray
from d3ke.networks.prediction import Estimate, PredictionHead
from d3ke_platform.data_set import DataSet
from d3ke_platform.schema import CROPS, ESTIMATES, LABELS
from d3ke_platform.stages.estimate import EstimateArrays
from d3ke_platform.storage import read_table

METHODS = {
    "mean_angle": "Mean-angle baseline",
    "per_frame": "Per-frame network",
    "sequence": "Sequence network",
}
"""Name in tables -> name for people."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Labels of the T frames of one recording that have both a label and an estimate."""

    frame: IntArray
    """[T] frame of the video."""
    time_s: FloatArray
    coordinates: FloatArray
    """[T,P] rad."""
    mask: BoolArray
    """[T,P] True where the label can be trusted."""
    factors: FloatArray
    """[T,S] measurement factors."""
    root_rotation: FloatArray
    """[T,3,3] pelvis -> ground."""
    root_position: FloatArray
    """[T,3] pelvis origin in ground [m]."""
    landmarks: FloatArray
    """[T,L,3] measured bony landmarks minus the pelvis origin, ground axes [m]; NaN = missing."""
    joint_centers: FloatArray
    """[T,J,3] ground [m]."""


@dataclass(frozen=True, kw_only=True)
class MethodEstimate:
    """What one method says of the same T frames."""

    coordinates: FloatArray
    """[T,P] rad."""
    factors: FloatArray
    """[T,S]"""
    root_rotation: FloatArray
    """[T,3,3] pelvis -> ground."""
    landmarks: FloatArray
    """[T,L,3] bony landmarks of the posed model minus the pelvis origin, ground axes [m]."""
    joint_centers: FloatArray
    """[T,J,3] minus the pelvis origin, ground axes [m]."""


@dataclass(frozen=True, kw_only=True)
class RecordingComparison:
    """One recording: its row of the RECORDINGS table, labels, estimates by method."""

    recording: Mapping[str, Any]
    truth: Truth
    crop_intrinsics: FloatArray
    """[T,3,3] px."""
    crop_rotation: FloatArray
    """[T,3,3] ground -> crop camera."""
    crop_translation: FloatArray
    """[T,3] m."""
    estimates: Mapping[str, MethodEstimate]


def read_estimates(uri: str) -> dict[str, np.ndarray]:
    """ESTIMATES of the person seen most often in a recording, ordered by frame."""
    columns = ESTIMATES.to_numpy(read_table(uri))
    people, counts = np.unique(columns["person"], return_counts=True)
    if len(people):
        rows = np.flatnonzero(columns["person"] == people[counts.argmax()])
        rows = rows[np.argsort(columns["frame"][rows], kind="stable")]
        columns = {name: values[rows] for name, values in columns.items()}
    return columns


def labelled_rows(
    data: DataSet, recording: Mapping[str, Any], frames: IntArray
) -> tuple[IntArray, IntArray, dict[str, np.ndarray]]:
    """Which of the estimated `frames` have a label.

    Returns indices into `frames`, the matching rows of the trial's labels, and all its labels.
    """
    crops = CROPS.to_numpy(
        read_table(data.crop_uri(recording["recording_id"]), ["frame", "trial_frame"]),
        ["frame", "trial_frame"],
    )
    names = ["frame", "time_s", "coordinates", "coordinate_mask", "measurement_factors"]
    names += ["root_rotation", "root_position", "markers_measured", "joint_centers"]
    labels = LABELS.to_numpy(read_table(data.label_uri(recording["trial_id"]), names), names)
    trial_frame = dict(zip(crops["frame"].tolist(), crops["trial_frame"].tolist(), strict=True))
    row = {frame: index for index, frame in enumerate(labels["frame"].tolist())}
    pairs = [(i, row.get(trial_frame.get(frame, -1), -1)) for i, frame in enumerate(frames)]
    kept = np.array([pair for pair in pairs if pair[1] >= 0], dtype=int).reshape(-1, 2)
    return kept[:, 0], kept[:, 1], labels


def truth_of(
    labels: Mapping[str, np.ndarray],
    rows: IntArray,
    *,
    frames: IntArray,
    predicted: IntArray,
    landmarks: IntArray,
) -> Truth:
    """Labels at `rows`; `predicted` and `landmarks` index coordinates and markers."""
    position = labels["root_position"][rows]
    coordinates = labels["coordinates"][rows][:, predicted]
    known = np.isfinite(coordinates)
    return Truth(
        frame=frames,
        time_s=labels["time_s"][rows],
        coordinates=np.where(known, coordinates, 0.0),
        mask=labels["coordinate_mask"][rows][:, predicted] & known,
        factors=labels["measurement_factors"][rows],
        root_rotation=labels["root_rotation"][rows],
        root_position=position,
        landmarks=labels["markers_measured"][rows][:, landmarks] - position[:, None],
        joint_centers=labels["joint_centers"][rows],
    )


def method_estimate(
    head: PredictionHead, estimate: EstimateArrays, crop_rotation: FloatArray, landmarks: IntArray
) -> MethodEstimate:
    """Pose an estimate of T frames and turn it from crop camera to ground axes."""
    with torch.no_grad():
        tensors = Estimate(*(torch.tensor(np.asarray(x), dtype=torch.float64) for x in estimate))
        pose = head.pose(tensors)
    return MethodEstimate(
        coordinates=np.asarray(estimate.coordinates, dtype=float),
        factors=np.asarray(estimate.factors, dtype=float),
        root_rotation=np.swapaxes(crop_rotation, -1, -2) @ np.asarray(estimate.root_rotation),
        # A row vector times R is R transposed times the vector: crop camera -> ground.
        landmarks=pose.markers.numpy()[:, landmarks] @ crop_rotation,
        joint_centers=pose.joint_centers.numpy() @ crop_rotation,
    )
