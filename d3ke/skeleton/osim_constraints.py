"""OpenSim constraints: couplers read, what cannot move anything left out, the rest refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from d3ke.errors import InvalidInputError, UnknownNameError, UnsupportedModelError
from d3ke.skeleton.osim_document import label
from d3ke.skeleton.osim_functions import read_function
from d3ke.skeleton.skeleton import GROUND, Coupler

_TRANSLATION = 2  # OpenSim's Coordinate::MotionType
# The frames or bodies that each of these ties together.
_SOCKETS = {
    "WeldConstraint": ("frame1", "frame2"),
    "PointConstraint": ("body_1", "body_2"),
    "ConstantDistanceConstraint": ("body_1", "body_2"),
    "PointOnLineConstraint": ("line_body", "follower_body"),
}
_SUPPORTED = (
    "CoordinateCouplerConstraint",
    "a constraint between bodies that are welded to each other",
)


class ConstraintReader:
    """Reads the constraints of a model whose joints are read: `joints` as the reader has them,
    `body_of` the body index of a frame."""

    def __init__(
        self,
        opensim: Any,
        coordinates: Sequence[Any],
        joints: Sequence[dict[str, Any]],
        body_of: Callable[[Any, str], int],
    ) -> None:
        self.opensim, self.joints, self.body_of = opensim, joints, body_of
        self.coordinates = coordinates
        self.names = [coordinate.getName() for coordinate in coordinates]

    def read(
        self, constraints: Sequence[Any], allow_ignored: Sequence[str]
    ) -> tuple[tuple[Coupler, ...], list[str]]:
        """(couplers, labels of the constraints left out)."""
        _check_names(allow_ignored, [constraint.getName() for constraint in constraints])
        groups = self._rigid_groups()
        couplers, ignored = [], []
        for constraint in constraints:
            kind, name = constraint.getConcreteClassName(), constraint.getName()
            if not constraint.get_isEnforced() or name in allow_ignored:
                ignored.append(label(constraint))
            elif kind == "CoordinateCouplerConstraint":
                couplers.append(self._coupler(constraint))
            elif kind in _SOCKETS and len({groups[b] for b in self._bodies(constraint)}) == 1:
                ignored.append(label(constraint))
            else:
                part = f"constraint {name!r}"
                raise UnsupportedModelError(part, kind, _SUPPORTED, _way_out(name))
        self._check_couplers(couplers)
        return tuple(couplers), ignored

    def _rigid_groups(self) -> dict[int, int]:
        """Body -> one number per set of bodies that no coordinate moves relative to each other."""
        groups = {GROUND: GROUND}
        for joint in self.joints:
            groups |= {end: groups.get(end, end) for end in (joint["parent"], joint["child"])}
        for joint in self.joints:
            if all(function.is_constant for function in joint["functions"]):
                old, new = groups[joint["child"]], groups[joint["parent"]]
                groups = {body: new if group == old else group for body, group in groups.items()}
        return groups

    def _bodies(self, constraint: Any) -> list[int]:
        part = f"constraint {constraint.getName()!r}"
        found = [constraint.getConnectee(s) for s in _SOCKETS[constraint.getConcreteClassName()]]
        frames = [self.opensim.PhysicalFrame.safeDownCast(component) for component in found]
        return [self.body_of(frame, part) for frame in frames]

    def _coupler(self, constraint: Any) -> Coupler:
        coupler = self.opensim.CoordinateCouplerConstraint.safeDownCast(constraint)
        part = f"constraint {coupler.getName()!r}"
        names = coupler.getIndependentCoordinateNames()
        inputs = tuple(self._index(names.get(i), part) for i in range(names.getSize()))
        function = read_function(
            self.opensim,
            coupler.getFunction(),
            inputs,
            part,
            of_axis=False,
            remedy=_way_out(coupler.getName()),
        )
        dependent = self._index(coupler.getDependentCoordinateName(), part)
        body, weights = GROUND, (0.0, 0.0, 0.0)
        if self.coordinates[dependent].getMotionType() == _TRANSLATION:
            body, weights = self._scaling(dependent)
        factor = coupler.getPropertyByName("scale_factor")
        return Coupler(
            name=coupler.getName(),
            dependent=dependent,
            function=function.scaled(self.opensim.PropertyHelper.getValueDouble(factor)),
            scale_body=body,
            scale_weights=weights,
        )

    def _index(self, name: str, part: str) -> int:
        """The coordinate of that name, which OpenSim has made sure exists."""
        if self.names.count(name) > 1:
            kind = f"coupler of a coordinate {name!r} that several joints have"
            remedy = "Rename the coordinates in the model."
            raise UnsupportedModelError(part, kind, ["coordinates of one name each"], remedy)
        return self.names.index(name)

    def _scaling(self, dependent: int) -> tuple[int, tuple[float, float, float]]:
        """Body and weights by which Model::scale multiplies a coupled translation.

        OpenSim does so for factors equal in x, y and z only; along its axis is the natural
        extension.
        """
        for joint in self.joints:
            for slot in range(3, 6):
                if dependent in joint["functions"][slot].inputs:
                    along = abs(joint["axes"][slot])
                    x, y, z = (along / along.sum()).tolist()
                    return joint["parent"], (x, y, z)
        return GROUND, (0.0, 0.0, 0.0)

    def _check_couplers(self, couplers: Sequence[Coupler]) -> None:
        """Refuse a coordinate that two couplers determine, and circles of couplers."""
        drivers: dict[int, Coupler] = {}
        for coupler in couplers:
            if (other := drivers.get(coupler.dependent)) is not None:
                self._refuse(coupler, f"second coupler (after {other.name!r})")
            drivers[coupler.dependent] = coupler
        for coupler in couplers:
            reached, waiting = set(), list(coupler.function.inputs)
            while waiting:
                source = waiting.pop()
                if source == coupler.dependent:
                    self._refuse(coupler, "circle of couplers")
                if source in drivers and source not in reached:
                    reached.add(source)
                    waiting.extend(drivers[source].function.inputs)

    def _refuse(self, coupler: Coupler, kind: str) -> None:
        raise UnsupportedModelError(
            f"constraint {coupler.name!r}",
            f"{kind} of coordinate {self.names[coupler.dependent]!r}",
            ["one coupler per dependent coordinate", "chains of couplers"],
            _way_out(coupler.name),
        )


def _check_names(allow_ignored: Sequence[str], names: Sequence[str]) -> None:
    for name in allow_ignored:
        if not names:
            raise InvalidInputError(
                f"allow_ignored {name!r}", "the model has no constraints", "Leave it out."
            )
        if name not in names:
            raise UnknownNameError("constraint in allow_ignored:", name, names)


def _way_out(name: str) -> str:
    return f"Pass allow_ignored=[{name!r}] to leave it out knowingly."
