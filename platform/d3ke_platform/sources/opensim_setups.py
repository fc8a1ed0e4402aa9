"""Copies of OpenSim setups that work inside a data set, with its names of files and markers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from d3ke.errors import InvalidInputError
from d3ke.kinematics.scale_setup import MarkerPlacerSetup, ModelScalerSetup, ScaleSetup
from d3ke.kinematics.scale_setup_file import write_scale_setup
from d3ke.kinematics.setup_xml import content_of, named_file, read_xml
from d3ke_platform import storage


def rename_in_setup(setup: ScaleSetup, names: Mapping[str, str]) -> ScaleSetup:
    """The setup with other names of markers, where the files' names are not the model's."""
    scaler, placer = setup.scaler, setup.placer
    measurements = tuple(
        replace(
            measurement,
            marker_pairs=tuple(
                (names.get(first, first), names.get(second, second))
                for first, second in measurement.marker_pairs
            ),
        )
        for measurement in scaler.measurements
    )
    weights = {names.get(name, name): weight for name, weight in placer.marker_weights.items()}
    return replace(
        setup,
        scaler=replace(scaler, measurements=measurements),
        placer=replace(placer, marker_weights=weights),
    )


def copy_scale_setup(setup: ScaleSetup, folder: Path, *, own_measured: bool) -> Path:
    """Writes `scale_setup.xml` and the files it names into a folder.

    Trials are called static.trc and, if the setup measures in another, measured.trc; the caller
    writes them. Returns the setup's path. Raises InvalidInputError for a file that is absent.
    """

    def copied(file: Path | None, name: str) -> Path | None:
        if file is None:
            return None
        if not file.is_file():
            raise InvalidInputError(str(file), "there is no such file")
        storage.write_atomically(folder / name, lambda part: shutil.copyfile(file, part))
        return folder / name

    scaler: ModelScalerSetup = setup.scaler
    placer: MarkerPlacerSetup = setup.placer
    measured = folder / ("measured.trc" if own_measured else "static.trc")
    local = replace(
        setup,
        model_file=copied(setup.model_file, "generic.osim"),
        marker_set_file=copied(setup.marker_set_file, "markers.xml"),
        scaler=replace(scaler, marker_file=measured),
        placer=replace(
            placer,
            marker_file=folder / "static.trc",
            coordinate_file=copied(placer.coordinate_file, "coordinates.mot"),
        ),
    )
    target = folder / "scale_setup.xml"
    storage.write_atomically(target, lambda part: write_scale_setup(part, local))
    return target


def copy_ik_setup(path: Path, target: Path, names: Mapping[str, str], *, model: str) -> None:
    """Copies an IK setup or task set, with its coordinate file beside it.

    Args:
        path: the setup.
        target: trials/<trial>_ik.xml of the data set; the trial is trials/<trial>.trc.
        names: other names of markers.
        model: the subject's model, relative to the target's folder.

    Raises InvalidInputError: it cannot be read, or its coordinate file is absent.
    """
    root = read_xml(path)
    tool = content_of(root)
    tasks = tool if tool.tag == "IKTaskSet" else tool.find("IKTaskSet")
    if tasks is not None and (elsewhere := tasks.get("file")):
        inlined = content_of(read_xml(path.parent / elsewhere))
        tool.remove(tasks)
        tool.append(inlined)
        tasks = inlined
    for task in () if tasks is None else tasks.iter("IKMarkerTask"):
        task.set("name", names.get(task.get("name", ""), task.get("name", "")))
    if tool.tag != "IKTaskSet":
        trial = target.stem.removesuffix("_ik")
        _set(tool, "model_file", model)
        _set(tool, "marker_file", f"{trial}.trc")
        motion = named_file(path, tool, "coordinate_file")
        if motion is not None and motion.is_file():
            own = target.with_suffix(motion.suffix)
            storage.write_atomically(own, lambda part: shutil.copyfile(motion, part))
            _set(tool, "coordinate_file", own.name)
    storage.write_atomically(
        target,
        lambda part: ElementTree.ElementTree(root).write(
            part, encoding="UTF-8", xml_declaration=True
        ),
    )


def _set(parent: Element, tag: str, text: str) -> None:
    element = parent.find(tag)
    (SubElement(parent, tag) if element is None else element).text = text
