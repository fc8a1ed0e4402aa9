"""The built-in model as sparse keypoints can drive it.

Twenty joint and face points tell the limbs, the trunk as a whole and the head, but not which level
of the spine bends, how the shoulder girdle sits or how a forearm is turned. So the spine's levels
share the trunk's side bend and turn, the girdle follows the raised arm, and what is left is held at
its default. The pelvis takes the tilt of the trunk, because hip points lie on the axis it tilts
about: with the spine's flexion free its tilt is off by 10 degrees on average instead of 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d3ke.kinematics import MarkerSet, ScalingSettings
    from d3ke.skeleton import MeasurementSet, PredictedSet

Pairs = tuple[tuple[str, str], ...]

_LEVELS = ("L4_L5", "T12_L1", "T11_T12", "T10_T11", "T9_T10", "T8_T9")
SHARED_BENDS: Mapping[str, str] = {
    f"{level}_{way}": f"L5_S1_{way}" for level in _LEVELS for way in ("LB", "AR")
}
"""Coordinate of the spine -> the one it equals: side bend and turn are spread over seven levels."""

_BOTH = ("", "_l")
GIRDLE: Mapping[str, tuple[float, float]] = {
    "sternoclavicular_r2": (-0.029, -0.279),
    "sternoclavicular_r3": (0.079, 0.012),
    "acromioclavicular_r2": (-0.643, 1.092),
}
"""Coordinate of the shoulder girdle -> slope and constant [rad] of its line over arm elevation, as
people move it who are labelled by markers on scapula and clavicle (fitted by
`landmark_registration`; they stay within 3.5 degrees of it). The model holds couplers for these,
which it does not enforce; with their own lines shoulders hang 40 mm further forward."""

LOCKED = (
    *(f"{level}_FE" for level in ("L5_S1", *_LEVELS)),
    *(f"T1_T2_{way}" for way in ("FE", "LB", "AR")),
    *("ribs_bending", "skull_x", "skull_y", "skull_z"),
    *(f"{name}_{side}" for name in ("knee_angle_x", "knee_angle_y") for side in "rl"),
    *(f"{name}_{side}" for name in ("subtalar_angle", "mtp_angle") for side in "rl"),
    *(name + side for name in ("elbow_x", "elbow_y", "pro_sup") for side in _BOTH),
    *(name + side for name in ("deviation", "flexion") for side in _BOTH),
)
"""Coordinates that keypoints leave open, held at their defaults."""

_ARM_RAISED = 0.15
"""rad of shoulder elevation in the default pose: arms hang, as people stand. The published default
is a T-pose, in which the girdle lifts the shoulders by 40 mm and the trunk measures longer."""

_SIDES = (("right", "_r", ""), ("left", "_l", "_l"))
_TRUNK_BODIES = (
    *(f"lumbar{level}" for level in range(5, 0, -1)),
    *(f"thoracic{level}" for level in range(12, 0, -1)),
)
_NECK_BODIES = ("head_neck", *(f"cerv{level}" for level in range(6, 0, -1)))
_GIRDLE_BODIES = ("clavicle", "clavphant", "scapula", "scapphant", "humphant", "humphant1")


def scaling_settings() -> ScalingSettings:
    """The locks, while and after scaling; no coupler is released."""
    from d3ke.kinematics import ScalingSettings

    return ScalingSettings(
        locked_while_scaling=LOCKED, locked_after_scaling=LOCKED, released_couplers=()
    )


def measurements() -> MeasurementSet:
    """Sizes of all bodies from distances between landmarks."""
    from d3ke.skeleton import MeasurementSet

    entries: dict[str, tuple[Pairs, list[tuple[str, str]]]] = {
        # All between hips and shoulders grows alike, so that the trunk has its length.
        "trunk_length": (
            (("mid_hip", "mid_shoulder"),),
            [
                ("pelvis", "xy"),
                *((body, "xyz") for body in _TRUNK_BODIES),
                ("thorax", "xy"),
                *((body + side, "xy") for body in _GIRDLE_BODIES for side in _BOTH),
            ],
        ),
        "pelvis_width": ((("right_hip", "left_hip"),), [("pelvis", "z")]),
        "neck_length": ((("mid_shoulder", "mid_ear"),), [(b, "xyz") for b in _NECK_BODIES]),
        "shoulder_width": (
            (("right_shoulder", "left_shoulder"),),
            [("thorax", "z"), *((b + side, "z") for b in _GIRDLE_BODIES for side in _BOTH)],
        ),
        "head_depth": ((("nose", "mid_ear"),), [("skull", "xy"), ("jaw", "xy")]),
        "head_width": ((("right_ear", "left_ear"),), [("skull", "z"), ("jaw", "z")]),
    }
    for side, leg, arm in _SIDES:
        for first, second, bodies in (
            ("hip", "knee", (f"femur{leg}",)),
            ("knee", "ankle", (f"tibia{leg}", f"talus{leg}")),
            ("heel", "foot_index", (f"calcn{leg}", f"toes{leg}")),
            ("shoulder", "elbow", (f"humerus{arm}",)),
            ("elbow", "wrist", (f"ulna{arm}", f"radius{arm}", f"lunate{arm}")),
        ):
            pairs = ((f"{side}_{first}", f"{side}_{second}"),)
            entries[f"{side}_{first}_{second}"] = (pairs, [(body, "xyz") for body in bodies])
    return MeasurementSet(
        marker_pairs={name: pairs for name, (pairs, _) in entries.items()},
        body_axes={name: tuple(uses) for name, (_, uses) in entries.items()},
    )


def predicted_set(marker_set: MarkerSet) -> PredictedSet:
    """The paper's coordinates that these landmarks determine, judged by the landmarks."""
    from d3ke.skeleton import PredictedSet
    from d3ke_platform.sources.landmarks import other_side

    paper = PredictedSet.full_body()
    coupled = (name + side for name in (*GIRDLE, "shoulder1_r2") for side in _BOTH)
    dropped = {*LOCKED, *SHARED_BENDS, *coupled}
    kept = {
        name: weight
        for name, weight in zip(paper.coordinates, paper.angle_loss_weights, strict=True)
        if name not in dropped
    }
    measured = [name for name in marker_set.names if name not in marker_set.midpoints]
    face = ("nose", "eye", "ear")
    return replace(
        paper,
        coordinates=tuple(kept),
        angle_loss_weights=tuple(kept.values()),
        marker_loss_weights=dict.fromkeys(measured, 1.0),
        bony_landmarks=tuple(name for name in measured if name.split("_")[-1] not in face),
        groups={
            group: tuple(name for name in names if name in kept)
            for group, names in paper.groups.items()
        },
        mirror_markers={name: other_side(name) for name in marker_set.names},
    )


