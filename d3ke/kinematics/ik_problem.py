"""A checked inverse-kinematics problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError, KinematicsError, UnknownNameError, UnsupportedModelError
from d3ke.kinematics.ik_opensim import MINIMUM_MARKERS
from d3ke.kinematics.ik_tasks import CoordinateTask
from d3ke.skeleton import Skeleton

_LARGEST_FRAME = 20.0
"""m: markers of one frame further apart than this are in another unit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IKProblem:
    """What is measured and wanted, with checked shapes; trials flattened to K."""

    skeleton: Skeleton
    """With exactly the problem's markers."""
    shape: tuple[int, ...]
    """(*trials, T)."""
    markers: FloatArray
    """[K, T, M, 3] m, NaN where not measured."""
    weights: FloatArray
    """[M]"""
    tasks: tuple[CoordinateTask, ...]
    locked: BoolArray
    """[Q]"""
    start: FloatArray
    """[K, T, Q] rad or m: given, or the default pose."""
    has_start: bool
    scales: FloatArray | None
    """[K, N, 3]"""
    usable: BoolArray
    """[K, T] True where enough markers with a weight are measured."""

    @classmethod
    def checked(
        cls,
        skeleton: Skeleton,
        markers: FloatArray,
        weights: FloatArray | Mapping[str, float] | None,
        *,
        marker_names: Sequence[str] | None,
        coordinate_tasks: Sequence[CoordinateTask],
        locked: Sequence[str],
        initial: FloatArray | None,
        scales: FloatArray | None,
    ) -> IKProblem:
        """Raises InvalidInputError, UnknownNameError, KinematicsError or UnsupportedModelError."""
        names = skeleton.markers if marker_names is None else tuple(marker_names)
        chosen = skeleton.select_markers(names)
        positions = np.asarray(markers, dtype=float)
        if positions.ndim < 3 or positions.shape[-2:] != (len(names), 3) or not positions.size:
            raise InvalidInputError(
                "markers",
                f"have shape {positions.shape}, not (frames, {len(names)}, 3)",
                "Pass marker_names if they are not the skeleton's, in its order.",
            )
        shape = positions.shape[:-2]
        flat = positions.reshape(-1, *positions.shape[-3:])
        flat = np.where(np.isfinite(flat).all(-1, keepdims=True), flat, np.nan)
        _check_unit(flat)
        shares = _weights(weights, names)
        usable = (np.isfinite(flat[..., 0]) & (shares > 0.0)).sum(-1) >= MINIMUM_MARKERS
        if not usable.any():
            reason = f"no frame has {MINIMUM_MARKERS} measured markers that carry a weight"
            raise KinematicsError("inverse kinematics", reason)
        return cls(
            skeleton=chosen,
            shape=shape,
            markers=flat,
            weights=shares,
            tasks=_tasks(chosen, coordinate_tasks, shape[-1]),
            locked=_locked(chosen, locked),
            start=_start(chosen, initial, shape).reshape(len(flat), shape[-1], -1),
            has_start=initial is not None,
            scales=_scales(chosen, scales, shape[:-1]),
            usable=usable,
        )

    def task_arrays(self) -> tuple[FloatArray, FloatArray]:
        """Weights [Q] and values [T, Q] of the coordinate tasks."""
        skeleton = self.skeleton
        weights = np.zeros(len(skeleton.coordinates))
        values = np.tile(skeleton.coordinate_defaults, (self.shape[-1], 1))
        for task in self.tasks:
            index = skeleton.index_of("coordinate", task.name)
            weights[index] = task.weight
            if task.value is not None:
                values[:, index] = task.value
        return weights, values


def _check_unit(markers: FloatArray) -> None:
    seen: BoolArray = np.asarray(np.isfinite(markers).all(-1))
    low = np.where(seen[..., None], markers, np.inf).min(-2)
    high = np.where(seen[..., None], markers, -np.inf).max(-2)
    spread = np.where(seen.any(-1, keepdims=True), high - low, 0.0)
    if spread.size and np.median(spread.max(-1)) > _LARGEST_FRAME:
        raise InvalidInputError(
            "markers",
            f"those of one frame are {np.median(spread.max(-1)):.0f} m apart",
            "Positions are in metres; a .trc file in millimetres is converted by read_trc.",
        )


def _weights(
    weights: FloatArray | Mapping[str, float] | None, names: tuple[str, ...]
) -> FloatArray:
    if isinstance(weights, Mapping):
        for name in weights:
            if name not in names:
                raise UnknownNameError("marker", name, names)
        weights = np.array([float(weights.get(name, 0.0)) for name in names])
    shares = np.ones(len(names)) if weights is None else np.asarray(weights, dtype=float)
    if shares.shape != (len(names),) or not (np.isfinite(shares) & (shares >= 0.0)).all():
        raise InvalidInputError("marker weights", f"are not {len(names)} numbers of 0 or more")
    return shares


def _tasks(
    skeleton: Skeleton, tasks: Sequence[CoordinateTask], frames: int
) -> tuple[CoordinateTask, ...]:
    for task in tasks:
        skeleton.index_of("coordinate", task.name)
        if task.value is not None and np.shape(task.value) not in ((), (frames,)):
            reason = f"has values of shape {np.shape(task.value)} for {frames} frames"
            raise InvalidInputError(f"coordinate task {task.name!r}", reason)
    return tuple(tasks)


def _locked(skeleton: Skeleton, names: Sequence[str]) -> BoolArray:
    locked = skeleton.coordinate_locked.copy()
    locked[np.asarray(skeleton.index_of("coordinate", list(names)), dtype=int)] = True
    for coupler in skeleton.couplers:
        if locked[coupler.dependent]:
            name = skeleton.coordinates[coupler.dependent]
            raise UnsupportedModelError(
                f"coordinate {name!r}",
                "locked coordinate that a coupler determines",
                ["locked coordinates without a coupler"],
                "Unlock it in the model, or lock what drives it.",
            )
    return locked


def _start(skeleton: Skeleton, initial: FloatArray | None, shape: tuple[int, ...]) -> FloatArray:
    count = len(skeleton.coordinates)
    if initial is None:
        return np.broadcast_to(skeleton.coordinate_defaults, (*shape, count))
    start = np.asarray(initial, dtype=float)
    if start.shape not in ((count,), (*shape, count)) or not np.isfinite(start).all():
        raise InvalidInputError(
            "initial coordinates",
            f"have shape {start.shape} or hold NaN",
            f"Pass ({count},), or {(*shape, count)} finite numbers.",
        )
    return np.broadcast_to(start, (*shape, count))


def _scales(
    skeleton: Skeleton, scales: FloatArray | None, trials: tuple[int, ...]
) -> FloatArray | None:
    if scales is None:
        return None
    factors = np.asarray(scales, dtype=float)
    count = len(skeleton.bodies)
    if factors.shape not in ((count, 3), (*trials, count, 3)):
        raise InvalidInputError(
            "scales", f"have shape {factors.shape}, not ({count}, 3): a row per body"
        )
    skeleton.check_scales(factors)
    return np.broadcast_to(factors, (*trials, count, 3)).reshape(-1, count, 3).copy()
