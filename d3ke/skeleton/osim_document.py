"""Opening an OpenSim model file, and finding in it what matters for kinematics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d3ke.errors import InvalidInputError
from d3ke.osim_file_guard import check_osim_file
from d3ke.safe_xml import ParseError, parse_xml

_ROOT = re.compile(rb"<OpenSimDocument\b[^>]*>\s*(?:<!--.*?-->\s*)*<(\w+)", re.DOTALL)
_TERSE = ("Off", "Critical", "Error")
_EXCEPTION = re.compile(r"^std::exception in '.*?': |SimTK Exception thrown at \S+:\d+:?")


@contextmanager
def quiet_opensim(level: str = "Error") -> Iterator[Any]:
    """The opensim module, logging no less than `level` inside the block ("Off" = nothing).

    Afterwards it logs errors only, or less if it did before: going back to a chattier level makes
    OpenSim announce it on stdout and in a file opensim.log in the working directory.
    """
    import opensim

    before = opensim.Logger.getLevelString()
    opensim.Logger.setLevelString(level)
    try:
        yield opensim
    finally:
        opensim.Logger.setLevelString(before if before in _TERSE else "Error")


def open_model(opensim: Any, path: Path) -> Any:
    """The connected model of a file, its multibody system not built.

    Frames, functions and properties are complete without the system; building it would assemble
    the model, initialise its muscles and, for an axis whose function lacks its coordinate, crash
    the process. Raises InvalidInputError for what OpenSim cannot read.
    """
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "there is no such file"
        raise InvalidInputError(f"model file {path}", reason, "Give the path of a .osim file.")
    root = _ROOT.search(path.read_bytes())
    if root is not None and root[1] != b"Model":
        # OpenSim would take it for a model without bodies.
        reason = f"it holds a {root[1].decode()}, not a Model"
        raise InvalidInputError(f"model file {path}", reason, "Give the path of a .osim file.")
    check_osim_file(path)
    try:
        model = opensim.Model(str(path))
        model.finalizeConnections()
    except RuntimeError as error:
        reason = f"OpenSim cannot read it: {_malformed(path) or one_line(error)}"
        remedy = "Open it in OpenSim, or correct it there, and save it again."
        raise InvalidInputError(f"model file {path}", reason, remedy) from error
    return model


def one_line(error: RuntimeError) -> str:
    """What an OpenSim exception says, without where in its sources it says so."""
    lines = [_EXCEPTION.sub("", line).strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line).rstrip(".")


def _malformed(path: Path) -> str:
    """Where the XML breaks or that it is no model's, or "": OpenSim does not name the line."""
    try:
        root = parse_xml(path)
    except (ParseError, ValueError) as error:
        return f"it is no well-formed XML ({error})"
    if root.tag != "OpenSimDocument":
        return f"its outermost element is {root.tag!r}, not 'OpenSimDocument'"
    return "" if len(root) else "its OpenSimDocument is empty"


@dataclass(frozen=True)
class Components:
    """The components of a model in OpenSim's order, wherever in it they are attached."""

    bodies: list[Any] = field(default_factory=list)
    joints: list[Any] = field(default_factory=list)
    constraints: list[Any] = field(default_factory=list)
    markers: list[Any] = field(default_factory=list)
    """Those of the marker set first, then other markers, then stations of their own (not those
    that belong to a muscle's path or another ignored component)."""
    ignored: list[Any] = field(default_factory=list)
    """The rest: outermost components only, without sets, frames and display geometry."""


def find_components(opensim: Any, model: Any) -> Components:
    """Walk all components of a model, not only its sets: anything may sit anywhere."""
    found = Components()
    by_rank: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    hidden = ""
    for component in model.getComponentsList():
        path = component.getAbsolutePathString()
        inside = bool(hidden) and path.startswith(hidden)
        if not _take(opensim, component, path, inside, found, by_rank):
            found.ignored.append(component)
            hidden = f"{path}/"
    for rank in by_rank:
        found.markers.extend(rank)
    return found


def _take(
    opensim: Any,
    component: Any,
    path: str,
    inside: bool,
    found: Components,
    markers: tuple[list[Any], list[Any], list[Any]],
) -> bool:
    """Sort a component into `found`; False if it has no effect on kinematics."""
    kind = component.getConcreteClassName()
    if (body := opensim.Body.safeDownCast(component)) is not None:
        found.bodies.append(body)
    elif (joint := opensim.Joint.safeDownCast(component)) is not None:
        found.joints.append(joint)
    elif (constraint := opensim.Constraint.safeDownCast(component)) is not None:
        found.constraints.append(constraint)
    elif (marker := opensim.Marker.safeDownCast(component)) is not None:
        markers[0 if path.startswith("/markerset/") else 1].append(marker)
    elif inside or kind in _SILENT or kind.endswith("Set"):
        pass
    elif (station := opensim.Station.safeDownCast(component)) is not None:
        markers[2].append(station)
    else:
        return opensim.Geometry.safeDownCast(component) is not None
    return True


_SILENT = ("Ground", "PhysicalOffsetFrame", "Coordinate")


def unique_names(components: Sequence[Any]) -> list[str]:
    """The components' names; for one that several have, the shortest end of its path that only
    one has (coordinate q of the joints hip and knee: hip/q and knee/q)."""
    paths = [component.getAbsolutePathString().split("/")[1:] for component in components]
    names = [path[-1] for path in paths]
    length = 1
    while shared := {name for name, count in Counter(names).items() if count > 1}:
        length += 1
        names = [
            "/".join(path[-length:]) if name in shared else name
            for name, path in zip(names, paths, strict=True)
        ]
    return names


def label(component: Any) -> str:
    """ "Type name", as in `Skeleton.ignored`."""
    return f"{component.getConcreteClassName()} {component.getName()}"
