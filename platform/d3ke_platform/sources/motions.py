"""Key-framed movements -> segment rotations over time, varied by person and by chance.

A segment rotation is local: of the segment relative to its parent, in OpenSim-like axes
(x forward, y up, z right), the identity when standing with the arms straight down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from scipy.spatial.transform import Rotation

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform.sources.gait_table import GAITS
from d3ke_platform.sources.key_poses import (
    CHANNELS,
    FINE_CHANNELS,
    LIFT,
    PAIRED,
    REST,
    TRUNK,
    KeyPose,
    Pose,
)
from d3ke_platform.sources.movement_table import MOVEMENTS

NOMINAL_PELVIS_HEIGHT_M = 0.95

KEY_NOISE_DEG = 1.5
SWAY_DEG = 1.2
GAIT_NOISE_DEG = 0.6  # its keys follow each other within a tenth of a second
FINE_DEG: Mapping[str, tuple[float, float, float]] = {
    "wrist": (14.0, 7.0, 0.0), "toe": (5.0, 0.0, 0.0), "elbow": (0.0, 16.0, 0.0)
}  # fmt: skip
"""Size of the slow wandering of small joints: hands are never still."""
TOES_AT_REST_DEG = -5.0
"""Bent a little: the model's toes bend from 0 to -15 degrees."""
POSTURE_DEG = {"root": 1.5, "chest": 3.0, "neck": 4.0, "shoulder": 3.0, "elbow": 5.0, "hip": 1.5}

# Smallest and largest angle (deg) per channel: style and noise must not break a joint.
LIMITS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "root": ((-40, 90), (-25, 25), (-180, 180)),
    "chest": ((-25, 60), (-38, 38), (-50, 50)),
    "neck": ((-40, 45), (-30, 30), (-60, 60)),
    "hip": ((-28, 115), (-20, 45), (-35, 35)),
    "knee": ((0, 130), (0, 0), (0, 0)),
    "ankle": ((-40, 35), (-15, 15), (0, 0)),
    "shoulder": ((-10, 168), (-45, 168), (-80, 85)),
    "elbow": ((0, 142), (-30, 65), (0, 0)),
    "wrist": ((-72, 60), (-22, 18), (0, 0)),
    "toe": ((-10, 50), (0, 0), (0, 0)),
}


@dataclass(frozen=True, kw_only=True)
class MotionStyle:
    """How one person moves: the same in all of that person's trials."""

    amplitude: float = 1.0
    """Factor on the distance of every key pose from rest."""
    speed: float = 1.0
    """Factor on the speed."""
    posture: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """Channel -> constant offset, degrees."""
    yaw_deg: float = 0.0
    """Direction the person faces: turn to the left, degrees."""


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A movement of T time steps."""

    segment_rotations: dict[str, np.ndarray]
    """Segment -> local rotations [T, 3, 3]."""
    root_position: np.ndarray
    """Pelvis position in ground [T, 3], m; the height is nominal: feet are put on the floor
    once the body is known."""
    clearance: np.ndarray
    """[T] m, height of the body's lowest point above the floor."""
    times: np.ndarray
    """[T], s, from 0."""
    measured_height: bool = False
    """Whether the pelvis height of `root_position` was measured, so that it tells a jump."""


def sample_motion_style(rng: np.random.Generator) -> MotionStyle:
    """A person's style: amplitude and speed within 10 %, posture a few degrees off."""
    posture = {
        channel: tuple(rng.normal(0.0, 1.0, 3) * _posture_spread(channel)) for channel in CHANNELS
    }
    return MotionStyle(
        amplitude=rng.uniform(0.88, 1.08),
        speed=rng.uniform(0.9, 1.1),
        posture=posture,
        yaw_deg=rng.normal(0.0, 4.0),
    )


