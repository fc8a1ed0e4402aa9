"""Compile an OpenSim model into a Skeleton, through the OpenSim API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d3ke.errors import UnsupportedModelError
from d3ke.skeleton.functions import CoordinateFunction
from d3ke.skeleton.osim_constraints import ConstraintReader
from d3ke.skeleton.osim_document import (
    find_components,
    label,
    open_model,
    quiet_opensim,
    unique_names,
)
from d3ke.skeleton.osim_functions import read_function
from d3ke.skeleton.skeleton import GROUND, Skeleton

Array = NDArray[np.float64]

_X, _Y, _Z = np.eye(3)
_ROTATION = 1  # OpenSim's Coordinate::MotionType; 2 = translation, 3 = drives both
_FREE_AXES = ((0, _X), (1, _Y), (2, _Z), (3, _X), (4, _Y), (5, _Z))
# Per joint type, the (slot, axis) that each of its coordinates drives, in their order.
# Ball and free joints are body-fixed XYZ angles: OpenSim never uses quaternion coordinates.
_SIMPLE_JOINTS = {
    "WeldJoint": (),
    "PinJoint": ((0, _Z),),
    "SliderJoint": ((3, _X),),
    "UniversalJoint": ((0, _X), (1, _Y)),
    "GimbalJoint": _FREE_AXES[:3],
    "BallJoint": _FREE_AXES[:3],
    "FreeJoint": _FREE_AXES,
    "PlanarJoint": ((0, _Z), (3, _X), (4, _Y)),
}
_SUPPORTED_JOINTS = (*_SIMPLE_JOINTS, "CustomJoint")
_SUPPORTED_FRAMES = ("Ground", "Body", "PhysicalOffsetFrame")


def read_skeleton(path: Path, *, allow_ignored: tuple[str, ...] = ()) -> Skeleton:
    """The skeleton of a model file; see `Skeleton.from_osim`."""
    with quiet_opensim("Off") as opensim:
        model = open_model(opensim, path)
        return _Reader(opensim, model, allow_ignored).skeleton()


class _Reader:
    """Reads one connected model; every method returns a part of the skeleton."""

    def __init__(self, opensim: Any, model: Any, allow_ignored: tuple[str, ...]) -> None:
        self.opensim, self.model, self.allow_ignored = opensim, model, allow_ignored
        self.found = find_components(opensim, model)
        self.bodies = {b.getAbsolutePathString(): i for i, b in enumerate(self.found.bodies)}
        self.joints = [_concrete(opensim, joint) for joint in self.found.joints]
        self.coordinates = [c for joint in self.joints for c in _coordinates(joint)]
        self.index = {c.getAbsolutePathString(): i for i, c in enumerate(self.coordinates)}
        self.ignored = [label(component) for component in self.found.ignored]

    def skeleton(self) -> Skeleton:
        """All parts together."""
        joints = [self._joint(joint) for joint in self.joints]
        self._check_tree(joints)
        parents = np.array([joint["parent"] for joint in joints], dtype=np.int64)
        functions = tuple(joint["functions"] for joint in joints)
        couplers, released = ConstraintReader(
            self.opensim, self.coordinates, joints, lambda frame, part: self._frame(frame, part)[0]
        ).read(self.found.constraints, self.allow_ignored)
        self.ignored += released
        names, marker_bodies, marker_maps = self._markers()
        return Skeleton(
            name=self.model.getName(),
            bodies=tuple(unique_names(self.found.bodies)),
            joints=tuple(unique_names(self.joints)),
            coordinates=tuple(unique_names(self.coordinates)),
            markers=names,
            **self._coordinate_arrays(),
            joint_parents=parents,
            joint_children=np.array([joint["child"] for joint in joints], dtype=np.int64),
            parent_rotations=_stack([j["parent_rotation"] for j in joints], 3, 3),
            parent_offset_maps=_stack([j["parent_map"] for j in joints], 3, 3),
            child_rotations=_stack([j["child_rotation"] for j in joints], 3, 3),
            child_offset_maps=_stack([j["child_map"] for j in joints], 3, 3),
            axes=_stack([j["axes"] for j in joints], 6, 3),
            functions=functions,
            translation_weights=_stack([j["weights"] for j in joints], 3, 3),
            couplers=couplers,
            marker_bodies=marker_bodies,
            marker_offset_maps=marker_maps,
            root_joint=_root_joint(parents, functions, {c.dependent for c in couplers}),
            ignored=tuple(self.ignored),
        )

    def _check_tree(self, joints: list[dict[str, Any]]) -> None:
        """Refuse the joint that closes a loop, before the body and the weld constraint come up
        by which OpenSim opens it again."""
        trees = {body: body for body in (GROUND, *self.bodies.values())}
        for joint, ends in zip(self.joints, joints, strict=True):
            old, new = trees[ends["child"]], trees[ends["parent"]]
            if old == new:
                raise UnsupportedModelError(
                    f"joint {joint.getName()!r}",
                    f"{joint.getConcreteClassName()} that closes a loop of bodies",
                    ["one path of joints from ground to each body"],
                    "Take it out of the model.",
                )
            trees = {body: new if tree == old else tree for body, tree in trees.items()}

    def _coordinate_arrays(self) -> dict[str, NDArray[Any]]:
        found = self.coordinates
        ranges = [(c.getRangeMin(), c.getRangeMax()) for c in found]
        held = [c.getDefaultLocked() or c.getDefaultIsPrescribed() for c in found]
        return {
            "coordinate_ranges": np.array(ranges, dtype=float).reshape(-1, 2),
            "coordinate_defaults": np.array([self._default(c) for c in found], dtype=float),
            "coordinate_locked": np.array(held, dtype=bool),
            "coordinate_clamped": np.array([c.getDefaultClamped() for c in found], dtype=bool),
            "coordinate_rotational": np.array(
                [c.getMotionType() == _ROTATION for c in found], dtype=bool
            ),
        }

    def _default(self, coordinate: Any) -> float:
        """Its value in OpenSim's initial state: of a prescribed one, the function at time 0."""
        if not coordinate.getDefaultIsPrescribed():
            return float(coordinate.getDefaultValue())
        function = coordinate.getPrescribedFunction()
        return float(function.calcValue(self.opensim.Vector(1, 0.0)))

    def _frame(self, frame: Any, part: str) -> tuple[int, Array, Array]:
        """(body, rotation in the body, offset map) of a frame: scaling multiplies every offset of
        a chain, in the axes it is written in, by the base body's scale."""
        chain = []
        while (link := self.opensim.PhysicalOffsetFrame.safeDownCast(frame)) is not None:
            chain.append(link)
            frame = link.getParentFrame()
        path, kind = frame.getAbsolutePathString(), frame.getConcreteClassName()
        if path not in self.bodies and kind != "Ground":
            # A StationDefinedFrame turns with the body's scale.
            raise UnsupportedModelError(
                f"frame {frame.getName()!r} of {part}", kind, _SUPPORTED_FRAMES
            )
        rotation, offset_map = np.eye(3), np.zeros((3, 3))
        for link in reversed(chain):
            transform = link.getOffsetTransform()
            offset_map = offset_map + rotation @ np.diag(transform.p().to_numpy())
            rotation = rotation @ _matrix(transform.R())
        return self.bodies.get(path, GROUND), rotation, offset_map

    def _joint(self, joint: Any) -> dict[str, Any]:
        part = f"joint {joint.getName()!r}"
        parent, parent_rotation, parent_map = self._frame(joint.getParentFrame(), part)
        child, child_rotation, child_map = self._frame(joint.getChildFrame(), part)
        kind = joint.getConcreteClassName()
        if kind == "CustomJoint":
            axes, functions, weights = self._custom_axes(joint)
        elif kind in _SIMPLE_JOINTS:
            axes, functions, weights = self._simple_axes(joint, _SIMPLE_JOINTS[kind])
        else:
            raise UnsupportedModelError(part, kind, _SUPPORTED_JOINTS)
        return {
            "parent": parent,
            "parent_rotation": parent_rotation,
            "parent_map": parent_map,
            "child": child,
            "child_rotation": child_rotation,
            "child_map": child_map,
            "axes": axes,
            "functions": functions,
            "weights": weights,
        }

    def _simple_axes(
        self, joint: Any, driven: tuple[tuple[int, Array], ...]
    ) -> tuple[Array, tuple[CoordinateFunction, ...], Array]:
        axes = np.concatenate([np.eye(3), np.eye(3)])
        functions = [CoordinateFunction()] * 6
        for coordinate, (slot, axis) in zip(_coordinates(joint), driven, strict=True):
            index = self.index[coordinate.getAbsolutePathString()]
            axes[slot] = axis
            functions[slot] = CoordinateFunction(inputs=(index,), slopes=(1.0,))
        return axes, tuple(functions), np.zeros((3, 3))

    def _custom_axes(self, joint: Any) -> tuple[Array, tuple[CoordinateFunction, ...], Array]:
        transform = joint.getSpatialTransform()
        axes, weights = np.zeros((6, 3)), np.zeros((3, 3))
        functions = []
        own = {c.getName(): self.index[c.getAbsolutePathString()] for c in _coordinates(joint)}
        for slot in range(6):
            axis = transform.getTransformAxis(slot)
            vector = axis.getAxis().to_numpy()
            axes[slot] = vector / np.linalg.norm(vector)
            part = f"axis {axis.getName()!r} of joint {joint.getName()!r}"
            names = axis.getCoordinateNames()
            inputs = tuple(own[names.getValue(i)] for i in range(names.size()))
            if not axis.hasFunction():
                slopes = (1.0,) * len(inputs)
                functions.append(CoordinateFunction(inputs=inputs, slopes=slopes))
                continue
            function = axis.getFunction()
            functions.append(read_function(self.opensim, function, inputs, part, of_axis=True))
            if slot >= 3 and not _is_plain_coordinate(self.opensim, function):
                # As OpenSim's SpatialTransform::scale: the axis as written, not its unit vector.
                weights[slot - 3] = np.abs(vector)
        return axes, tuple(functions), weights

    def _markers(self) -> tuple[tuple[str, ...], NDArray[np.int64], Array]:
        bodies, maps = [], []
        for marker in self.found.markers:
            part = f"marker {marker.getName()!r}"
            body, rotation, offset_map = self._frame(marker.getParentFrame(), part)
            bodies.append(body)
            maps.append(offset_map + rotation @ np.diag(marker.get_location().to_numpy()))
        names = tuple(unique_names(self.found.markers))
        return names, np.array(bodies, dtype=np.int64), _stack(maps, 3, 3)


