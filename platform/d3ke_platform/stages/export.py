"""Results as files of the field: .mot, scaled .osim, .trc and an overlay video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.arrays import FloatArray
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerTrajectories, write_mot, write_trc
from d3ke_platform import storage

EXPORTS = {
    "mot": "motion.mot",
    "osim": "model.osim",
    "trc": "markers.trc",
    "overlay": "overlay.mp4",
    "page": "page.html",
}
"""File name of every kind of export."""
SHARED_EXPORTS = ("overlay", "page")
"""Exports that show everybody; the others are made per person."""


def check_exports(names: tuple[str, ...]) -> None:
    """Raises UnknownNameError for a kind of export that there is not."""
    for name in names:
        if name not in EXPORTS:
            raise UnknownNameError("export", name, EXPORTS)


def missing_exports(folder: str, kinds: tuple[str, ...], *, person: int = 0) -> list[str]:
    """Kinds of which a recording's folder does not hold the file of its first person yet."""
    return [
        kind for kind in kinds if not storage.exists(storage.join(folder, file_name(kind, person)))
    ]


def file_name(kind: str, person: int = 0) -> str:
    """Name of an export's file; those of other people than the first carry their number."""
    name = EXPORTS[kind]
    if person == 0 or kind in SHARED_EXPORTS:
        return name
    stem, _, suffix = name.partition(".")
    return f"{stem}_person{person}.{suffix}"


class ExportRecording:
    """Writes the exports of one recording and person that need no video."""

    def __init__(self, bundle: Any, kinds: tuple[str, ...]) -> None:
        """`bundle` names the coordinates and markers; "osim" needs its model.osim.

        Raises:
            UnknownNameError, InvalidInputError: an unknown kind, or no model in the bundle.
        """
        check_exports(kinds)
        if "osim" in kinds and bundle.model_osim is None:
            raise InvalidInputError(
                f"model bundle {bundle.folder}",
                "holds no model.osim",
                "Leave osim out of --export.",
            )
        self._bundle, self._kinds = bundle, kinds

    def write(
        self, folder: Path, results: Mapping[str, np.ndarray], *, fps: float, person: int = 0
    ) -> list[str]:
        """Write the files.

        Args:
            folder: Where to; made if need be.
            results: Columns of RESULTS, T rows of one person.
            fps: Nominal frame rate for the .trc header, 1/s.
            person: Number of the person; see `file_name`.

        Returns:
            names of the files written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        skeleton = self._bundle.skeleton
        written = []
        if "mot" in self._kinds:
            write_mot(
                folder / file_name("mot", person),
                skeleton.coordinates,
                results["coordinates"],
                results["time_s"],
                skeleton.coordinate_rotational,
            )
            written.append(file_name("mot", person))
        if "trc" in self._kinds:
            markers = MarkerTrajectories(
                names=tuple(skeleton.markers),
                positions=results["markers"],
                times=results["time_s"],
                rate_hz=fps,
            )
            write_trc(folder / file_name("trc", person), markers)
            written.append(file_name("trc", person))
        if "osim" in self._kinds:
            write_scaled_model(
                self._bundle.model_osim,
                folder / file_name("osim", person),
                bodies=tuple(skeleton.bodies),
                scales=results["body_scales"][0],
            )
            written.append(file_name("osim", person))
        return written


def write_scaled_model(
    model: Path, target: Path, *, bodies: tuple[str, ...], scales: FloatArray
) -> None:
    """Scale an OpenSim model by constant factors per body, with OpenSim's own scaling.

    Joint frames, their translation functions, markers and meshes follow their bodies; masses
    keep the distribution that OpenSim gives them by the factors, the total is the model's own.

    Args:
        model: The .osim file.
        target: The file to write, atomically.
        bodies: N body names.
        scales: [N,3] factors along the body's axes; 1 = unchanged.

    Raises:
        InvalidInputError: OpenSim cannot load or scale the model.
    """
    from d3ke.kinematics.opensim_library import load_model, load_opensim

    opensim = load_opensim()
    scaled = load_model(model)
    try:
        state = scaled.initSystem()
        scaled.scale(state, _scale_set(opensim, bodies, scales), False, -1.0)
        scaled.setName(f"{scaled.getName()}_scaled")
        scaled.initSystem()
        storage.write_atomically(target, lambda part: scaled.printToXML(str(part)))
    except RuntimeError as error:
        raise InvalidInputError(str(model), f"OpenSim cannot scale it ({error})") from error


def _scale_set(opensim: Any, bodies: tuple[str, ...], scales: FloatArray) -> Any:
    scale_set = opensim.ScaleSet()
    for name, factors in zip(bodies, scales, strict=True):
        scale = opensim.Scale()
        scale.setSegmentName(name)
        scale.setScaleFactors(opensim.Vec3(*(float(factor) for factor in factors)))
        scale.setApply(True)
        scale_set.cloneAndAppend(scale)
    return scale_set
