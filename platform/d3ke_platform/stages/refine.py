"""Sequence refinement of per-frame estimates, and results in OpenSim's terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3ke.arrays import BoolArray, FloatArray
from d3ke.camera import Camera, place_by_box
from d3ke.errors import InvalidInputError
from d3ke_platform.schema import RESULTS
from d3ke_platform.stages.body_outline import outline_points
from d3ke_platform.stages.estimate import CropGeometry, EstimateArrays

Columns = Mapping[str, np.ndarray]


class SequenceRefiner:
    """The sequence network of a bundle, applied to whole recordings."""

    def __init__(self, bundle_folder: str | Path) -> None:
        """Load the bundle; runs on the CPU, where a recording takes well under a second."""
        from d3ke.networks.bundle import load_bundle

        self.bundle = load_bundle(Path(bundle_folder))
        self._network = self.bundle.sequence.eval() if self.bundle.sequence else None
        self._fps = float(self.bundle.config["fps"])

    def refine(self, estimates: Columns, *, fps: float) -> EstimateArrays:
        """Refine one person's estimates of one recording.

        A network trained at 10 frames/s knows movement at that rate only. A recording at k times
        the rate is therefore refined as k interleaved sequences, one per phase, and woven
        together again; at other rates k is rounded. Frames of confidence 0 count as missing.

        Args:
            estimates: Columns of ESTIMATES, T rows in time order.
            fps: Frame rate of the rows, 1/s.

        Returns:
            T rows; the estimates themselves where the bundle has no sequence network.
        """
        per_frame = EstimateArrays(
            estimates["coordinates"], estimates["root_rotation"], estimates["measurement_factors"]
        )
        rows = len(per_frame.coordinates)
        if self._network is None or rows == 0:
            return per_frame
        if not (np.isfinite(fps) and fps > 0):
            raise InvalidInputError("frame rate", f"is {fps}, must be positive")
        phases = min(rows, max(1, round(fps / self._fps)))
        index, valid = phase_rows(rows, phases)
        known = (
            estimates["confidence"] > 0 if (estimates["confidence"] > 0).any() else np.ones(rows)
        )
        refined = self._run(per_frame, index, valid & known.astype(bool)[index])
        return EstimateArrays(*(_unweave(values, index, valid, rows) for values in refined))

    def _run(
        self, estimate: EstimateArrays, index: np.ndarray, valid: BoolArray
    ) -> list[FloatArray]:
        from d3ke.networks.prediction import Estimate

        assert self._network is not None
        inputs = Estimate(*(torch.from_numpy(values[index]).float() for values in estimate))
        with torch.inference_mode():
            outputs = self._network(inputs, torch.from_numpy(valid))
        return [values.double().numpy() for values in outputs]


def phase_rows(rows: int, phases: int) -> tuple[np.ndarray, BoolArray]:
    """Row numbers [phases, length] of every phase, padded by its last row, and which are real."""
    length = -(-rows // phases)
    index = np.arange(phases)[:, None] + phases * np.arange(length)
    valid = index < rows
    last = index.max(axis=1, where=valid, initial=0, keepdims=True)
    return np.minimum(index, last), valid


def _unweave(values: FloatArray, index: np.ndarray, valid: BoolArray, rows: int) -> FloatArray:
    result = np.empty((rows, *values.shape[2:]))
    result[index[valid]] = values[valid]
    return result


class Placement:
    """Results of one person in one recording, in OpenSim's terms and in ground, block by block.

    Body scales are constant: a body does not grow, and the median over the frames is robust.
    One camera does not see distance; the person is placed so that the body of the estimated
    size fills the box.
    """

    def __init__(self, bundle: Any, factors: FloatArray, camera: Camera | None) -> None:
        """Settle the body's size.

        Args:
            bundle: The bundle that made the estimates.
            factors: Refined measurement factors [T,S] of all of the person's frames.
            camera: The recording's camera; None places through the crop cameras alone.
        """
        self._bundle, self._camera = bundle, camera
        self._scales = constant_body_scales(bundle.head, factors)
        self._root_before: FloatArray | None = None

    def results(self, estimates: Columns, refined: EstimateArrays) -> dict[str, np.ndarray]:
        """RESULTS columns of the next rows; angles of the root go on from the rows before.

        Args:
            estimates: Columns of ESTIMATES, T rows in time order.
            refined: T rows in the same order.

        Returns:
            every column of RESULTS, T rows; root pose, joint centres and markers in ground.
        """
        head, skeleton, scales = self._bundle.head, self._bundle.skeleton, self._scales
        if refined.coordinates.shape[-1] != len(head.predicted.coordinates):
            reason = f"{refined.coordinates.shape[-1]} coordinates are not those of the bundle"
            raise InvalidInputError("results", reason)
        rotation = np.swapaxes(estimates["crop_rotation"], -1, -2) @ refined.root_rotation
        free = head.all_coordinates(_tensor(refined.coordinates)).numpy()
        # OpenSim keeps locked coordinates where they are, whatever a motion file says.
        locked = skeleton.coordinate_locked
        free[:, locked] = skeleton.coordinate_defaults[locked]
        coordinates = _tensor(coupled_coordinates(skeleton, free, scales))
        position = _positions(self._bundle, coordinates, scales, rotation, estimates, self._camera)
        full = self._with_root(coordinates, rotation, position)
        pose = head.layer(full, _tensor(scales))
        result = {
            name: estimates[name]
            for name in ("recording_id", "person", "frame", "time_s", "box", "confidence")
        }
        rows = len(estimates["frame"])
        result |= {
            "coordinates": full.numpy(),
            "root_rotation": rotation,
            "body_scales": np.repeat(scales[None], rows, axis=0),
            "joint_centers": pose.joint_centers.numpy(),
            "markers": pose.markers.numpy(),
        }
        return {name: result[name] for name in RESULTS.column_names}

    def _tensor(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).double()
