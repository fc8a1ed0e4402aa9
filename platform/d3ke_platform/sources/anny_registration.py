"""Makes the marker set "anny": the reference's markers, registered to the Anny mesh.

Run `python -m d3ke_platform.sources.anny_registration OUTPUT.json` after a change of the built-in
model, of the landmarks on the mesh or of how the body moves; the result ships as
d3ke/kinematics/marker_sets/anny.json.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.kinematics import MarkerSet
from d3ke.kinematics.registration import register_markers
from d3ke_platform.sources.anny_body import AnnyBody
from d3ke_platform.sources.anny_markers import static_markers
from d3ke_platform.sources.anny_phenotype import Phenotype

if TYPE_CHECKING:
    from d3ke.skeleton import MeasurementSet, Skeleton

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

_TRUNK = (("RHIPJ", "RSHOULDER"), ("LHIPJ", "LSHOULDER"))
_DEPTH = (("MPSI", "MASI"),)
REGISTRATION_PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = {
    **dict.fromkeys(("Torso_Y_L5L1", "Torso_Y_T12T11", "Torso_Y_T10T9"), _TRUNK),
    **dict.fromkeys(("Torso_Y_T8T1", "ribsY"), _TRUNK),
    **dict.fromkeys(("cerveX", "scapulaX"), _DEPTH),
    **dict.fromkeys(("calvX", "calv_l_X"), (("RSHOULDER", "LSHOULDER"),)),
    **dict.fromkeys(("calcnZ", "toesYZ"), (("Virtual_Ground_RHEE", "Virtual_Ground_RFOOT"),)),
    **dict.fromkeys(("calcnZ_l", "toesYZ_l"), (("Virtual_Ground_LHEE", "Virtual_Ground_LFOOT"),)),
}
"""Measurement -> marker pairs that replace its own while markers are registered: between joint
centres, or within one body. The distance between surface markers of two bodies depends on the
places being sought, and rounds that size the body by it never settle."""

FIT_WEIGHTS: Mapping[str, float] = {
    **{side + name: 10.0 for name in ("HIPJ", "SHOULDER") for side in "RL"},
    **{side + name: 3.0 for name in ("KJC", "AJC", "ELC") for side in "RL"},
}
"""Rigid fit by the joints the body turns about: an offset there grows with every movement."""

LIMBS: Mapping[str, tuple[str, str]] = {
    bone + suffix: (side + "ELC", side + "WRIST")
    for bone in ("ulna", "radius")
    for side, suffix in (("R", ""), ("L", "_l"))
}
"""The model's forearms stand 10 degrees off straight arms. Wrist markers that much beside the axis
of pronation could not follow a forearm's twist."""

_UNRELATED = ("ROOT", "Spine1", "Spine2", "Spine3", "NECK", "HEAD", "LCOL", "RCOL")
"""Anny's spine and collar bones start 80 to 140 mm from SMPL's joints of these names."""
_IK_WEIGHTS: Mapping[str, float] = {
    **dict.fromkeys(_UNRELATED, 0.0),
    **{side + name: 20.0 for name in ("HIPJ", "KJC", "AJC", "SHOULDER", "ELC") for side in "RL"},
    **{side + name: 10.0 for name in ("WRIST", "KNE", "KNI") for side in "RL"},
    **{side + "CLAV": 5.0 for side in "RL"},
}
"""Weights that differ from the reference's. A mesh's joint centres are exact, while its skin slides
over them: the epicondyle's skin moves by half of the knee's angle."""


def anny_measurements(measurements: MeasurementSet) -> MeasurementSet:
    """The same measurements, taken between markers that serve Anny bodies (REGISTRATION_PAIRS)."""
    pairs = {
        name: REGISTRATION_PAIRS.get(name, own) for name, own in measurements.marker_pairs.items()
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
    body: AnnyBody, skeleton: Skeleton, measurements: MeasurementSet, start: MarkerSet
) -> MarkerSet:
    """The marker set for Anny bodies on a skeleton with the built-in one's bodies and joints."""
    registered = register_markers(
        skeleton=skeleton,
        marker_set=start,
        measurements=anny_measurements(measurements),
        statics=[static_markers(body, phenotype) for phenotype in registration_phenotypes()],
        joint_centers=JOINT_CENTERS,
        fit_weights=FIT_WEIGHTS,
        limbs=LIMBS,
    )
    return replace(registered, ik_weights=_weights(registered))


def _weights(markers: MarkerSet) -> FloatArray:
    return np.array(
        [_IK_WEIGHTS.get(n, w) for n, w in zip(markers.names, markers.ik_weights, strict=True)]
    )


def main() -> None:
    """Registers on the built-in model and writes the file named on the command line."""
    from d3ke.skeleton import MeasurementSet, Skeleton

    start = MarkerSet.builtin("smplh")
    registered = register_anny(AnnyBody(), Skeleton.full_body(), MeasurementSet.full_body(), start)
    registered.save(sys.argv[1])


if __name__ == "__main__":
    main()
