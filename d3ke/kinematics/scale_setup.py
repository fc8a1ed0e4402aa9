"""The setup file of OpenSim's ScaleTool, read without OpenSim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics.ik_tasks import applied_tasks, task_weight, value_type
from d3ke.kinematics.setup_xml import (
    content_of,
    flag,
    named_file,
    numbers,
    objects_of,
    pair,
    parsed,
    read_xml,
)
from d3ke.safe_xml import Element

ORDER = ("measurements", "manualScale")
"""Ways of scaling, in OpenSim's spelling."""


@dataclass(frozen=True, kw_only=True)
class ScaleMeasurement:
    """One <Measurement>: distances between markers that scale axes of bodies."""

    name: str
    marker_pairs: tuple[tuple[str, str], ...]
    """Its factor is the mean over the pairs of measured over model distance."""
    body_axes: tuple[tuple[str, str], ...]
    """(body, subset of "xyz")."""


@dataclass(frozen=True, kw_only=True)
class ManualScale:
    """One <Scale>: factors of a body that are stated, not measured."""

    body: str
    factors: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class PlacerCoordinate:
    """A coordinate that the static pose shall keep near a value."""

    name: str
    weight: float
    value_type: str
    """One of `ik_tasks.VALUE_TYPES`."""
    value: float
    """rad or m, of a manual_value."""


@dataclass(frozen=True, kw_only=True)
class ModelScalerSetup:
    """<ModelScaler>. Parts whose `apply` is false are left out."""

    apply: bool = True
    order: tuple[str, ...] = ()
    """Of `ORDER`; what comes later overrides what is before it on the same body axis."""
    measurements: tuple[ScaleMeasurement, ...] = ()
    manual_scales: tuple[ManualScale, ...] = ()
    marker_file: Path | None = None
    """Trial whose marker distances are averaged."""
    time_range: tuple[float, float] | None = None
    """s; None where the file states none."""
    preserve_mass_distribution: bool = False

    @property
    def measures(self) -> bool:
        """Whether distances between markers scale anything."""
        return self.apply and "measurements" in self.order and bool(self.measurements)


@dataclass(frozen=True, kw_only=True)
class MarkerPlacerSetup:
    """<MarkerPlacer>: the static pose, onto which the model's markers are moved."""

    apply: bool = True
    marker_weights: Mapping[str, float] = field(default_factory=dict)
    """Of the tasks that apply."""
    coordinate_tasks: tuple[PlacerCoordinate, ...] = ()
    """Those that apply."""
    marker_file: Path | None = None
    coordinate_file: Path | None = None
    time_range: tuple[float, float] | None = None
    """s; the frames in it are averaged."""
    max_marker_movement: float = -1.0
    """Most that a marker may move in the averaged frames, in the marker file's unit; negative =
    no limit."""


@dataclass(frozen=True, kw_only=True)
class ScaleSetup:
    """What a ScaleTool setup file asks for. Files are the setup's folder joined with their names
    there; they need not exist."""

    name: str = "subject"
    mass_kg: float = -1.0
    """Mass of the person; not positive where the file states none."""
    height_mm: float = -1.0
    age_years: float = -1.0
    model_file: Path | None = None
    """The generic model."""
    marker_set_file: Path | None = None
    """Markers that are put on it, or replace those of the same name."""
    scaler: ModelScalerSetup = field(default_factory=ModelScalerSetup)
    placer: MarkerPlacerSetup = field(default_factory=MarkerPlacerSetup)

    @property
    def static_file(self) -> Path | None:
        """The static trial: what the marker placer reads, else what is measured in."""
        placed = self.placer.marker_file if self.placer.apply else None
        return placed or self.scaler.marker_file


def read_scale_setup(path: str | Path) -> ScaleSetup:
    """Reads a setup file of OpenSim's ScaleTool, of any document version.

    What the file omits has OpenSim's default. Files it names are relative to its folder.

    Raises:
        InvalidInputError: the file, or a set that it names, cannot be read or is malformed.
        UnknownNameError: a scaling order or an axis that OpenSim does not know.
    """
    path = Path(path)
    tool = content_of(read_xml(path))
    if tool.tag != "ScaleTool":
        raise InvalidInputError(str(path), f"holds <{tool.tag}> where <ScaleTool> is expected")
    maker = tool.find("GenericModelMaker")
    return ScaleSetup(
        name=tool.get("name") or "subject",
        mass_kg=parsed(path, tool, "mass", float, -1.0),
        height_mm=parsed(path, tool, "height", float, -1.0),
        age_years=parsed(path, tool, "age", float, -1.0),
        model_file=named_file(path, maker, "model_file"),
        marker_set_file=named_file(path, maker, "marker_set_file"),
        scaler=_scaler(path, tool.find("ModelScaler")),
        placer=_placer(path, tool.find("MarkerPlacer")),
    )


