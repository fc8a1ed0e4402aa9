"""Scale factors of a model that somebody scaled before, by comparison with the generic model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError
from d3ke.kinematics.opensim_library import load_opensim

_LEAST_M = 2e-3
"""Coordinates below this say nothing about a factor."""
_TOLERANCE_M = 5e-3
"""How far a joint may lie from its scaled place: beyond, the model was changed, not scaled."""

Points = dict[str, dict[str, FloatArray]]
"""Body -> what -> [3] m in the body's axes."""


def scales_between(generic: Any, scaled: Any) -> FloatArray:
    """[N, 3] factors of the bodies, in the generic model's order.

    From what OpenSim scales with a body: places of joints, centre of mass and path points of
    muscles, by least squares per axis; where they say nothing the factors of the body's geometry,
    else the mean of its other axes.

    Args:
        generic, scaled: `opensim.Model`s with the same bodies and joints.

    Raises:
        InvalidInputError: a body is missing, or a joint sits where no scaling puts it.
    """
    names = [body.getName() for body in generic.getBodySet()]
    there = [body.getName() for body in scaled.getBodySet()]
    if missing := [name for name in names if name not in there]:
        raise InvalidInputError("scaled model", f"it lacks the bodies {', '.join(missing)}")
    before, after = _joint_points(generic), _joint_points(scaled)
    more_before, more_after = _other_points(generic), _other_points(scaled)
    meshes_before, meshes_after = _mesh_scales(generic), _mesh_scales(scaled)
    factors = np.ones((len(names), 3))
    for row, body in enumerate(names):
        pairs = _shared(before.get(body, {}), after.get(body, {}))
        more = _shared(more_before.get(body, {}), more_after.get(body, {}))
        meshes = _shared(meshes_before.get(body, {}), meshes_after.get(body, {}))
        factors[row] = _factors(np.concatenate([pairs, more]), meshes)
        _check(body, pairs, factors[row])
    return factors


def _shared(first: Mapping[str, FloatArray], second: Mapping[str, FloatArray]) -> FloatArray:
    """[K, 2, 3] of what both have."""
    found = [np.stack([first[key], second[key]]) for key in first if key in second]
    return np.array(found).reshape(-1, 2, 3)


def _factors(points: FloatArray, meshes: FloatArray) -> FloatArray:
    result = np.full(3, np.nan)
    for axis in range(3):
        first, second = points[:, 0, axis], points[:, 1, axis]
        told = np.abs(first) > _LEAST_M
        if told.any():
            result[axis] = first[told] @ second[told] / (first[told] @ first[told])
        elif len(meshes):
            result[axis] = float(np.mean(meshes[:, 1, axis] / meshes[:, 0, axis]))
    known = np.isfinite(result)
    return np.where(known, result, result[known].mean() if known.any() else 1.0)


def _check(body: str, pairs: FloatArray, factors: FloatArray) -> None:
    if not (factors > 0.0).all():
        raise InvalidInputError("scaled model", f"body {body!r} would be scaled by {factors}")
    off = np.linalg.norm(pairs[:, 0] * factors - pairs[:, 1], axis=-1)
    if off.size and off.max() > _TOLERANCE_M:
        raise InvalidInputError(
            "scaled model",
            f"a joint on body {body!r} lies {1e3 * off.max():.0f} mm from where scaling by "
            f"{np.round(factors, 3).tolist()} puts it",
            "It is no scaled copy of the generic model: leave the generic model out.",
        )


def _joint_points(model: Any) -> Points:
    points: Points = {}
    for joint in model.getJointSet():
        for end, frame in (("parent", joint.getParentFrame()), ("child", joint.getChildFrame())):
            body = frame.findBaseFrame().getName()
            place = frame.findTransformInBaseFrame().p().to_numpy()
            points.setdefault(body, {})[f"{joint.getName()} {end}"] = place
    return points


def _other_points(model: Any) -> Points:
    """Centres of mass and fixed path points."""
    opensim = load_opensim()
    points: Points = {}
    for body in model.getBodySet():
        points[body.getName()] = {"mass centre": body.getMassCenter().to_numpy()}
    for force in model.getForceSet():
        muscle = opensim.PathActuator.safeDownCast(force)
        if muscle is None:
            continue
        path = muscle.getGeometryPath().getPathPointSet()
        for index in range(path.getSize()):
            point = opensim.PathPoint.safeDownCast(path.get(index))
            if point is not None:
                body = point.getParentFrame().findBaseFrame().getName()
                key = f"{force.getName()} {point.getName()} {index}"
                points.setdefault(body, {})[key] = point.get_location().to_numpy()
    return points


def _mesh_scales(model: Any) -> Points:
    scales: Points = {}
    for body in model.getBodySet():
        for index in range(body.getPropertyByName("attached_geometry").size()):
            factors = body.get_attached_geometry(index).get_scale_factors().to_numpy()
            if (factors > 0.0).all():
                scales.setdefault(body.getName(), {})[str(index)] = factors
    return scales
