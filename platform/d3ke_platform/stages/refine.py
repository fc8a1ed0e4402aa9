"""Sequence refinement of per-frame estimates, and results in OpenSim's terms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
BLOCK_ROWS = 2048
"""Rows that a sequence network refines at a time: memory does not follow the recording."""


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
        refined: list[FloatArray] = []
        for part, outputs in self._blocks(per_frame, index, valid & known.astype(bool)[index]):
            refined = refined or [np.empty((rows, *values.shape[2:])) for values in outputs]
            there = valid[:, part]
            for whole, values in zip(refined, outputs, strict=True):
                whole[index[:, part][there]] = values[there]
        return EstimateArrays(*refined)

    def _blocks(
        self, estimate: EstimateArrays, index: np.ndarray, valid: BoolArray
    ) -> Iterator[tuple[slice, list[FloatArray]]]:
        """Refined sequences, block by block, each seen with its context."""
        length = index.shape[1]
        context = self._context()
        block = max(1, BLOCK_ROWS // len(index))
        for start in range(0, length, block):
            stop = min(start + block, length)
            first, last = max(0, start - context), min(length, stop + context)
            # Frames without a person are filled from those before: there has to be one.
            while first > 0 and not valid[:, first].all():
                first -= 1
            outputs = self._see(estimate, index[:, first:last], valid[:, first:last])
            yield (
                slice(start, stop),
                [values[:, start - first : stop - first] for values in outputs],
            )

    def _see(
        self, estimate: EstimateArrays, index: np.ndarray, valid: BoolArray
    ) -> list[FloatArray]:
        from d3ke.networks.prediction import Estimate

        assert self._network is not None
        inputs = Estimate(*(torch.from_numpy(values[index]).float() for values in estimate))
        with torch.inference_mode():
            outputs = self._network(inputs, torch.from_numpy(valid))
        return [values.double().numpy() for values in outputs]

    def _context(self) -> int:
        """Frames before and after a frame that can change it.

        An LSTM has no such limit; it sees as far as four of the windows it was trained on.
        """
        assert self._network is not None
        config = self._network.config
        if config.kind == "lstm":
            return 4 * config.window
        blocks = config.layers + len(config.strides) if config.kind == "transformer" else 1
        return blocks * (config.window // 2) + config.smoothing // 2 + 1


def phase_rows(rows: int, phases: int) -> tuple[np.ndarray, BoolArray]:
    """Row numbers [phases, length] of every phase, padded by its last row, and which are real."""
    length = -(-rows // phases)
    index = np.arange(phases)[:, None] + phases * np.arange(length)
    valid = index < rows
    last = index.max(axis=1, where=valid, initial=0, keepdims=True)
    return np.minimum(index, last), valid


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

    def _with_root(self, coordinates: Tensor, rotation: FloatArray, position: FloatArray) -> Tensor:
        """All coordinates [T,Q], with the root's set to this pelvis pose, angles without jumps."""
        from d3ke.skeleton import root_coordinates_from_pose

        skeleton = self._bundle.skeleton
        root = root_coordinates_from_pose(skeleton, _tensor(rotation), _tensor(position)).numpy()
        before = root[:1, :3] if self._root_before is None else self._root_before
        root[:, :3] = np.unwrap(np.concatenate([before, root[:, :3]]), axis=0)[1:]
        self._root_before = root[-1:, :3].copy()
        full = coordinates.clone()
        full[:, skeleton.index_of("coordinate", skeleton.root_coordinates)] = _tensor(root)
        return full


def constant_body_scales(head: Any, factors: FloatArray) -> FloatArray:
    """Body scales [N,3] of the median over frames of measurement factors [T,S]."""
    median = _tensor(np.median(factors, axis=0))
    return head.measurements.body_scales(median, head.skeleton).numpy()


def coupled_coordinates(skeleton: Any, coordinates: FloatArray, scales: FloatArray) -> FloatArray:
    """Coordinates [T,Q] with the dependent ones computed from their drivers, as OpenSim does.

    The skeletal-model layer ignores what is passed for dependent coordinates; files must hold
    the values that they really have. `scales` [N,3] multiply coupled translations.
    """
    result = coordinates.copy()
    for _ in skeleton.couplers:  # a coupler may drive another one; every pass settles one more
        before = result.copy()
        for coupler in skeleton.couplers:
            factor = 1.0
            if any(coupler.scale_weights):
                factor = float(np.dot(coupler.scale_weights, scales[coupler.scale_body]))
            result[:, coupler.dependent] = factor * coupler.function(result)
        if np.array_equal(before, result):
            break
    return result


def _positions(
    bundle: Any,
    coordinates: Tensor,
    scales: FloatArray,
    rotation: FloatArray,
    estimates: Columns,
    camera: Camera | None,
) -> FloatArray:
    """Pelvis origin in ground [T,3], m, by fitting the body into the boxes."""
    pose = bundle.head.layer(coordinates, _tensor(scales), _tensor(rotation))
    points = outline_points(bundle.skeleton, pose.joint_centers, pose.markers)
    relative = (points - pose.body_positions[..., :1, :]).numpy()
    result = np.empty((len(relative), 3))
    geometry = CropGeometry.of_bundle(bundle)
    for row, body in enumerate(relative):
        box = estimates["box"][row]
        seen, seen_box = camera, box
        if seen is None:
            seen, seen_box = _through_crop(estimates, row, geometry)
        origin = place_by_box(body @ seen.rotation.T, seen_box, seen)
        result[row] = seen.rotation.T @ (origin - seen.translation)
    return result


def _through_crop(
    estimates: Columns, row: int, geometry: CropGeometry
) -> tuple[Camera, FloatArray]:
    """Camera of a crop and the box in it: centred, its longer side known from the crop's rule."""
    size = geometry.stored_size
    camera = Camera(
        intrinsics=estimates["crop_intrinsics"][row],
        rotation=estimates["crop_rotation"][row],
        translation=estimates["crop_translation"][row],
        size=(size, size),
    )
    x0, y0, x1, y1 = estimates["box"][row]
    sides = np.array([x1 - x0, y1 - y0])
    half = sides / sides.max() * size / geometry.stored_field_of_view / 2
    middle = np.full(2, (size - 1) / 2)
    return camera, np.concatenate([middle - half, middle + half])


def _tensor(values: FloatArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).double()
