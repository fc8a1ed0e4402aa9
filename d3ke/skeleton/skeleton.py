"""The skeleton: an OpenSim model's kinematics as plain named arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from d3ke.arrays import IntArray
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.skeleton.functions import CoordinateFunction

FORMAT = "d3ke.skeleton"
VERSION = 1
GROUND = -1
"""Body index of ground."""

Kind = Literal["body", "joint", "coordinate", "marker"]

_MODELS = Path(__file__).parent / "models"


def full_body_model_path() -> Path:
    """The built-in OpenSim model (.osim)."""
    return _MODELS / "full_body.osim"


@dataclass(frozen=True, kw_only=True)
class Coupler:
    """A coordinate that is a function of others (OpenSim's CoordinateCouplerConstraint)."""

    name: str
    dependent: int
    """Index of the coordinate it determines."""
    function: CoordinateFunction
    scale_body: int = GROUND
    """Body whose scale multiplies the function (a dependent translation); ground = none."""
    scale_weights: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """The factor is scale_weights . scale of that body."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Skeleton:
    """Kinematics of an OpenSim model; the order of the names is the order of every array axis.

    Joint j moves its child frame in its parent frame by body-fixed rotations about three axes,
    R = G(a1, t1) G(a2, t2) G(a3, t3), and by translations along three axes of the parent frame
    (paper, equations 4 to 10). A ball or free joint turns by body-fixed angles about x, y and z,
    OpenSim's own coordinates for it, not by a quaternion. Offsets are stored as maps of the
    body's scale: position in the body's axes = map @ scale [m], which stays exact for chains of
    rotated offset frames.
    """

    name: str
    bodies: tuple[str, ...]
    """N names, without ground."""
    joints: tuple[str, ...]
    coordinates: tuple[str, ...]
    markers: tuple[str, ...]

    coordinate_ranges: Float[np.ndarray, "Q 2"]
    """rad or m."""
    coordinate_defaults: Float[np.ndarray, " Q"]
    """rad or m; of a prescribed coordinate its value at time 0."""
    coordinate_locked: NDArray[np.bool_]
    """[Q] locked or prescribed in the model: information only, the layer uses what is passed."""
    coordinate_clamped: NDArray[np.bool_]
    coordinate_rotational: NDArray[np.bool_]
    """[Q] rad (True) or m (False); a coordinate that drives both counts as False, as in OpenSim."""

    joint_parents: Int[np.ndarray, " J"]
    """Body of each joint's parent frame, -1 = ground."""
    joint_children: Int[np.ndarray, " J"]
    parent_rotations: Float[np.ndarray, "J 3 3"]
    """Joint frame in the parent body."""
    parent_offset_maps: Float[np.ndarray, "J 3 3"]
    child_rotations: Float[np.ndarray, "J 3 3"]
    child_offset_maps: Float[np.ndarray, "J 3 3"]
    axes: Float[np.ndarray, "J 6 3"]
    """Unit axes: three rotations, three translations."""
    functions: tuple[tuple[CoordinateFunction, ...], ...]
    """J x 6: amount about or along each axis."""
    translation_weights: Float[np.ndarray, "J 3 3"]
    """Scaling multiplies a translation by weights . parent scale; all zero = never scaled."""
    couplers: tuple[Coupler, ...]

    marker_bodies: Int[np.ndarray, " M"]
    """-1 = ground."""
    marker_offset_maps: Float[np.ndarray, "M 3 3"]

    root_joint: int
    """The joint between ground and the root body, or -1 without one of six free coordinates."""
    ignored: tuple[str, ...] = ()
    """Parts of the model without effect on kinematics that were left out, as "Type name"."""

    def __post_init__(self) -> None:
        for names in (self.bodies, self.joints, self.coordinates, self.markers):
            if len(set(names)) != len(names):
                raise InvalidInputError(f"skeleton {self.name!r}", "a name occurs twice")
        for field, kind in _ARRAY_FIELDS.items():
            array = getattr(self, field)
            array.setflags(write=False)
            # Ranges may be open.
            bad = np.isnan(array) if field == "coordinate_ranges" else ~np.isfinite(array)
            if bad.any():
                row = int(np.argwhere(bad)[0, 0])
                what = f"{kind.removesuffix('s')} {getattr(self, kind)[row]!r}"
                raise InvalidInputError(what, f"its {field} are not finite numbers")

    @property
    def marker_locations(self) -> Float[np.ndarray, "M 3"]:
        """Markers in the axes of their bodies, model as loaded [m]."""
        return np.asarray(self.marker_offset_maps.sum(-1))

    @property
    def coupled(self) -> tuple[str, ...]:
        """Names of the coordinates that couplers determine."""
        return tuple(self.coordinates[coupler.dependent] for coupler in self.couplers)

    @property
    def root_coordinates(self) -> tuple[str, ...]:
        """The six coordinates of the root joint, rotations first; () without such a joint."""
        if self.root_joint < 0:
            return ()
        functions = self.functions[self.root_joint]
        return tuple(self.coordinates[function.inputs[0]] for function in functions)

    @overload
    def index_of(self, kind: Kind, names: str) -> int: ...  # type: ignore[overload-overlap]
    @overload
    def index_of(self, kind: Kind, names: Iterable[str]) -> IntArray: ...
    def index_of(self, kind: Kind, names: str | Iterable[str]) -> int | IntArray:
        """Position of a name, or of several, in the tuple of that kind; UnknownNameError."""
        valid = {
            "body": self.bodies,
            "joint": self.joints,
            "coordinate": self.coordinates,
            "marker": self.markers,
        }
        if kind not in valid:
            raise UnknownNameError("kind of name", kind, valid)
        position = {name: index for index, name in enumerate(valid[kind])}
        wanted = [names] if isinstance(names, str) else list(names)
        for name in wanted:
            if name not in position:
                raise UnknownNameError(kind, name, valid[kind])
        indices = np.array([position[name] for name in wanted], dtype=np.int64)
        return int(indices[0]) if isinstance(names, str) else indices

    def with_markers(
        self, names: Sequence[str], bodies: Sequence[str], locations: Float[np.ndarray, "M 3"]
    ) -> Skeleton:
        """The same skeleton with exactly these markers, given in their bodies' axes [m]."""
        parents = [GROUND if body == "ground" else self.index_of("body", body) for body in bodies]
        return replace(
            self,
            markers=tuple(names),
            marker_bodies=np.array(parents, dtype=np.int64),
            marker_offset_maps=np.einsum("ij,mj->mij", np.eye(3), locations),
        )

    def select_markers(self, names: Sequence[str]) -> Skeleton:
        """The same skeleton with some of its markers, in this order; UnknownNameError."""
        index = np.asarray(self.index_of("marker", list(names)), dtype=np.int64)
        return replace(
            self,
            markers=tuple(names),
            marker_bodies=self.marker_bodies[index],
            marker_offset_maps=self.marker_offset_maps[index],
        )

    def check_scales(self, scales: Float[np.ndarray, "*batch N 3"]) -> None:
        """InvalidInputError for factors that no body can have: zero, negative or not finite."""
        bad = ~(np.isfinite(scales) & (scales > 0.0)).all(-1)
        bad = bad.reshape(-1, len(self.bodies)).any(0)
        if bad.any():
            index = int(bad.argmax())
            found = scales.reshape(-1, len(self.bodies), 3)[:, index]
            value = found[~(np.isfinite(found) & (found > 0.0)).all(-1)][0]
            raise InvalidInputError(
                f"scale of body {self.bodies[index]!r}",
                f"is {value.tolist()}",
                "Factors are positive numbers; 1 leaves a body as it is.",
            )

    def to_json(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and names."""
        data: dict[str, Any] = {"format": FORMAT, "version": VERSION, "name": self.name}
        for field in _NAME_FIELDS:
            data[field] = list(getattr(self, field))
        for field in _ARRAY_FIELDS:
            data[field] = getattr(self, field).tolist()
        data["functions"] = [[f.to_json() for f in joint] for joint in self.functions]
        data["couplers"] = [vars(c) | {"function": c.function.to_json()} for c in self.couplers]
        data["root_joint"] = self.root_joint
        return data

    def save(self, path: str | Path) -> None:
        """Write as JSON; numbers survive exactly."""
        Path(path).write_text(json.dumps(self.to_json()))

    def content_hash(self) -> str:
        """16 hex digits of the content, the same on every machine."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Skeleton:
        """Inverse of `to_json`; InvalidInputError for another format or version."""
        if data.get("format") != FORMAT:
            raise InvalidInputError("skeleton file", f"its format is {data.get('format')!r}")
        if data.get("version") != VERSION:
            raise InvalidInputError(
                "skeleton file",
                f"has version {data.get('version')!r}, this program reads {VERSION}",
                "Compile the .osim file again with Skeleton.from_osim.",
            )
        required = {"name", "root_joint", "functions", "couplers", *_NAME_FIELDS, *_ARRAY_FIELDS}
        if missing := sorted(required - set(data)):
            raise InvalidInputError("skeleton file", f"lacks {', '.join(missing)}")
        fields: dict[str, Any] = {"name": data["name"], "root_joint": data["root_joint"]}
        fields |= {field: tuple(data[field]) for field in _NAME_FIELDS}
        for field, names in _ARRAY_FIELDS.items():
            if len(data[field]) != len(data[names]):
                reason = f"{field} has {len(data[field])} rows, expected {len(data[names])}"
                raise InvalidInputError("skeleton file", reason)
            array: np.ndarray = np.array(data[field], dtype=_DTYPES.get(field, np.float64))
            fields[field] = array.reshape(len(data[field]), *_SHAPES.get(field, ()))
        fields["functions"] = tuple(
            tuple(CoordinateFunction.from_json(f) for f in joint) for joint in data["functions"]
        )
        fields["couplers"] = tuple(_coupler_from_json(coupler) for coupler in data["couplers"])
        return cls(**fields)

    @classmethod
    def load(cls, path: str | Path) -> Skeleton:
        """Read a file written by `save`; needs no OpenSim."""
        try:
            data = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"skeleton file {path}", f"cannot be read: {error}") from error
        if not isinstance(data, dict):
            raise InvalidInputError(f"skeleton file {path}", "it holds no JSON object")
        return cls.from_json(data)

    @classmethod
    def full_body(cls) -> Skeleton:
        """The built-in model of the paper, mended; see d3ke.skeleton.build_full_body."""
        return cls.load(_MODELS / "full_body.json")

    @classmethod
    def from_osim(cls, path: str | Path, *, allow_ignored: Sequence[str] = ()) -> Skeleton:
        """Compile an OpenSim model file of any version that OpenSim 4.6 reads; needs OpenSim.

        Bodies, joints and coordinates keep OpenSim's order. Markers are those of the marker set,
        then markers attached elsewhere, then stations that belong to no muscle or other ignored
        part. A name that several parts of a kind have is lengthened by its path until it is
        unique (hip/q, knee/q). A prescribed coordinate counts as locked; its default is the
        prescribed function at time 0, where OpenSim starts.

        `allow_ignored` names constraints to leave out knowingly. These, released constraints,
        constraints between bodies that cannot move relative to each other, forces, controllers,
        contact and wrap geometry, probes and the like are listed in `ignored`. Ellipsoid,
        scapulothoracic and other joint types, frames defined by stations, other functions,
        closed loops, circles of couplers and couplers that OpenSim applies to other coordinates
        than they name raise UnsupportedModelError by name. Raises InvalidInputError for a file
        OpenSim cannot read and UnknownNameError for a name that is no constraint's. Prints
        nothing; leaves OpenSim logging errors only.
        """
        names = (allow_ignored,) if isinstance(allow_ignored, str) else tuple(allow_ignored)
        from d3ke.skeleton.osim_reader import read_skeleton

        return read_skeleton(Path(path), allow_ignored=names)


def _coupler_from_json(data: dict[str, Any]) -> Coupler:
    return Coupler(
        name=data["name"],
        dependent=data["dependent"],
        function=CoordinateFunction.from_json(data["function"]),
        scale_body=data["scale_body"],
        scale_weights=tuple(data["scale_weights"]),
    )


_NAME_FIELDS = ("bodies", "joints", "coordinates", "markers", "ignored")
# Array field -> the names its rows belong to.
_ARRAY_FIELDS = {
    "coordinate_ranges": "coordinates",
    "coordinate_defaults": "coordinates",
    "coordinate_locked": "coordinates",
    "coordinate_clamped": "coordinates",
    "coordinate_rotational": "coordinates",
    "joint_parents": "joints",
    "joint_children": "joints",
    "parent_rotations": "joints",
    "parent_offset_maps": "joints",
    "child_rotations": "joints",
    "child_offset_maps": "joints",
    "axes": "joints",
    "translation_weights": "joints",
    "marker_bodies": "markers",
    "marker_offset_maps": "markers",
}
_SHAPES = {
    "coordinate_ranges": (2,),
    "parent_rotations": (3, 3),
    "parent_offset_maps": (3, 3),
    "child_rotations": (3, 3),
    "child_offset_maps": (3, 3),
    "axes": (6, 3),
    "translation_weights": (3, 3),
    "marker_offset_maps": (3, 3),
}
_DTYPES: dict[str, type] = {
    "coordinate_locked": np.bool_,
    "coordinate_clamped": np.bool_,
    "coordinate_rotational": np.bool_,
    "joint_parents": np.int64,
    "joint_children": np.int64,
    "marker_bodies": np.int64,
}
