"""Measurements and predicted set of the built-in model, from the published figures.

Used once, by build_full_body.
"""

from __future__ import annotations

import numpy as np

from d3ke.skeleton.full_body_figures import Figures, other_side
from d3ke.skeleton.measurements import MeasurementSet
from d3ke.skeleton.predicted import PredictedSet

_SHOULDER_BODIES = ("clavicle", "clavphant", "scapula", "scapphant", "humphant", "humphant1")

# Marker pairs replaced: between joint centres for the limbs and across the trunk, where the
# published pairs need markers the published model lacks, or surface markers that move with soft
# tissue and leave the shoulders 6 to 8 cm off.
_PAIRS = {
    "pelvisZ": (("LHIPJ", "RHIPJ"),),
    "femurY": (("RHIPJ", "RKJC"),),
    "femurY_l": (("LHIPJ", "LKJC"),),
    "tibiaY": (("RKJC", "RAJC"),),
    "tibiaY_l": (("LKJC", "LAJC"),),
    "ribsZ": (("LSHOULDER", "RSHOULDER"),),
    "calvZ": (("LSHOULDER", "RSHOULDER"),),
    "calv_l_Z": (("LSHOULDER", "RSHOULDER"),),
    "ArmY": (("RSHOULDER", "RELC"),),
    "Arm_l_Y": (("LSHOULDER", "LELC"),),
    "formArmY": (("RELC", "RWRIST"),),
    "formArm_l_Y": (("LELC", "LWRIST"),),
}
# The HEAD marker is no landmark (a joint of a body mesh inside the head): what it measured
# follows the nearest reliable measurement instead.
_FOLLOWS = {"NeckY": "Torso_Y_T8T1", "SkullY": "SkullX"}
# footY lists the toes' y, which toesYZ overrides.
_OVERRIDDEN = {("footY", "toes_r"), ("footY_l", "toes_l")}

_TRUNK = ("L5_S1", "L4_L5", "T12_L1", "T11_T12", "T10_T11", "T9_T10", "T8_T9", "T1_T2", "T1_head")
_TRUNK_PREFIXES = (*_TRUNK, "skull", "ribs")
_LEG_PREFIXES = ("hip", "knee", "ankle", "subtalar", "mtp")
_MAIN_RIGHT = (
    "hip_flexion_r",
    "hip_adduction_r",
    "hip_rotation_r",
    "knee_angle_r",
    "ankle_angle_r",
    "elv_angle",
    "shoulder_elv",
    "shoulder_rot",
    "elbow_flexion",
)


def measurement_set(figures: Figures) -> MeasurementSet:
    """The published measurements of the model's bodies, mended.

    Measurements between the same markers always have the same factor; they are one measurement
    here, so that a network never predicts one number twice.
    """
    pairs: dict[str, tuple[tuple[str, str], ...]] = {}
    uses: dict[str, list[tuple[str, str]]] = {}
    by_pairs: dict[frozenset[frozenset[str]], str] = {}
    for entry in figures.measurements["measurements"]:
        name = str(entry["name"])
        if not entry["touches_predicted_bodies"]:
            continue
        axes = [
            (str(use["body"]), "".join(use["axes"]))
            for use in entry["body_axes"]
            if (name, use["body"]) not in _OVERRIDDEN and use["body"] in figures.bodies
        ]
        if name in _FOLLOWS:
            uses.setdefault(_FOLLOWS[name], []).extend(axes)
            continue
        own = _PAIRS.get(name, tuple((str(a), str(b)) for a, b in entry["marker_pairs"]))
        target = by_pairs.setdefault(frozenset(map(frozenset, own)), name)
        pairs.setdefault(target, own)
        uses.setdefault(target, []).extend(axes)
    return MeasurementSet(
        marker_pairs=pairs, body_axes={name: _merged(uses[name]) for name in pairs}
    )


def _merged(uses: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """One entry per body, its axes joined in xyz order."""
    axes: dict[str, set[str]] = {}
    for body, letters in uses:
        axes.setdefault(body, set()).update(letters)
    return tuple((body, "".join(sorted(letters))) for body, letters in axes.items())


def predicted_set(figures: Figures) -> PredictedSet:
    """The 69 coordinates, 65 markers and 30 bony landmarks of the paper."""
    facts = figures.predicted
    names = tuple(str(entry["name"]) for entry in facts["coordinates"])
    weights = _angle_loss_weights(figures, names)
    right = [*_MAIN_RIGHT]
    main = [*right, *(other_side(name, figures.coordinates) for name in right)]
    trunk = tuple(name for name in names if name.startswith(_TRUNK_PREFIXES))
    legs = tuple(name for name in names if name.startswith(_LEG_PREFIXES))
    arms = tuple(name for name in names if name not in trunk and name not in legs)
    longest = {}
    for body in figures.bodies:
        extents = figures.bone_extents(body)
        if extents.any():
            axis = int(np.argmax(extents))
            longest[body] = ("xyz"[axis], float(extents[axis]))
    return PredictedSet(
        coordinates=names,
        angle_loss_weights=weights,
        marker_loss_weights={m["name"]: float(m["loss_weight"]) for m in facts["markers"]},
        bony_landmarks=tuple(facts["bony_landmarks"]),
        groups={"main": tuple(main), "legs": legs, "arms": arms, "trunk": trunk},
        mirror_coordinates={
            name: (other_side(name, figures.coordinates), figures.mirror_sign(name))
            for name in figures.coordinates
        },
        mirror_markers={name: other_side(name, figures.markers) for name in figures.markers},
        body_longest_axis=longest,
    )


def _angle_loss_weights(figures: Figures, names: tuple[str, ...]) -> tuple[float, ...]:
    """The published weights; the mean of two sides that differ."""
    published = {e["name"]: float(e["angle_loss_weight"]) for e in figures.predicted["coordinates"]}
    return tuple(max(published[name], published[other_side(name, published)]) for name in names)