def write_keypoint_model(path: Path, marker_set: MarkerSet) -> None:
    """Writes the built-in model with these couplers, locks, default pose and markers."""
    from d3ke.kinematics.opensim_library import load_model
    from d3ke.skeleton import full_body_model_path

    model = load_model(full_body_model_path())
    coordinates = model.updCoordinateSet()
    lines = _couple_girdle(model)
    for dependent, independent in SHARED_BENDS.items():
        _couple(model, dependent, independent)
    for side in _BOTH:
        coordinates.get(f"shoulder_elv{side}").setDefaultValue(_ARM_RAISED)
    for dependent, (independent, slope, constant) in lines.items():
        value = slope * coordinates.get(independent).getDefaultValue() + constant
        coordinates.get(dependent).setDefaultValue(value)
    for name in LOCKED:
        coordinates.get(name).setDefaultLocked(True)
    marker_set.put_on(model)
    model.printToXML(str(path))


def _couple_girdle(model: Any) -> dict[str, tuple[str, float, float]]:
    """Enforces the girdle's lines; dependent -> (driver, slope, constant) of every coupler."""
    from d3ke.kinematics.opensim_library import load_opensim

    opensim = load_opensim()
    lines = {}
    for constraint in model.updConstraintSet():
        coupler = opensim.CoordinateCouplerConstraint.safeDownCast(constraint)
        if coupler is None:
            continue
        dependent = coupler.getDependentCoordinateName()
        own = GIRDLE.get(dependent.removesuffix("_l"))
        if own is not None:
            coupler.setFunction(opensim.LinearFunction(*own))
            coupler.set_isEnforced(True)
        line = opensim.LinearFunction.safeDownCast(coupler.getFunction())
        driver = coupler.getIndependentCoordinateNames().get(0)
        lines[dependent] = (driver, float(line.getSlope()), float(line.getIntercept()))
    return lines


def _couple(model: Any, dependent: str, independent: str) -> None:
    from d3ke.kinematics.opensim_library import load_opensim

    opensim = load_opensim()
    coupler = opensim.CoordinateCouplerConstraint()
    coupler.setName(f"{dependent}_con")
    names = opensim.ArrayStr()
    names.append(independent)
    coupler.setIndependentCoordinateNames(names)
    coupler.setDependentCoordinateName(dependent)
    coupler.setFunction(opensim.LinearFunction(1.0, 0.0))
    model.addConstraint(coupler)
