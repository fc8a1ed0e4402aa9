"""Named points on the bodies of a model, with what inverse kinematics needs to know of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.arrays import BoolArray, FloatArray
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics.opensim_library import load_model, load_opensim
from d3ke.kinematics.trc import MarkerTrajectories

_VERSION = 1
_BUILTIN = ("smplh", "anny", "mediapipe")


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkerSet:
    """A marker set: where each marker sits on the model and how it is used.

    Markers are either measured, or computed from measured ones (`midpoints`,
    `ground_projections`; see `complete`).
    """

    names: tuple[str, ...]
    """Marker names, M."""
    bodies: tuple[str, ...]
    """Name of the body each marker is fixed to while a subject is scaled."""
    locations: FloatArray
    """[M, 3] m, in the body's frame of the unscaled model."""
    ik_weights: FloatArray
    """[M] weights in inverse kinematics; 0 = not used."""
    scaling_weights: FloatArray
    """[M] weights in the static pose's inverse kinematics during scaling; 0 = not used."""
    fixed: BoolArray
    """[M] True where the marker keeps its place; False where the marker placer moves it."""
    reparent: dict[str, str] = field(default_factory=dict)
    """Marker -> body it belongs to after scaling, keeping its ground position."""
    midpoints: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Computed marker -> markers whose mean it is."""
    ground_projections: dict[str, str] = field(default_factory=dict)
    """Computed marker -> marker whose vertical projection onto the floor it is."""
    undetermined: tuple[str, ...] = ()
    """Coordinates that these markers cannot tell: never usable as labels."""

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(set(self.names)) != count:
            raise InvalidInputError("marker set", "a marker is named twice")
        for what in ("bodies", "locations", "ik_weights", "scaling_weights", "fixed"):
            if len(getattr(self, what)) != count:
                raise InvalidInputError("marker set", f"{what} does not have {count} entries")
        if not (np.isfinite(self.locations).all() and (self.ik_weights >= 0).all()):
            raise InvalidInputError("marker set", "locations must be finite, weights not negative")
        for name in (*self.reparent, *self.midpoints, *self.ground_projections):
            self.index(name)

    def index(self, name: str) -> int:
        """Position of a marker. Raises UnknownNameError."""
        if name not in self.names:
            raise UnknownNameError("marker", name, self.names)
        return self.names.index(name)

    def body_after_scaling(self, name: str) -> str:
        """The body a marker belongs to in a scaled model."""
        return self.reparent.get(name, self.bodies[self.index(name)])

    @classmethod
    def builtin(cls, name: str) -> MarkerSet:
        """A marker set on the built-in model, made for one kind of points.

        `smplh`: the reference's markers for the SMPL-H mesh. `anny`: the same names, registered
        to the Anny mesh. `mediapipe`: landmarks of MediaPipe's pose landmarker that tell the
        pose of limbs, trunk and head, registered to rendered people.
        """
        if name not in _BUILTIN:
            raise UnknownNameError("marker set", name, _BUILTIN)
        return _builtin(name)

    @classmethod
    def load(cls, path: str | Path) -> MarkerSet:
        """Reads `save`'s file. Raises InvalidInputError."""
        try:
            return cls._from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(str(path), f"is not a marker set ({error})") from error

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> MarkerSet:
        if content["version"] != _VERSION:
            raise InvalidInputError(
                "marker set", f"version {content['version']} instead of {_VERSION}"
            )
        markers: dict[str, dict[str, Any]] = content["markers"]
        return cls(
            names=tuple(markers),
            bodies=tuple(entry["body"] for entry in markers.values()),
            locations=np.array([entry["location_m"] for entry in markers.values()], dtype=float),
            ik_weights=np.array([float(entry["ik_weight"]) for entry in markers.values()]),
            scaling_weights=np.array([float(e["scaling_weight"]) for e in markers.values()]),
            fixed=np.array([bool(entry["fixed"]) for entry in markers.values()]),
            reparent={n: e["reparent"] for n, e in markers.items() if "reparent" in e},
            midpoints={n: tuple(e["midpoint"]) for n, e in markers.items() if "midpoint" in e},
            ground_projections={n: e["ground"] for n, e in markers.items() if "ground" in e},
            undetermined=tuple(content.get("undetermined", ())),
        )

    def save(self, path: str | Path) -> None:
        """Writes the marker set as JSON, one marker a line."""
        entries = [f"  {json.dumps(n)}: {json.dumps(self._entry(n))}" for n in self.names]
        body = ",\n".join(entries)
        head = f'"version": {_VERSION}'
        if self.undetermined:
            head += f',\n "undetermined": {json.dumps(self.undetermined)}'
        text = f'{{{head},\n "markers": {{\n{body}\n }}}}\n'
        Path(path).write_text(text, encoding="utf-8")

    def _entry(self, name: str) -> dict[str, Any]:
        index = self.index(name)
        entry: dict[str, Any] = {
            "body": self.bodies[index],
            "location_m": [round(float(value), 6) for value in self.locations[index]],
            "ik_weight": float(self.ik_weights[index]),
            "scaling_weight": float(self.scaling_weights[index]),
            "fixed": bool(self.fixed[index]),
        }
        if name in self.reparent:
            entry["reparent"] = self.reparent[name]
        if name in self.midpoints:
            entry["midpoint"] = list(self.midpoints[name])
        if name in self.ground_projections:
            entry["ground"] = self.ground_projections[name]
        return entry

    def complete(
        self, measured: MarkerTrajectories, *, floor_height: float | None = None
    ) -> MarkerTrajectories:
        """Adds the computed markers and orders all as this set; NaN where not measured.

        Args:
            measured: positions of measured markers.
            floor_height: vertical (y) coordinate of the floor, m; None leaves the ground
                projections NaN, as in a moving trial, where they mean nothing.
        """
        out = measured.reordered(self.names)
        positions = out.positions
        for name, sources in self.midpoints.items():
            columns = [self.index(source) for source in sources]
            positions[:, self.index(name)] = positions[:, columns].mean(axis=1)
        if floor_height is not None:
            for name, source in self.ground_projections.items():
                positions[:, self.index(name)] = positions[:, self.index(source)]
                positions[:, self.index(name), 1] = floor_height
        return out

    def apply_to_model(self, osim_in: str | Path, osim_out: str | Path) -> None:
        """Writes a model with exactly these markers. Raises UnknownNameError for a body."""
        model = load_model(osim_in)
        self.put_on(model)
        model.printToXML(str(osim_out))

    def put_on(self, model: Any) -> None:
        """Replaces the markers of an `opensim.Model` in memory."""
        bodies = [body.getName() for body in model.getBodySet()]
        for body in self.bodies:
            if body not in bodies:
                raise UnknownNameError("body", body, bodies)
        model.updMarkerSet().clearAndDestroy()
        for name, body, place, fixed in zip(
            self.names, self.bodies, self.locations, self.fixed, strict=True
        ):
            add_marker(model, name, body, place, fixed=bool(fixed))
        model.finalizeConnections()


def add_marker(model: Any, name: str, body: str, place: FloatArray, *, fixed: bool) -> None:
    """Adds a marker at `place` [3] m on a body of an `opensim.Model`."""
    opensim = load_opensim()
    frame = model.getBodySet().get(body)
    marker = opensim.Marker(name, frame, opensim.Vec3(*map(float, place)))
    marker.set_fixed(fixed)
    model.addMarker(marker)


@cache
def _builtin(name: str) -> MarkerSet:
    file = resources.files("d3ke.kinematics") / "marker_sets" / f"{name}.json"
    return MarkerSet._from_json(json.loads(file.read_text(encoding="utf-8")))