def make_motion(
    movement: str,
    *,
    rate_hz: float,
    seconds: float,
    style: MotionStyle,
    rng: np.random.Generator,
    fine: bool = False,
) -> Motion:
    """One performance of a movement, at `rate_hz`; the same generator state gives the same motion.

    The movement is mirrored by chance and lasts `seconds`, give or take the person's speed and
    8 %; gaits repeat their cycle as often as fits. With `fine`, wrists, forearms and toes move as
    well; nothing else changes with it. Raises UnknownNameError for a movement that is not in
    `MOVEMENTS` and InvalidInputError for a rate or length that is not positive.
    """
    if movement not in MOVEMENTS:
        raise UnknownNameError("movement", movement, MOVEMENTS)
    if rate_hz <= 0 or seconds <= 0:
        raise InvalidInputError(
            f"movement {movement}", f"rate {rate_hz} Hz and length {seconds} s must be positive"
        )
    flowing = movement in GAITS
    keys = _cycles(MOVEMENTS[movement], seconds) if flowing else MOVEMENTS[movement]
    mirrored = bool(rng.random() < 0.5)
    amplitude = style.amplitude * rng.uniform(0.93, 1.07)
    key_times = _key_times(keys, seconds / (style.speed * rng.uniform(0.92, 1.08)), rng, flowing)
    times = np.arange(max(2, round(key_times[-1] * rate_hz))) / rate_hz
    angles = {}
    for channel in CHANNELS:
        values = _key_values(keys, channel, mirrored, amplitude)
        values = values + np.array(style.posture.get(channel, (0.0, 0.0, 0.0)))
        noise = rng.normal(0.0, 1.0, values.shape)
        values = values + noise * (GAIT_NOISE_DEG if flowing else KEY_NOISE_DEG)
        smooth = _interpolated(key_times, values, times, flowing) + _sway(times, rng)
        angles[channel] = _limited(channel, smooth)
    angles["root"][:, 2] += style.yaw_deg + rng.normal(0.0, 3.0)
    root_position = place_in_room(times, rng)
    if fine:
        (own,) = rng.spawn(1)  # what has been drawn above stays as it is
        for channel in FINE_CHANNELS:
            values = _key_values(keys, channel, mirrored, amplitude)
            angles[channel] = _interpolated(key_times, values, times, flowing)
            angles[channel] += TOES_AT_REST_DEG if channel.startswith("toe") else 0.0
        for channel in (*FINE_CHANNELS, "elbow_r", "elbow_l"):
            angles[channel] = _limited(channel, angles[channel] + _wander(channel, times, own))
    return Motion(
        segment_rotations=segment_rotations(angles),
        root_position=root_position,
        clearance=_clearance(keys, key_times, times),
        times=times,
    )


def small_joints(
    times: Float[np.ndarray, "T"], rng: np.random.Generator
) -> dict[str, Float[np.ndarray, "T 3 3"]]:
    """Rotations of forearms, wrists and toes that move a little, whatever the others do."""
    angles = {channel: np.zeros((len(times), 3)) for channel in (*CHANNELS, *FINE_CHANNELS)}
    for channel in (*FINE_CHANNELS, "elbow_r", "elbow_l"):
        angles[channel] += TOES_AT_REST_DEG if channel.startswith("toe") else 0.0
        angles[channel] = _limited(channel, angles[channel] + _wander(channel, times, rng))
    moved = segment_rotations(angles)
    return {name: moved[name] for name in moved if name.startswith(("forearm", "wrist", "toe"))}


def segment_rotations(
    angles: Mapping[str, Float[np.ndarray, "T 3"]],
) -> dict[str, Float[np.ndarray, "T 3 3"]]:
    """Local segment rotations of anatomical angles (degrees, see `key_poses`).

    Wrists and toes may be left out: the forearm is then turned as a whole from the elbow on,
    where a living one twists towards the wrist.
    """
    result = {name: _euler("YZX", angles[name] * [-1, 1, 1], (2, 0, 1)) for name in TRUNK}
    for side, sign in (("r", 1.0), ("l", -1.0)):
        hip, knee, ankle, shoulder, elbow = (angles[f"{name}_{side}"] for name in PAIRED)
        result |= {
            f"hip_{side}": _euler("ZXY", hip * [1, -sign, sign], (0, 1, 2)),
            f"knee_{side}": _euler("ZXY", knee * [-1, 0, 0], (0, 1, 2)),
            f"ankle_{side}": _euler("ZXY", ankle * [1, sign, 0], (0, 1, 2)),
            f"shoulder_{side}": _euler("XZY", shoulder * [-sign, 1, -sign], (0, 1, 2)),
            f"elbow_{side}": _euler("ZYX", elbow * [1, sign, 0], (0, 1, 2)),
        }
        if f"wrist_{side}" in angles:
            wrist, toe = angles[f"wrist_{side}"], angles[f"toe_{side}"]
            twist = elbow * [0, sign, 0]
            result |= {
                f"elbow_{side}": _euler("ZYX", elbow * [1, 0, 0], (0, 1, 2)),
                f"forearm_{side}": _euler("ZYX", twist, (0, 1, 2)),
                f"wrist_{side}": _euler("XZY", wrist * [sign, 1, 0], (0, 1, 2)),
                f"toe_{side}": _euler("ZXY", toe * [1, 0, 0], (0, 1, 2)),
            }
    return result


def _euler(
    axes: str, angles: Float[np.ndarray, "T 3"], order: tuple[int, int, int]
) -> Float[np.ndarray, "T 3 3"]:
    """Rotations about successive body-fixed `axes` by the columns `order` of `angles` (deg)."""
    return Rotation.from_euler(axes, angles[:, order], degrees=True).as_matrix()


def _base_name(channel: str) -> str:
    return channel.removesuffix("_r").removesuffix("_l")


def _posture_spread(channel: str) -> float:
    return POSTURE_DEG.get(_base_name(channel), 0.0)


