"""Everyday movements as key poses: the vocabulary of the embedded data set.

All movements were written for this project.
"""

from __future__ import annotations

from collections.abc import Mapping

from d3ke_platform.sources.gait_table import GAITS
from d3ke_platform.sources.key_poses import REST, KeyPose, Pose, pose, repeat


def _squat(knee: float) -> Pose:
    return pose(
        hip=(0.88 * knee, 8),
        knee=knee,
        ankle=0.28 * knee,
        chest=0.22 * knee,
        shoulder=(8, 0.62 * knee),
    )


_K = KeyPose
_SEATED = pose(hip=(92, 6), knee=90, ankle=3, chest=4, shoulder=(8, 25), elbow=55)
_RISING = pose(hip=(75, 6), knee=60, ankle=12, chest=20, root=22, shoulder=(8, 30), elbow=40)
_LEG_OVER = {**_SEATED, **pose(hip_r=(105, -14, 25), knee_r=60)}
_TWIST_LEFT = pose(chest=(0, 0, 42), neck=(0, 0, 25), shoulder=(50, 30), elbow=(80, 20))
_TWIST_RIGHT = pose(chest=(0, 0, -42), neck=(0, 0, -25), shoulder=(50, 30), elbow=(80, 20))
_WAVE_IN = pose(shoulder_r=(70, 60, 60), elbow_r=(100, 25), wrist_r=(-10, 12))
_WAVE_OUT = pose(shoulder_r=(85, 60, 60), elbow_r=(60, 25), wrist_r=(-10, -16))
_STEP_RIGHT = pose(
    hip_r=80, knee_r=90, shoulder_l=(8, 45), elbow_l=60, shoulder_r=(8, -30), elbow_r=40
)
_STEP_LEFT = pose(
    hip_l=80, knee_l=90, shoulder_r=(8, 45), elbow_r=60, shoulder_l=(8, -30), elbow_l=40
)
_WALK = (
    _K(
        0.30,
        pose(
            hip_r=28, knee_r=8, hip_l=-14, knee_l=8, ankle_l=-3, chest=(2, 0, 5),
            shoulder_l=(6, 22), shoulder_r=(6, -18), elbow_l=22, elbow_r=14,
        ),
    ),
    _K(0.28, pose(hip_r=8, knee_r=16, hip_l=14, knee_l=58, ankle_l=2, chest=2)),
    _K(
        0.28,
        pose(
            hip_l=28, knee_l=8, hip_r=-14, knee_r=8, ankle_r=-3, chest=(2, 0, -5),
            shoulder_r=(6, 22), shoulder_l=(6, -18), elbow_r=22, elbow_l=14,
        ),
    ),
    _K(0.28, pose(hip_l=8, knee_l=16, hip_r=14, knee_r=58, ankle_r=2, chest=2)),
)  # fmt: skip

