"""All compared frames of all recordings as one run of rows, for tables over any subset of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke_platform.evaluation.comparison import RecordingComparison


@dataclass(frozen=True, kw_only=True)
class Motion:
    """What labels and estimates both have, n frames."""

    angles: FloatArray
    """[n,P] rad."""
    factors: FloatArray
    """[n,S] measurement factors."""
    root_rotation: FloatArray
    """[n,3,3] pelvis -> ground."""
    landmarks: FloatArray
    """[n,L,3] bony landmarks minus the own pelvis origin, ground axes [m]; NaN: not measured."""
    angle_velocity: FloatArray
    """[n,P] equation 13 before averaging: |change| / time to the next frame [deg/s]; NaN in a
    recording's last frame."""
    landmark_velocity: FloatArray
    """[n,L] the same of the landmarks [mm/s]."""


@dataclass(frozen=True, kw_only=True)
class LabelFrames(Motion):
    """Labels of n frames, recordings one after another."""

    recording: np.ndarray
    """[n] index of the recording."""
    subject: np.ndarray
    """[n] names."""
    movement: np.ndarray
    camera: np.ndarray
    mask: BoolArray
    """[n,P] True where the label can be trusted (2 cm rule)."""


_Frames = TypeVar("_Frames", bound=Motion)


def label_frames(recordings: Sequence[RecordingComparison]) -> LabelFrames:
    """Labels of all recordings."""
    parts = []
    for index, item in enumerate(recordings):
        n = len(item.truth.time_s)
        truth = item.truth
        parts.append(
            LabelFrames(
                recording=np.full(n, index),
                subject=np.full(n, item.recording["subject"], dtype=object),
                movement=np.full(n, item.recording["movement"], dtype=object),
                camera=np.full(n, item.recording["camera"], dtype=object),
                angles=truth.coordinates,
                mask=truth.mask,
                factors=truth.factors,
                root_rotation=truth.root_rotation,
                landmarks=truth.landmarks,
                angle_velocity=speed(np.degrees(truth.coordinates)[..., None], truth.time_s),
                landmark_velocity=speed(1e3 * truth.landmarks, truth.time_s),
            )
        )
    return _concatenate(parts)


def method_frames(recordings: Sequence[RecordingComparison], method: str) -> Motion:
    """Estimates by `method` of the frames of `label_frames`, in their order."""
    parts = []
    for item in recordings:
        estimate, time_s = item.estimates[method], item.truth.time_s
        parts.append(
            Motion(
                angles=estimate.coordinates,
                factors=estimate.factors,
                root_rotation=estimate.root_rotation,
                landmarks=estimate.landmarks,
                angle_velocity=speed(np.degrees(estimate.coordinates)[..., None], time_s),
                landmark_velocity=speed(1e3 * estimate.landmarks, time_s),
            )
        )
    return _concatenate(parts)


def speed(values: FloatArray, time_s: FloatArray) -> FloatArray:
    """|values[t+1] - values[t]| / dt along the last axis: [T,K,d] -> [T,K], NaN in the last row."""
    result = np.full(values.shape[:2], np.nan)
    dt = np.diff(time_s)
    usable = np.flatnonzero(dt > 0)
    change = np.linalg.norm(np.diff(values, axis=0), axis=-1)
    result[usable] = change[usable] / dt[usable, None]
    return result


def _concatenate(parts: Sequence[_Frames]) -> _Frames:
    kind = type(parts[0])
    return kind(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(kind)}
    )