def _scaler(path: Path, element: Element | None) -> ModelScalerSetup:
    if element is None:
        return ModelScalerSetup(apply=False)
    order = tuple((element.findtext("scaling_order") or "").split())
    for name in order:
        if name not in ORDER:
            raise UnknownNameError(f"scaling order of {path}", name, ORDER)
    measures_at, measures = _set(path, element, "MeasurementSet")
    manual_at, manual = _set(path, element, "ScaleSet")
    return ModelScalerSetup(
        apply=parsed(path, element, "apply", flag, True),
        order=order,
        measurements=tuple(
            _measurement(measures_at, e)
            for e in objects_of(measures, "Measurement")
            if parsed(measures_at, e, "apply", flag, True)
        ),
        manual_scales=tuple(
            _manual_scale(manual_at, e)
            for e in objects_of(manual, "Scale")
            if parsed(manual_at, e, "apply", flag, True)
        ),
        marker_file=named_file(path, element, "marker_file"),
        time_range=parsed(path, element, "time_range", pair, None),
        preserve_mass_distribution=parsed(path, element, "preserve_mass_distribution", flag, False),
    )


def _set(path: Path, parent: Element, tag: str) -> tuple[Path, Element | None]:
    """A set, in the setup or in the file that its attribute names, and where it was read."""
    element = parent.find(tag)
    if element is None or not (file := element.get("file")):
        return path, element
    elsewhere = path.parent / file
    found = content_of(read_xml(elsewhere))
    if found.tag != tag:
        raise InvalidInputError(str(elsewhere), f"holds <{found.tag}>, not the <{tag}> of {path}")
    return elsewhere, found


def _measurement(path: Path, element: Element) -> ScaleMeasurement:
    name = element.get("name") or "unnamed"
    pairs = []
    for entry in objects_of(element.find("MarkerPairSet"), "MarkerPair"):
        markers = (entry.findtext("markers") or "").split()
        if len(markers) != 2:
            reason = f"a marker pair of measurement {name!r} names {markers}, not two markers"
            raise InvalidInputError(str(path), reason)
        pairs.append((markers[0], markers[1]))
    uses = tuple(
        (entry.get("name") or "", _axes(path, name, entry))
        for entry in objects_of(element.find("BodyScaleSet"), "BodyScale")
    )
    return ScaleMeasurement(name=name, marker_pairs=tuple(pairs), body_axes=uses)


def _axes(path: Path, measurement: str, element: Element) -> str:
    letters = "".join((element.findtext("axes") or "").split()).lower()
    for letter in letters:
        if letter not in "xyz":
            raise UnknownNameError(f"axis of measurement {measurement!r} in {path}", letter, "XYZ")
    if not letters:
        body = element.get("name")
        reason = f"measurement {measurement!r} scales no axis of body {body!r}"
        raise InvalidInputError(str(path), reason)
    return "".join(sorted(set(letters)))


def _manual_scale(path: Path, element: Element) -> ManualScale:
    body = (element.findtext("segment") or "").strip()
    unscaled: tuple[float, ...] = (1.0, 1.0, 1.0)
    x, y, z = parsed(path, element, "scales", numbers(3), unscaled)
    if not min(x, y, z) > 0.0:
        raise InvalidInputError(str(path), f"the manual scale of {body!r} is {x} {y} {z}")
    return ManualScale(body=body, factors=(x, y, z))


def _placer(path: Path, element: Element | None) -> MarkerPlacerSetup:
    if element is None:
        return MarkerPlacerSetup(apply=False)
    at, tasks = _set(path, element, "IKTaskSet")
    markers, coordinates = {}, []
    if tasks is not None:
        for entry in applied_tasks(at, tasks, "IKMarkerTask"):
            markers[str(entry.get("name"))] = task_weight(at, entry)
        for entry in applied_tasks(at, tasks, "IKCoordinateTask"):
            coordinates.append(
                PlacerCoordinate(
                    name=str(entry.get("name")),
                    weight=task_weight(at, entry),
                    value_type=value_type(at, entry),
                    value=parsed(at, entry, "value", float, 0.0),
                )
            )
    return MarkerPlacerSetup(
        apply=parsed(path, element, "apply", flag, True),
        marker_weights=markers,
        coordinate_tasks=tuple(coordinates),
        marker_file=named_file(path, element, "marker_file"),
        coordinate_file=named_file(path, element, "coordinate_file"),
        time_range=parsed(path, element, "time_range", pair, None),
        max_marker_movement=parsed(path, element, "max_marker_movement", float, -1.0),
    )