MOVEMENTS: Mapping[str, tuple[KeyPose, ...]] = {
    "arm_raise": (
        _K(0, REST),
        _K(0.6, pose(shoulder=85)),
        _K(0.6, pose(shoulder=(158, 0, 20), elbow=8)),
        _K(0.5, pose(shoulder=85)),
        _K(0.7, REST),
    ),
    "arm_front": (
        _K(0, REST),
        _K(0.7, pose(shoulder=(8, 90), elbow=5)),
        _K(0.6, pose(shoulder=(10, 160), elbow=10)),
        _K(0.9, REST),
    ),
    "squat": (_K(0, REST), _K(0.8, _squat(108)), _K(0.3, _squat(100)), _K(1.0, REST)),
    "sit_down": (
        _K(0, REST),
        _K(0.7, _RISING),
        _K(0.6, _SEATED),
        _K(0.4, _SEATED),
        _K(0.5, _RISING),
        _K(0.6, REST),
    ),
    "cross_legs": (_K(0, _SEATED), _K(0.8, _LEG_OVER), _K(0.6, _LEG_OVER), _K(0.8, _SEATED)),
    "wave": (
        _K(0, REST),
        _K(0.5, _WAVE_IN),
        *repeat(2, _K(0.3, _WAVE_OUT), _K(0.3, _WAVE_IN)),
        _K(0.6, REST),
    ),
    "kick": (
        _K(0, REST),
        _K(
            0.6,
            pose(
                hip_r=(-25, 5), knee_r=65, chest=(6, 0, 12), hip_l=10, knee_l=18,
                shoulder_l=(20, 40), shoulder_r=(20, -20), elbow=30,
            ),
        ),
        _K(
            0.45,
            pose(
                hip_r=(80, 3), knee_r=12, ankle_r=-15, root=-12, chest=(-2, 0, -12), knee_l=12,
                shoulder_l=(30, -15), shoulder_r=(30, 45), elbow=25,
            ),
        ),
        _K(0.5, pose(hip_r=(35, 3), knee_r=60)),
        _K(0.6, REST),
    ),
    "twist": (
        _K(0, REST),
        _K(0.5, _TWIST_LEFT),
        _K(0.7, _TWIST_RIGHT),
        _K(0.7, _TWIST_LEFT),
        _K(0.5, REST),
    ),
    "jumping_jack": (
        _K(0, REST),
        *repeat(
            3,
            _K(0.42, pose(hip=(8, 26), knee=12, shoulder=165, elbow=8)),
            _K(0.42, pose(hip=(10, 2), knee=18, ankle=6, shoulder=8, elbow=12)),
        ),
    ),
    "march": (
        _K(0, REST),
        *repeat(2, _K(0.5, _STEP_RIGHT), _K(0.55, _STEP_LEFT)),
        _K(0.4, REST),
    ),
    "lunge": (
        _K(0, REST),
        _K(
            0.9,
            pose(
                hip_r=(75, 3), knee_r=88, ankle_r=8, hip_l=(-12, 3), knee_l=75, ankle_l=-22,
                toe_l=42, shoulder=20, elbow=(75, 25),
            ),
        ),
        _K(0.3, pose(
            hip_r=(80, 3), knee_r=94, ankle_r=9, hip_l=(-10, 3), knee_l=82, ankle_l=-22,
            toe_l=45, shoulder=20, elbow=(80, 25),
        )),
        _K(1.0, REST),
    ),
    "side_bend": (
        _K(0, REST),
        _K(0.7, pose(chest=(0, 32), neck=(0, 12), shoulder_l=150, root=(0, 4))),
        _K(0.6, REST),
        _K(0.7, pose(chest=(0, -32), neck=(0, -12), shoulder_r=150, root=(0, -4))),
        _K(0.6, REST),
    ),
    "bow": (
        _K(0, REST),
        _K(0.9, pose(root=35, hip=35, chest=35, neck=10, shoulder=(8, 60))),
        _K(0.3, pose(root=38, hip=38, chest=36, neck=12, shoulder=(8, 62))),
        _K(1.0, REST),
    ),
    "throw": (
        _K(0, REST),
        _K(
            0.7,
            pose(
                shoulder_r=(90, -10, 75), elbow_r=100, chest=(-5, 0, -30), hip_l=20, knee_l=20,
                shoulder_l=(20, 50), root=(0, 0, -10),
            ),
        ),
        _K(
            0.4,
            pose(
                shoulder_r=(50, 95, 30), elbow_r=(20, 40), chest=(15, 0, 35), hip_l=35, knee_l=35,
                hip_r=-10, knee_r=15, shoulder_l=(20, -20), root=(0, 0, 10),
            ),
        ),
        _K(0.4, pose(shoulder_r=(0, 40), elbow_r=(30, 30), chest=(20, 0, 30))),
        _K(0.7, REST),
    ),
    "point": (
        _K(0, REST),
        _K(0.7, pose(shoulder_r=(5, 88), elbow_r=(4, 40), neck=(0, 0, -5))),
        _K(0.7, pose(shoulder_r=(50, 75), elbow_r=(4, 40), neck=(0, 0, -35), chest=(0, 0, -12))),
        _K(0.7, REST),
    ),
    "clap": (
        _K(0, REST),
        _K(0.4, pose(shoulder=(20, 45, -25), elbow=80)),
        *repeat(
            3,
            _K(0.22, pose(shoulder=(-4, 50, -35), elbow=75)),
            _K(0.22, pose(shoulder=(22, 45, -20), elbow=80)),
        ),
        _K(0.5, REST),
    ),
    "scratch_head": (
        _K(0, REST),
        _K(0.7, pose(shoulder_r=(80, 70, 40), elbow_r=135, neck=(5, -8))),
        *repeat(
            2,
            _K(0.2, pose(shoulder_r=(86, 72, 45), elbow_r=125, neck=(5, -8))),
            _K(0.2, pose(shoulder_r=(80, 70, 40), elbow_r=138, neck=(5, -8))),
        ),
        _K(0.8, REST),
    ),
    "phone_talk": (
        _K(0, REST),
        _K(0.8, pose(shoulder_r=(35, 40, 10), elbow_r=140, neck=(0, 10, -5))),
        _K(0.8, pose(
            shoulder_r=(40, 42, 12), elbow_r=138, neck=(0, 12, -20), chest=(0, 0, -8)
        )),
        _K(0.8, REST),
    ),
    "take_picture": (
        _K(0, REST),
        _K(0.8, pose(shoulder=(14, 55, 5), elbow=(100, 35), neck=-4)),
        _K(0.7, pose(shoulder=(16, 60, 5), elbow=(98, 35), neck=-4, chest=(0, 0, 15))),
        _K(0.8, REST),
    ),
    "cross_arms": (
        _K(0, REST),
        _K(0.8, pose(shoulder=(8, 38, -65), elbow=(100, 30))),
        _K(0.7, pose(shoulder=(10, 38, -65), elbow=(102, 30), chest=(-4, 0, 4))),
        _K(0.8, REST),
    ),
    "stretch": (
        _K(0, REST),
        _K(0.9, pose(shoulder=(160, 10), elbow=25, chest=-12, neck=-10, ankle=-18, toe=18)),
        _K(0.3, pose(shoulder=(165, 12), elbow=15, chest=-14, neck=-12, ankle=-20, toe=20)),
        _K(0.9, REST),
    ),
    "walk_inplace": (*repeat(2, *_WALK), _WALK[0]),
    "jump": (
        _K(0, REST),
        _K(0.50, pose(
            hip=72, knee=88, ankle=24, root=14, chest=16, neck=-12, shoulder=(10, -8), elbow=10
        )),
        _K(0.24, pose(
            hip=4, knee=8, ankle=-26, toe=30, chest=-4, shoulder=(22, 125), elbow=18
        )),
        _K(0.22, pose(
            hip=8, knee=12, ankle=-30, toe=4, chest=-4, shoulder=(22, 145), elbow=14, lift=0.26
        )),
        _K(0.22, pose(hip=18, knee=24, ankle=-8, toe=8, shoulder=(18, 90), elbow=20)),
        _K(0.22, pose(hip=58, knee=68, ankle=20, root=8, chest=14, shoulder=(14, 40), elbow=25)),
        _K(0.60, REST),
    ),
    "check_watch": (
        _K(0, REST),
        _K(0.7, pose(shoulder_l=(18, 42, -52), elbow_l=(98, 55), wrist_l=8, neck=(24, 0, 12))),
        _K(0.8, pose(shoulder_l=(20, 46, -54), elbow_l=(102, 60), wrist_l=6, neck=(26, 2, 14))),
        _K(0.8, REST),
    ),
    **GAITS,
}  # fmt: skip
"""Name -> key poses. The first key's seconds only count when a movement starts out of a cycle."""

BML_MOVI_MOVEMENTS = (
    "walk", "run", "run_inplace", "side_gallop", "crawl", "jump", "jumping_jack", "kick", "throw",
    "wave", "clap", "sit_down", "cross_legs", "cross_arms", "stretch", "phone_talk",
    "take_picture", "scratch_head", "point", "check_watch",
)  # fmt: skip
"""The twenty everyday movements that the people of BML-MoVi perform, under this project's names."""

SEATED = frozenset({"sit_down", "cross_legs"})
"""Movements that end on a chair, or begin on one."""

DEFAULT_MOVEMENTS = (
    "squat", "arm_raise", "kick", "march", "lunge", "side_bend", "throw", "walk_inplace",
)  # fmt: skip
"""Eight movements that together move legs, arms and trunk through wide ranges."""