def _limited(channel: str, angles: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3"]:
    low, high = np.array(LIMITS[_base_name(channel)], dtype=float).T
    return np.clip(angles, low, high)


def _cycles(cycle: tuple[KeyPose, ...], seconds: float) -> tuple[KeyPose, ...]:
    """As many cycles as take `seconds`, at least one."""
    length = sum(key.seconds for key in cycle[1:])
    return (cycle[0], *(cycle[1:] * max(1, round(seconds / length))))


def _key_times(
    keys: tuple[KeyPose, ...], seconds: float, rng: np.random.Generator, flowing: bool
) -> Float[np.ndarray, "K"]:
    """Times of the key poses from 0 to `seconds`; steps vary by up to 10 %, in a gait by 3 %."""
    varied = rng.uniform(0.9, 1.1, len(keys) - 1)
    varied = 1 + 0.3 * (varied - 1) if flowing else varied
    steps = np.array([key.seconds for key in keys[1:]]) * varied
    times = np.concatenate([[0.0], np.cumsum(steps)])
    return times * (seconds / times[-1])


def _key_values(
    keys: tuple[KeyPose, ...], channel: str, mirrored: bool, amplitude: float
) -> Float[np.ndarray, "K 3"]:
    """Angles (deg) of one channel at every key pose."""
    rest = _angles(REST, channel, mirrored)
    poses = np.array([_angles({**REST, **key.pose}, channel, mirrored) for key in keys])
    return rest + amplitude * (poses - rest)


def _angles(pose: Pose, channel: str, mirrored: bool) -> Float[np.ndarray, "3"]:
    """Angles of one channel of a pose, or of its mirror image."""
    swapped = {"_r": "_l", "_l": "_r"}.get(channel[-2:], "")
    source = channel[:-2] + swapped if mirrored and swapped else channel
    values = np.zeros(3)
    given = pose.get(source, ())
    values[: len(given)] = given
    # Seen in a mirror, bends and turns of the trunk change side; limb angles name their side.
    return values * [1, -1, -1] if mirrored and channel in TRUNK else values


def _interpolated(
    key_times: Float[np.ndarray, "K"],
    values: Float[np.ndarray, "K 3"],
    times: Float[np.ndarray, "T"],
    flowing: bool,
) -> Float[np.ndarray, "T 3"]:
    """Values at `times`; a flowing movement comes to rest only where an angle turns back."""
    if not flowing:
        return _smoothstep(key_times, values, times)
    return np.asarray(PchipInterpolator(key_times, values, axis=0)(times))


def _smoothstep(
    key_times: Float[np.ndarray, "K"],
    values: Float[np.ndarray, "K 3"],
    times: Float[np.ndarray, "T"],
) -> Float[np.ndarray, "T 3"]:
    """Values at `times`, at rest at every key, with u^2 (3 - 2u) in between."""
    segment = np.clip(np.searchsorted(key_times, times, side="right") - 1, 0, len(key_times) - 2)
    u = (times - key_times[segment]) / (key_times[segment + 1] - key_times[segment])
    u = (u * u * (3 - 2 * u))[:, None]
    return values[segment] * (1 - u) + values[segment + 1] * u


def _sway(times: Float[np.ndarray, "T"], rng: np.random.Generator) -> Float[np.ndarray, "T 3"]:
    """The slow unrest of a living body, degrees."""
    frequency_hz, phase = rng.uniform(0.2, 0.9, 3), rng.uniform(0, 2 * np.pi, 3)
    return SWAY_DEG * np.sin(2 * np.pi * frequency_hz * times[:, None] + phase)


def _wander(
    channel: str, times: Float[np.ndarray, "T"], rng: np.random.Generator
) -> Float[np.ndarray, "T 3"]:
    """The unrest of a small joint, degrees."""
    size = np.array(FINE_DEG[_base_name(channel)])
    frequency_hz, phase = rng.uniform(0.25, 0.7, 3), rng.uniform(0, 2 * np.pi, 3)
    return (
        size * rng.uniform(0.4, 1.0, 3) * np.sin(2 * np.pi * frequency_hz * times[:, None] + phase)
    )


def _clearance(
    keys: tuple[KeyPose, ...], key_times: Float[np.ndarray, "K"], times: Float[np.ndarray, "T"]
) -> Float[np.ndarray, "T"]:
    """Height above the floor, m: a throw's parabola between the floor and a lifted key pose."""
    heights = np.array([key.pose.get(LIFT, (0.0,))[0] for key in keys])
    segment = np.clip(np.searchsorted(key_times, times, side="right") - 1, 0, len(keys) - 2)
    u = (times - key_times[segment]) / (key_times[segment + 1] - key_times[segment])
    before, after = heights[segment], heights[segment + 1]
    rising = before + (after - before) * u * (2 - u)
    falling = after + (before - after) * (1 - u * u)
    return np.where(after >= before, rising, falling)


def place_in_room(
    times: Float[np.ndarray, "T"], rng: np.random.Generator
) -> Float[np.ndarray, "T 3"]:
    """A place near the room's middle, with a slow drift of about a centimetre."""
    place = np.array([rng.uniform(-0.12, 0.12), NOMINAL_PELVIS_HEIGHT_M, rng.uniform(-0.12, 0.12)])
    return place + _sway(times, rng) * [0.008, 0.0, 0.008]
