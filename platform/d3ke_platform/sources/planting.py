"""Where a body goes: moves it over the floor so that what touches the floor stays there.

Key poses and clips say how limbs turn, not where the pelvis is. Without this a sitting person's
feet slide forward under a pelvis that stays, and a walking one gets nowhere.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d

from d3ke_platform.sources.anny_body import BodyMotion

NEAR_FLOOR_M = 0.02
"""A vertex that never comes nearer to the floor cannot hold the body."""
CONTACT_SCALE_M = 0.005
UNSTEADY_M_S = 0.8
"""By how much a gait's velocity varies."""
FLYING_M = 0.006
SMOOTHING_S = 0.025
"""The body does not jerk when it shifts its weight from one foot to the other."""


def plant(
    moved: BodyMotion,
    *,
    rate_hz: float,
    middle: tuple[float, float] = (0.0, 0.0),
    heading: float = 0.0,
    reach_m: float = np.inf,
    side: float = 1.0,
    travels: bool = False,
) -> BodyMotion:
    """The motion with its contacts planted.

    Args:
        moved: a body above the floor (y = 0) that goes nowhere, see `AnnyBody.pose`.
        rate_hz: time steps per second.
        middle: x and z of the place the motion is around, m.
        heading: direction, turned to the left by so many rad.
        reach_m: room on all sides of the middle; a longer way is walked along a circle.
        side: 1 turns to the left on such a circle, -1 to the right.
        travels: whether the motion leads somewhere; otherwise a person ends up where they began.
    """
    root = moved.joints["root"]
    before, after, flying = _held(moved, root, rate_hz, travels=travels)
    step = before - after
    if not travels:
        step = step - _drift(step, flying)
    step = gaussian_filter1d(step, SMOOTHING_S * rate_hz, axis=0, mode="nearest")
    turned = heading + side * _turning(step, reach_m) if travels else np.full(len(root), heading)
    rotation = _about_vertical(turned)
    held = (before + after) / 2
    # What is held stays: the root moves against it, and against its turning about the root.
    path_steps = np.einsum("tij,tj->ti", (rotation[:-1] + rotation[1:]) / 2, step)
    path_steps += np.einsum("tij,tj->ti", rotation[:-1] - rotation[1:], held)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(path_steps, axis=0)])
    origin = root[:, [0, 2]]
    if travels:
        flat = moved.vertices[:, ::7, [0, 2]] - origin[:, None]
        flat = np.einsum("tij,tvj->tvi", rotation, flat) + path[:, None]
        path -= (flat.min(axis=(0, 1)) + flat.max(axis=(0, 1))) / 2
    else:
        path -= path.mean(axis=0)
    path += np.array(middle)

    def placed(points: Float[np.ndarray, "T *n 3"]) -> Float[np.ndarray, "T *n 3"]:
        extra = (slice(None),) + (None,) * (points.ndim - 2)
        flat = points[..., [0, 2]] - origin[extra]
        flat = np.einsum("tij,t...j->t...i", rotation, flat) + path[extra]
        return np.stack([flat[..., 0], points[..., 1], flat[..., 1]], axis=-1).astype(points.dtype)

    return BodyMotion(
        placed(moved.vertices), {bone: placed(at) for bone, at in moved.joints.items()}
    )


def _held(
    moved: BodyMotion, root: Float[np.ndarray, "T 3"], rate_hz: float, *, travels: bool
) -> tuple[Float[np.ndarray, "S 2"], Float[np.ndarray, "S 2"], Bool[np.ndarray, "S"]]:
    """What touches the floor in each time step: x, z from the root at its begin and its end, m;
    and whether nothing does, where the body goes on as it took off.

    A foot that swings past the other may be as low, but moves the other way: of a gait, that
    counts which fits the velocity that most time steps agree on.
    """
    near = moved.vertices[..., 1].min(axis=0) < NEAR_FLOOR_M
    points = moved.vertices[:, near].astype(float)
    height = np.maximum(points[:-1, :, 1], points[1:, :, 1])
    weight = np.exp(-np.minimum(height / CONTACT_SCALE_M, 50.0))
    flying = height.min(axis=1) > FLYING_M
    flat = points[..., [0, 2]] - root[:, None, [0, 2]]
    if travels and not flying.all():
        change = np.diff(flat, axis=0)
        usual = np.median(_mean(change, weight)[~flying], axis=0)
        off = np.linalg.norm(change - usual, axis=2) * rate_hz / UNSTEADY_M_S
        weight = weight * np.exp(-np.minimum(0.5 * off * off, 50.0))
    before, after = _mean(flat[:-1], weight), _mean(flat[1:], weight)
    if flying.all():
        return before, before, flying
    on_floor = np.flatnonzero(~flying)
    last = on_floor[np.maximum(np.searchsorted(on_floor, np.arange(len(flying)), "right") - 1, 0)]
    return before, np.where(flying[:, None], before + (after - before)[last], after), flying


def _mean(
    values: Float[np.ndarray, "S K 2"], weight: Float[np.ndarray, "S K"]
) -> Float[np.ndarray, "S 2"]:
    return np.einsum("sk,skj->sj", weight / weight.sum(axis=1, keepdims=True), values)


def _drift(step: Float[np.ndarray, "S 2"], flying: Bool[np.ndarray, "S"]) -> np.ndarray:
    """What a motion that leads nowhere strays in each step: in the air, if it leaves the floor."""
    where = flying if flying.any() else np.ones_like(flying)
    return np.where(where[:, None], step.sum(axis=0) / where.sum(), 0.0)


def _turning(step: Float[np.ndarray, "S 2"], reach_m: float) -> Float[np.ndarray, "T"]:
    """Direction at every time, rad: straight on where there is room, else round and round."""
    length = np.linalg.norm(step.sum(axis=0))
    rate = 0.0 if length <= 2 * reach_m else length / len(step) / reach_m
    return rate * np.arange(len(step) + 1)


def _about_vertical(angle: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T 2 2"]:
    """Rotation to the left of (x, z), seen from above."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], axis=1)
