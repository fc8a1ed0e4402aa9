"""Writing a setup file of OpenSim's ScaleTool."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from d3ke.kinematics.scale_setup import MarkerPlacerSetup, ModelScalerSetup, ScaleSetup

_DOCUMENT_VERSION = "40000"
# The tool puts its setup file's folder in front of every name, absolute ones too: names only.
SCALED_MODEL, PLACED_MODEL, SCALES = "scaled.osim", "placed.osim", "scales.xml"
"""What the tool writes beside the setup file."""


def write_scale_setup(path: str | Path, setup: ScaleSetup) -> None:
    """Writes a setup that makes the ScaleTool do what `setup` says.

    Its files must lie in the folder of `path`: only their names are written. The tool's output
    goes there too, under the names of this module.
    """
    document = Element("OpenSimDocument", Version=_DOCUMENT_VERSION)
    tool = SubElement(document, "ScaleTool", name=setup.name)
    _texts(tool, mass=setup.mass_kg, height=setup.height_mm, age=setup.age_years)
    maker = SubElement(tool, "GenericModelMaker")
    _texts(maker, model_file=_name(setup.model_file))
    _texts(maker, marker_set_file=_name(setup.marker_set_file))
    _scaler(SubElement(tool, "ModelScaler"), setup.scaler)
    _placer(SubElement(tool, "MarkerPlacer"), setup.placer)
    ElementTree.indent(document)
    ElementTree.ElementTree(document).write(path, encoding="UTF-8", xml_declaration=True)


def _scaler(element: Element, scaler: ModelScalerSetup) -> None:
    _texts(element, apply=scaler.apply, scaling_order=" ".join(scaler.order))
    measurements = SubElement(SubElement(element, "MeasurementSet"), "objects")
    for measurement in scaler.measurements:
        entry = SubElement(measurements, "Measurement", name=measurement.name)
        _texts(entry, apply=True)
        pairs = SubElement(SubElement(entry, "MarkerPairSet"), "objects")
        for markers in measurement.marker_pairs:
            _texts(SubElement(pairs, "MarkerPair"), markers=" ".join(markers))
        bodies = SubElement(SubElement(entry, "BodyScaleSet"), "objects")
        for body, axes in measurement.body_axes:
            _texts(SubElement(bodies, "BodyScale", name=body), axes=" ".join(axes.upper()))
    scales = SubElement(SubElement(element, "ScaleSet"), "objects")
    for manual in scaler.manual_scales:
        entry = SubElement(scales, "Scale")
        _texts(entry, scales=manual.factors, segment=manual.body, apply=True)
    _texts(element, marker_file=_name(scaler.marker_file), time_range=scaler.time_range)
    _texts(element, preserve_mass_distribution=scaler.preserve_mass_distribution)
    _texts(element, output_model_file=SCALED_MODEL, output_scale_file=SCALES)


def _placer(element: Element, placer: MarkerPlacerSetup) -> None:
    _texts(element, apply=placer.apply)
    tasks = SubElement(SubElement(element, "IKTaskSet"), "objects")
    for name, weight in placer.marker_weights.items():
        _texts(SubElement(tasks, "IKMarkerTask", name=name), apply=True, weight=weight)
    for task in placer.coordinate_tasks:
        entry = SubElement(tasks, "IKCoordinateTask", name=task.name)
        _texts(entry, apply=True, weight=task.weight)
        _texts(entry, value_type=task.value_type, value=task.value)
    _texts(element, marker_file=_name(placer.marker_file))
    _texts(element, coordinate_file=_name(placer.coordinate_file), time_range=placer.time_range)
    _texts(element, max_marker_movement=placer.max_marker_movement)
    _texts(element, output_model_file=PLACED_MODEL)


def _texts(parent: Element, **values: bool | float | str | tuple[float, ...] | None) -> None:
    """Elements with a value each; None is left out."""
    for tag, value in values.items():
        if value is not None:
            SubElement(parent, tag).text = _text(value)


def _text(value: bool | float | str | tuple[float, ...]) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return " ".join(repr(float(number)) for number in value)
    return value if isinstance(value, str) else repr(float(value))


def _name(file: Path | None) -> str:
    return "Unassigned" if file is None else file.name
