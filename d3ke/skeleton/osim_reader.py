"""Compile an OpenSim model into a Skeleton, through the OpenSim API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d3ke.errors import InvalidInputError, UnsupportedModelError
from d3ke.skeleton.functions import CoordinateFunction
from d3ke.skeleton.osim_functions import read_function
from d3ke.skeleton.skeleton import GROUND, Coupler, Skeleton

Array = NDArray[np.float64]

_X, _Y, _Z = np.eye(3)
_ROTATION, _TRANSLATION = 1, 2  # OpenSim's Coordinate::MotionType; 3 = drives both
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


@contextmanager
def quiet_opensim() -> Iterator[Any]:
    """The opensim module, logging only errors inside the block."""
    import opensim

    level = opensim.Logger.getLevelString()
    opensim.Logger.setLevelString("Error")
    try:
        yield opensim
    finally:
        opensim.Logger.setLevelString(level)


def read_skeleton(path: Path, *, allow_ignored: tuple[str, ...] = ()) -> Skeleton:
    """The skeleton of a model file; see `Skeleton.from_osim`."""
    if not path.is_file():
        raise InvalidInputError(f"model file {path}", "there is no such file")
    with quiet_opensim() as opensim:
        try:
            model = opensim.Model(str(path))
            model.initSystem()
        except RuntimeError as error:
            reason = f"OpenSim cannot read it: {str(error).strip().splitlines()[0]}"
            raise InvalidInputError(f"model file {path}", reason) from error
        return _Reader(opensim, model, allow_ignored).skeleton()


class _Reader:
    """Reads one initialised model; every method returns a part of the skeleton."""

    def __init__(self, opensim: Any, model: Any, allow_ignored: tuple[str, ...]) -> None:
        self.opensim, self.model, self.allow_ignored = opensim, model, allow_ignored
        # Lists, not sets: components may also sit inside other components.
        self.bodies = [body.getName() for body in model.getBodyList()]
        self.joints = [_concrete(opensim, joint) for joint in model.getJointList()]
        self.coordinates = [
            joint.get_coordinates(index)
            for joint in self.joints
            for index in range(joint.numCoordinates())
        ]
        self.index = {c.getName(): i for i, c in enumerate(self.coordinates)}
        self.ignored: list[str] = []

    def skeleton(self) -> Skeleton:
        """All parts together."""
        joints = [self._joint(joint) for joint in self.joints]
        parents = np.array([joint["parent"] for joint in joints], dtype=np.int64)
        functions = tuple(joint["functions"] for joint in joints)
        couplers = self._constraints(joints)
        names, marker_bodies, marker_maps = self._markers()
        self.ignored += [f"{f.getConcreteClassName()} {f.getName()}" for f in self._forces()]
        return Skeleton(
            name=self.model.getName(),
            bodies=tuple(self.bodies),
            joints=tuple(joint.getName() for joint in self.joints),
            coordinates=tuple(self.index),
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

    def _forces(self) -> list[Any]:
        forces = self.model.getForceSet()
        return [forces.get(index) for index in range(forces.getSize())]

    def _coordinate_arrays(self) -> dict[str, NDArray[Any]]:
        found = self.coordinates
        ranges = [(c.getRangeMin(), c.getRangeMax()) for c in found]
        held = [c.getDefaultLocked() or c.getDefaultIsPrescribed() for c in found]
        return {
            "coordinate_ranges": np.array(ranges, dtype=float).reshape(-1, 2),
            "coordinate_defaults": np.array([c.getDefaultValue() for c in found], dtype=float),
            "coordinate_locked": np.array(held, dtype=bool),
            "coordinate_clamped": np.array([c.getDefaultClamped() for c in found], dtype=bool),
            "coordinate_rotational": np.array(
                [c.getMotionType() == _ROTATION for c in found], dtype=bool
            ),
        }

    def _body_index(self, frame: Any) -> int:
        name = frame.findBaseFrame().getName()
        return GROUND if name == "ground" else self.bodies.index(name)

    def _frame(self, frame: Any) -> tuple[int, Array, Array]:
        """(body, rotation in the body, offset map) of a frame: scaling multiplies every offset of
        a chain, in the axes it is written in, by the base body's scale."""
        chain = []
        current = self.opensim.PhysicalOffsetFrame.safeDownCast(frame)
        while current is not None:
            chain.append(current)
            current = self.opensim.PhysicalOffsetFrame.safeDownCast(current.getParentFrame())
        rotation, offset_map = np.eye(3), np.zeros((3, 3))
        for link in reversed(chain):
            transform = link.getOffsetTransform()
            offset_map = offset_map + rotation @ np.diag(transform.p().to_numpy())
            rotation = rotation @ _matrix(transform.R())
        return self._body_index(frame), rotation, offset_map

    def _joint(self, joint: Any) -> dict[str, Any]:
        parent, parent_rotation, parent_map = self._frame(joint.getParentFrame())
        child, child_rotation, child_map = self._frame(joint.getChildFrame())
        kind = joint.getConcreteClassName()
        if kind == "CustomJoint":
            axes, functions, weights = self._custom_axes(joint)
        elif kind in _SIMPLE_JOINTS:
            axes, functions, weights = self._simple_axes(joint, _SIMPLE_JOINTS[kind])
        else:
            raise UnsupportedModelError(f"joint {joint.getName()!r}", kind, _SUPPORTED_JOINTS)
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
        for number, (slot, axis) in enumerate(driven):
            index = self.index[joint.get_coordinates(number).getName()]
            axes[slot] = axis
            functions[slot] = CoordinateFunction(inputs=(index,), slopes=(1.0,))
        return axes, tuple(functions), np.zeros((3, 3))

    def _custom_axes(self, joint: Any) -> tuple[Array, tuple[CoordinateFunction, ...], Array]:
        transform = joint.getSpatialTransform()
        axes, weights = np.zeros((6, 3)), np.zeros((3, 3))
        functions = []
        for slot in range(6):
            axis = transform.getTransformAxis(slot)
            vector = axis.getAxis().to_numpy()
            axes[slot] = vector / np.linalg.norm(vector)
            part = f"axis {axis.getName()!r} of joint {joint.getName()!r}"
            names = axis.getCoordinateNames()
            inputs = tuple(self.index[names.getValue(i)] for i in range(names.size()))
            if not axis.hasFunction():
                slopes = (1.0,) * len(inputs)
                functions.append(CoordinateFunction(inputs=inputs, slopes=slopes))
                continue
            functions.append(read_function(self.opensim, axis.getFunction(), inputs, part))
            if slot >= 3 and not _is_plain_coordinate(self.opensim, axis.getFunction()):
                # As OpenSim's SpatialTransform::scale: the axis as written, not its unit vector.
                weights[slot - 3] = np.abs(vector)
        return axes, tuple(functions), weights

    def _constraints(self, joints: list[dict[str, Any]]) -> tuple[Coupler, ...]:
        couplers = []
        constraints = self.model.getConstraintSet()
        for index in range(constraints.getSize()):
            constraint = constraints.get(index)
            kind, name = constraint.getConcreteClassName(), constraint.getName()
            if not constraint.get_isEnforced() or name in self.allow_ignored:
                self.ignored.append(f"{kind} {name}")
            elif kind == "CoordinateCouplerConstraint":
                couplers.append(self._coupler(constraint, joints))
            else:
                raise UnsupportedModelError(
                    f"constraint {name!r}",
                    kind,
                    ["CoordinateCouplerConstraint"],
                    f"Pass allow_ignored=[{name!r}] to leave it out knowingly.",
                )
        return tuple(couplers)

    def _coupler(self, constraint: Any, joints: list[dict[str, Any]]) -> Coupler:
        coupler = self.opensim.CoordinateCouplerConstraint.safeDownCast(constraint)
        names = coupler.getIndependentCoordinateNames()
        inputs = tuple(self.index[names.get(i)] for i in range(names.getSize()))
        part = f"constraint {coupler.getName()!r}"
        function = read_function(self.opensim, coupler.getFunction(), inputs, part)
        dependent = self.index[coupler.getDependentCoordinateName()]
        body, weights = GROUND, (0.0, 0.0, 0.0)
        if self.coordinates[dependent].getMotionType() == _TRANSLATION:
            body, weights = _coupler_scaling(dependent, joints)
        return Coupler(
            name=coupler.getName(),
            dependent=dependent,
            function=function.scaled(self._number(coupler, "scale_factor")),
            scale_body=body,
            scale_weights=weights,
        )

    def _number(self, component: Any, name: str) -> float:
        helper = self.opensim.PropertyHelper
        return float(helper.getValueDouble(component.getPropertyByName(name)))

    def _markers(self) -> tuple[tuple[str, ...], NDArray[np.int64], Array]:
        names, bodies, maps = [], [], []
        markers = self.model.getMarkerSet()
        for index in range(markers.getSize()):
            marker = markers.get(index)
            body, rotation, offset_map = self._frame(marker.getParentFrame())
            names.append(marker.getName())
            bodies.append(body)
            maps.append(offset_map + rotation @ np.diag(marker.get_location().to_numpy()))
        return tuple(names), np.array(bodies, dtype=np.int64), _stack(maps, 3, 3)


def _coupler_scaling(
    dependent: int, joints: list[dict[str, Any]]
) -> tuple[int, tuple[float, float, float]]:
    """Body and weights by which Model::scale multiplies a coupled translation.

    OpenSim does so for factors equal in x, y and z only; along its axis is the natural extension.
    """
    for joint in joints:
        for slot in range(3, 6):
            if joint["functions"][slot].inputs == (dependent,):
                along = np.abs(joint["axes"][slot])
                x, y, z = (along / along.sum()).tolist()
                return joint["parent"], (x, y, z)
    return GROUND, (0.0, 0.0, 0.0)


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
    return values == [1.0, 0.0]


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
