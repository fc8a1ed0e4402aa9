"""Per-frame estimates joined with labels, cut into windows: the sequence network's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from d3ke.arrays import BoolArray, FloatArray, IntArray
from d3ke.errors import InvalidInputError
from d3ke.losses import Target
from d3ke.networks.prediction import Estimate
from d3ke_platform.schema import ESTIMATES
from d3ke_platform.storage import DataSet, read_table
from d3ke_platform.training.samples import Samples, match_frames

_COLUMNS = ["frame", "coordinates", "root_rotation", "measurement_factors"]


@dataclass(frozen=True, kw_only=True)
class LabelledSequence:
    """Estimates of one recording in time order, T frames, with the labels of the same frames."""

    coordinates: FloatArray
    """[T,P] rad, estimated."""
    root_rotation: FloatArray
    """[T,3,3] pelvis -> crop camera of the frame, estimated."""
    factors: FloatArray
    """[T,S] estimated."""
    labelled: BoolArray
    """[T] True where the frame has a label."""
    target_coordinates: FloatArray
    """[T,P] rad; zero without a label, as all targets."""
    target_mask: BoolArray
    """[T,P]"""
    target_root_rotation: FloatArray
    """[T,3,3]"""
    target_factors: FloatArray
    """[T,S]"""
    target_marker_mask: BoolArray
    """[T,M]"""

    def __len__(self) -> int:
        return len(self.labelled)


class Windows(NamedTuple):
    """A batch of windows of equal length."""

    estimate: Estimate
    """[B,T,...]"""
    valid: Tensor
    """[B,T] False where a short recording was padded by repeating its last frame."""
    target: Target
    """[B,T,...]; its `valid` is True for frames that have a label."""

    def labelled(self) -> Tensor:
        """[B,T] True for frames that have a label."""
        assert self.target.valid is not None
        return self.target.valid


def load_sequences(samples: Samples, estimate_uris: Sequence[str]) -> list[LabelledSequence]:
    """Join the estimates at `estimate_uris` (one per recording of `samples`) with the labels."""
    return [
        _load(samples.subset(np.flatnonzero(samples.recording == index)), uri)
        for index, uri in enumerate(estimate_uris)
    ]


def _load(labels: Samples, uri: str) -> LabelledSequence:
    estimates = ESTIMATES.to_numpy(read_table(uri, _COLUMNS), _COLUMNS)
    found, at = match_frames(estimates["frame"], labels.frame)

    def spread(values: np.ndarray) -> np.ndarray:
        full = np.zeros((len(found), *values.shape[1:]), values.dtype)
        full[found] = values[at]
        return full

    return LabelledSequence(
        coordinates=estimates["coordinates"].astype(np.float32),
        root_rotation=estimates["root_rotation"].astype(np.float32),
        factors=estimates["measurement_factors"].astype(np.float32),
        labelled=found,
        target_coordinates=spread(labels.coordinates),
        target_mask=spread(labels.coordinate_mask),
        target_root_rotation=spread(labels.root_rotation),
        target_factors=spread(labels.factors),
        target_marker_mask=spread(labels.marker_mask),
    )


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """First frames of windows that cover `length` frames; the last one ends with the recording."""
    if length <= window:
        return [0]
    return sorted({*range(0, length - window, stride), length - window})


class WindowSet:
    """Windows over many sequences, made on demand.

    Windows are as long as `window`, or as the longest sequence if that is shorter.
    """

    def __init__(self, sequences: Sequence[LabelledSequence], *, window: int, stride: int) -> None:
        self._sequences = sequences
        self.window = min(window, max((len(sequence) for sequence in sequences), default=1))
        self._places = [
            (index, start)
            for index, sequence in enumerate(sequences)
            for start in window_starts(len(sequence), self.window, stride)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, rows: IntArray, device: torch.device) -> Windows:
        """The windows at `rows` as tensors."""
        parts = [self._cut(int(row)) for row in rows]
        stacked = {
            name: torch.from_numpy(np.stack([part[name] for part in parts])).to(device)
            for name in parts[0]
        }
        return Windows(
            estimate=Estimate(
                coordinates=stacked["coordinates"],
                root_rotation=stacked["root_rotation"],
                factors=stacked["factors"],
            ),
            valid=stacked["valid"],
            target=Target(
                coordinates=stacked["target_coordinates"],
                coordinate_mask=stacked["target_mask"],
                factors=stacked["target_factors"],
                root_rotation=stacked["target_root_rotation"],
                valid=stacked["labelled"],
                marker_mask=stacked["target_marker_mask"],
            ),
        )

    def _cut(self, row: int) -> dict[str, np.ndarray]:
        index, start = self._places[row]
        sequence = self._sequences[index]
        # Indices past the end repeat the last frame.
        frames = np.arange(start, start + self.window)
        inside = frames < len(sequence)
        frames = frames.clip(max=len(sequence) - 1)
        names = ("coordinates", "root_rotation", "factors")
        targets = (name for name in vars(sequence) if name.startswith("target_"))
        part = {name: getattr(sequence, name)[frames] for name in (*names, *targets)}
        return {**part, "valid": inside, "labelled": sequence.labelled[frames] & inside}


def frame_rate(data: DataSet, recording_ids: Sequence[str]) -> float:
    """The frame rate of the recordings [Hz].

    Raises:
        InvalidInputError: they differ; a sequence network learns one time step.
    """
    wanted = set(recording_ids)
    rates = {round(float(r["fps"]), 3) for r in data.recordings() if r["recording_id"] in wanted}
    if len(rates) != 1:
        raise InvalidInputError(
            "frame rate of the recordings",
            f"{sorted(rates)} Hz; the sequence network learns one time step",
            "Prepare all recordings at one rate.",
        )
    return rates.pop()
