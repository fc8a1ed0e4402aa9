"""Joint angles from a trial's marker trajectories on a subject's OpenSim model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.kinematics.ik_result import IKResult
from d3ke.kinematics.ik_tasks import CoordinateTask
from d3ke.kinematics.solve_ik import REGULARIZATION, solve_ik
from d3ke.kinematics.trc import MarkerTrajectories
from d3ke.skeleton import Skeleton


def inverse_kinematics(
    *,
    model_path: str | Path,
    trajectories: MarkerTrajectories,
    weights: Mapping[str, float],
    coordinate_tasks: Sequence[CoordinateTask] = (),
    solver: str = "batched",
    accuracy: float = 1e-5,
    regularization: float = REGULARIZATION,
    unbiased: bool = True,
    smoothness: float = 0.0,
) -> IKResult:
    """Solves a trial on an .osim file with `solve_ik`; couplers and scale factors are the file's.

    Args:
        model_path: a scaled model that holds all markers of `weights`.
        trajectories: measured markers, ground frame; missing ones (NaN or absent) are left out
            frame by frame.
        weights: marker -> weight, 0 = not used; the order of the result's M markers.
        coordinate_tasks: coordinates to keep near values, with one value or one per frame.
        solver: "batched", or "opensim" for OpenSim's own InverseKinematicsSolver.
        accuracy: of either solver; see `IKSettings` and `solve_with_opensim`.
        regularization, unbiased, smoothness: of the batched solver; see `IKSettings`.

    Raises:
        InvalidInputError, UnsupportedModelError: the model cannot be read or represented.
        UnknownNameError: a marker or coordinate the model lacks.
        KinematicsError: no frame has enough markers, or OpenSim gave up.
    """
    settings: dict[str, Any] = {"accuracy": accuracy}
    if solver != "opensim":
        settings |= {"regularization": regularization, "unbiased": unbiased}
        settings["smoothness"] = smoothness
    return solve_ik(
        Skeleton.from_osim(model_path),
        trajectories.reordered(tuple(weights)).positions,
        np.array(list(weights.values()), dtype=float),
        marker_names=tuple(weights),
        coordinate_tasks=coordinate_tasks,
        solver=solver,
        model_path=model_path,
        times=trajectories.times,
        **settings,
    )
