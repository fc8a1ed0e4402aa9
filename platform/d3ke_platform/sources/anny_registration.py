"""Makes the marker set "anny": the reference's markers, registered to the Anny mesh.

Run `python -m d3ke_platform.sources.anny_registration OUTPUT.json` after a change of the built-in
model, of the landmarks on the mesh or of how the body moves; the result ships as
d3ke/kinematics/marker_sets/anny.json.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from d3ke.kinematics import MarkerSet
from d3ke.kinematics.registration import register_markers
from d3ke_platform.sources.anny_body import AnnyBody
from d3ke_platform.sources.anny_markers import static_markers
from d3ke_platform.sources.anny_phenotype import Phenotype

if TYPE_CHECKING:
    from d3ke.skeleton import MeasurementSet

JOINT_CENTERS: Mapping[str, str] = {
    f"{side}{marker}": joint + suffix
    for marker, joint, sides in (
        ("HIPJ", "hip", ("_r", "_l")),
        ("KJC", "knee", ("_r", "_l")),
        ("AJC", "ankle", ("_r", "_l")),
        ("SHOULDER", "shoulder2", ("", "_l")),
        ("ELC", "elbow", ("", "_l")),
        ("WRIST", "radiocarpal", ("", "_l")),
    )
    for side, suffix in zip("RL", sides, strict=True)
}
"""Markers on joints the mesh and the model share, and the model's joint."""

_SHOULDERS = (("RSHOULDER", "LSHOULDER"),)
_SPINE = (("MPSI", "C7"),)
_DEPTH = (("MPSI", "MASI"),)
_HEAD = tuple(("C7", name) for name in ("RFHD", "LFHD", "RBHD", "LBHD"))
JOINT_MEASUREMENTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "pelvisZ": (("RHIPJ", "LHIPJ"),),
    "femurY": (("RHIPJ", "RKJC"),),
    "femurY_l": (("LHIPJ", "LKJC"),),
    "tibiaY": (("RKJC", "RAJC"),),
    "tibiaY_l": (("LKJC", "LAJC"),),
    "ArmY": (("RSHOULDER", "RELC"),),
    "Arm_l_Y": (("LSHOULDER", "LELC"),),
    "formArmY": (("RELC", "RWRIST"),),
    "formArm_l_Y": (("LELC", "LWRIST"),),
    "ribsZ": _SHOULDERS,
    "calvZ": _SHOULDERS,
    "calv_l_Z": _SHOULDERS,
    "calvX": _SHOULDERS,
    "calv_l_X": _SHOULDERS,
    "calvY": _SHOULDERS,
    "Torso_Y_L5L1": _SPINE,
    "Torso_Y_T12T11": _SPINE,
    "Torso_Y_T10T9": _SPINE,
    "Torso_Y_T8T1": _SPINE,
    "ribsY": _SPINE,
    "scapulaY": _SPINE,
    "NeckY": _HEAD,
    "SkullY": _HEAD,
    "cerveX": _DEPTH,
    "ribsX": _DEPTH,
    "scapulaX": _DEPTH,
    "scapula_l_X": _DEPTH,
    "toesX": (("Virtual_Ground_RHEE", "Virtual_Ground_RFOOT"),),
    "toesX_l": (("Virtual_Ground_LHEE", "Virtual_Ground_LFOOT"),),
    "toesYZ": (("Virtual_Ground_RHEE", "Virtual_Ground_RFOOT"),),
    "toesYZ_l": (("Virtual_Ground_LHEE", "Virtual_Ground_LFOOT"),),
}
"""Measurement -> pairs between joint centres, or over a whole region where single surface markers
of the two meshes do not correspond. They size the model while the markers are still wrong; the
registered surface markers then give the same sizes."""

FIT_WEIGHTS: Mapping[str, float] = {
    **{side + name: 10.0 for name in ("HIPJ", "SHOULDER") for side in "RL"},
    **{side + name: 3.0 for name in ("KJC", "AJC", "ELC") for side in "RL"},
}
"""Rigid fit by the joints the body turns about: an offset there grows with every movement."""

_UNRELATED = ("ROOT", "Spine1", "Spine2", "Spine3", "NECK", "HEAD", "LCOL", "RCOL")
"""Anny's spine and collar bones start 80 to 140 mm from SMPL's joints of these names."""


def anny_measurements(measurements: MeasurementSet) -> MeasurementSet:
    """The same measurements, taken between markers that serve Anny bodies (JOINT_MEASUREMENTS)."""
    pairs = {
        name: JOINT_MEASUREMENTS.get(name, own) for name, own in measurements.marker_pairs.items()
    }
    return replace(measurements, marker_pairs=pairs)


def registration_phenotypes() -> list[Phenotype]:
    """Six fixed adults: both sexes, short, average and tall, lean and heavy."""
    return [
        Phenotype(gender=0.0, height=0.25, weight=0.4, muscle=0.6),
        Phenotype(gender=0.1, height=0.4, weight=0.6, muscle=0.5),
        Phenotype(gender=0.0, height=0.5, weight=0.45, muscle=0.7),
        Phenotype(gender=1.0, height=0.35, weight=0.5, muscle=0.4),
        Phenotype(gender=0.9, height=0.45, weight=0.4, muscle=0.5),
        Phenotype(gender=1.0, height=0.55, weight=0.6, muscle=0.4),
    ]


def register_anny(
    body: AnnyBody, model_path: str | Path, measurements: MeasurementSet, start: MarkerSet
) -> MarkerSet:
    """The marker set for Anny bodies on a model with the built-in model's bodies and joints."""
    registered = register_markers(
        model_path=model_path,
        marker_set=start,
        measurements=anny_measurements(measurements),
        statics=[static_markers(body, phenotype) for phenotype in registration_phenotypes()],
        joint_centers=JOINT_CENTERS,
        fit_weights=FIT_WEIGHTS,
    )
    return replace(registered, **_weights(registered))


def _weights(markers: MarkerSet) -> dict[str, np.ndarray]:
    weights = markers.ik_weights.copy()
    for name in _UNRELATED:
        weights[markers.index(name)] = 0.0
    return {"ik_weights": weights}


def main() -> None:
    """Registers on the built-in model and writes the file named on the command line."""
    from d3ke.skeleton import MeasurementSet, full_body_model_path

    start = MarkerSet.builtin("smplh")
    registered = register_anny(
        AnnyBody(), full_body_model_path(), MeasurementSet.full_body(), start
    )
    registered.save(sys.argv[1])


if __name__ == "__main__":
    main()