def _coordinates(joint: Any) -> list[Any]:
    return [joint.get_coordinates(index) for index in range(joint.numCoordinates())]


def _concrete(opensim: Any, joint: Any) -> Any:
    kind = getattr(opensim, joint.getConcreteClassName(), None)
    return joint if kind is None else kind.safeDownCast(joint)


def _is_plain_coordinate(opensim: Any, function: Any) -> bool:
    """A translation that is its coordinate itself: Model::scale leaves it alone."""
    linear = opensim.LinearFunction.safeDownCast(function)
    if linear is None:
        return False
    coefficients = linear.getCoefficients()
    values = [coefficients.get(i) for i in range(coefficients.getSize())]
    return values[:2] == [1.0, 0.0]  # as OpenSim, whatever coefficients follow


def _root_joint(
    parents: NDArray[np.int64],
    functions: tuple[tuple[CoordinateFunction, ...], ...],
    dependents: set[int],
) -> int:
    """The first joint on ground whose six axes have each one free coordinate of their own."""
    for joint in np.flatnonzero(parents == GROUND):
        slots = functions[joint]
        inputs = {f.inputs[0] for f in slots if f.pieces is None and len(f.inputs) == 1}
        if len(inputs) == 6 and all(map(any, (f.slopes for f in slots))):
            return -1 if inputs & dependents else int(joint)
    return -1


def _matrix(rotation: Any) -> Array:
    return np.array([[rotation.get(i, j) for j in range(3)] for i in range(3)])


def _stack(arrays: list[Array], *shape: int) -> Array:
    return np.array(arrays, dtype=float).reshape(len(arrays), *shape)
