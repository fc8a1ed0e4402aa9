"""Movements from place to place, as cycles of key poses; channels as in `movement_table`.

Angles of walking and jogging follow the sagittal curves that every gait textbook draws, read at
eighths of the cycle from the right foot's contact on; the left side does the same half a cycle
later. All movements were written for this project.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from d3ke_platform.sources.key_poses import KeyPose, Pose, pose

Curve: TypeAlias = Sequence[float]

PHASES = 8


@dataclass(frozen=True, kw_only=True)
class Gait:
    """Curves of one cycle at `PHASES` equal steps."""

    cycle_s: float
    hip: Curve
    knee: Curve
    ankle: Curve
    toe: Curve
    arm: Curve
    """Shoulder flexion; of the same side as the leg."""
    elbow: Curve
    lift: Curve = (0.0,) * PHASES
    """Height of the lowest point above the floor, m."""
    pelvis_turn: float = 4.0
    """To the left when the right foot touches the floor; the chest turns twice as far back."""
    lean: tuple[float, float] = (0.0, 3.0)
    """Forward bend of the root and of the chest."""
    shoulder_abduction: float = 8.0
    extra: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def cycle(self) -> tuple[KeyPose, ...]:
        """Key poses of one cycle, the first pose again at the end."""
        keys = [KeyPose(self.cycle_s / PHASES, self._pose(phase)) for phase in range(PHASES)]
        return (*keys, keys[0])

    def _pose(self, phase: int) -> Pose:
        angles: dict[str, tuple[float, ...]] = {}
        for side, shift in (("r", 0), ("l", PHASES // 2)):
            at = (phase + shift) % PHASES
            angles |= {
                f"hip_{side}": (self.hip[at], 2.0),
                f"knee_{side}": (self.knee[at],),
                f"ankle_{side}": (self.ankle[at],),
                f"toe_{side}": (self.toe[at],),
                f"shoulder_{side}": (self.shoulder_abduction, self.arm[at]),
                f"elbow_{side}": (self.elbow[at], 25.0),
            }
        turn = self.pelvis_turn * (1.0, 0.7, 0.0, -0.7, -1.0, -0.7, 0.0, 0.7)[phase]
        trunk = pose(
            root=(self.lean[0], 0.0, turn),
            chest=(self.lean[1], 0.0, -2.0 * turn),
            neck=(-self.lean[0], 0.0, turn),
            lift=self.lift[phase],
        )
        return {**angles, **trunk, **self.extra}


_WALK = Gait(
    cycle_s=1.10,
    hip=(29, 25, 13, 0, -10, 3, 23, 31),
    knee=(4, 14, 8, 4, 10, 54, 66, 28),
    ankle=(0, -5, 3, 7, 4, -9, 4, 3),
    toe=(8, 0, 0, 3, 20, 14, 8, 8),
    arm=(-16, -13, -3, 9, 18, 16, 4, -9),
    elbow=(14, 14, 16, 20, 26, 25, 20, 16),
)
_JOG = Gait(
    cycle_s=0.72,
    hip=(34, 27, 8, -11, -3, 22, 42, 43),
    knee=(16, 40, 33, 16, 58, 94, 86, 40),
    ankle=(4, 19, 17, -18, -12, 0, 4, 6),
    toe=(8, 0, 6, 28, 6, 0, 0, 5),
    arm=(-34, -27, -5, 15, 28, 24, 5, -20),
    elbow=(85, 84, 86, 92, 98, 96, 90, 86),
    lift=(0.0, 0.0, 0.0, 0.035, 0.0, 0.0, 0.0, 0.035),
    pelvis_turn=6.0,
    lean=(7.0, 5.0),
    shoulder_abduction=14.0,
)
_JOG_IN_PLACE = Gait(
    cycle_s=0.68,
    hip=(22, 24, 16, 10, 26, 55, 66, 42),
    knee=(24, 40, 30, 22, 55, 92, 104, 62),
    ankle=(-2, 14, 12, -16, -14, -6, 0, 0),
    toe=(10, 0, 6, 25, 6, 0, 0, 5),
    arm=(-28, -22, -5, 14, 26, 22, 5, -16),
    elbow=(88, 88, 90, 94, 98, 96, 92, 88),
    lift=(0.0, 0.0, 0.0, 0.03, 0.0, 0.0, 0.0, 0.03),
    pelvis_turn=4.0,
    lean=(2.0, 4.0),
    shoulder_abduction=14.0,
)

_TOGETHER = pose(
    hip=(14, 1), knee=24, ankle=4, chest=4, shoulder=(32, 15), elbow=40, lift=0.05
)  # fmt: skip
_SWINGING = pose(
    hip_r=(30, 14), knee_r=58, hip_l=(12, 5), knee_l=18, ankle_l=4, chest=4,
    shoulder=(38, 15), elbow=38,
)  # fmt: skip
_REACHING = pose(
    hip_r=(10, 24), knee_r=10, hip_l=(14, 10), knee_l=24, ankle=5, chest=4,
    shoulder=(42, 15), elbow=36,
)  # fmt: skip
_SHIFTED = pose(
    hip_r=(18, 10), knee_r=30, ankle_r=10, hip_l=(10, 26), knee_l=10, toe_l=12, chest=4,
    shoulder=(38, 15), elbow=38,
)  # fmt: skip
_FOLLOWING = pose(
    hip_r=(12, 4), knee_r=18, ankle_r=4, hip_l=(30, 14), knee_l=62, chest=4,
    shoulder=(34, 15), elbow=40,
)  # fmt: skip

_ON_FOURS = pose(knee=92, ankle=-36, neck=-30, elbow=(8, 40), wrist=-68, toe=0)
_CRAWL_RIGHT = {
    **_ON_FOURS,
    **pose(root=80, chest=(6, -3), hip_r=(98, 6), hip_l=(70, 6), knee_r=92, knee_l=90),
    **pose(shoulder_l=(8, 106), shoulder_r=(8, 74)),
}
_LEFT_ADVANCING = {
    **_ON_FOURS,
    **pose(root=(80, 16), chest=(6, -12), hip=(86, 6), knee_l=112, knee_r=90, ankle_l=-20),
    **pose(shoulder=(8, 92), elbow_r=(48, 40), elbow_l=(6, 40)),
}
_CRAWL_LEFT = {
    **_ON_FOURS,
    **pose(root=80, chest=(6, 3), hip_l=(98, 6), hip_r=(70, 6), knee_l=92, knee_r=90),
    **pose(shoulder_r=(8, 106), shoulder_l=(8, 74)),
}
_RIGHT_ADVANCING = {
    **_ON_FOURS,
    **pose(root=(80, -16), chest=(6, 12), hip=(86, 6), knee_r=112, knee_l=90, ankle_r=-20),
    **pose(shoulder=(8, 92), elbow_l=(48, 40), elbow_r=(6, 40)),
}
_K = KeyPose

GAITS: Mapping[str, tuple[KeyPose, ...]] = {
    "walk": _WALK.cycle(),
    "run": _JOG.cycle(),
    "run_inplace": _JOG_IN_PLACE.cycle(),
    "side_gallop": (
        _K(0, _TOGETHER),
        _K(0.09, _SWINGING),
        _K(0.10, _REACHING),
        _K(0.18, _SHIFTED),
        _K(0.14, _FOLLOWING),
        _K(0.12, _TOGETHER),
    ),
    "crawl": (
        _K(0, _CRAWL_RIGHT),
        _K(0.35, _LEFT_ADVANCING),
        _K(0.30, _CRAWL_LEFT),
        _K(0.35, _RIGHT_ADVANCING),
        _K(0.30, _CRAWL_RIGHT),
    ),
}
"""Name -> key poses of one cycle; they are passed without a stop, cycle after cycle."""

TRAVELLING = frozenset({"walk", "run", "side_gallop", "crawl"})
"""Those that lead somewhere: along an arc, if there is no room for a straight line."""

IN_PLACE = frozenset({"run_inplace", "walk_inplace"})
"""Steps on the spot: no foot is planted, for the steps would lead away."""
