"""OpenSim as the oracle: poses of a model, scaled models, and small models to compile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import opensim
import torch

from d3ke.skeleton import SkeletalModelLayer, Skeleton

opensim.Logger.setLevelString("Error")

REPOSITORY = Path(__file__).parents[3]
SHARED = REPOSITORY.parent / "shared"
_KEPT: list[Any] = []  # OpenSim objects whose ownership Python and OpenSim share


def keep(part: Any) -> Any:
    _KEPT.append(part)
    return part


def vec3(values: Sequence[float]) -> opensim.Vec3:
    return opensim.Vec3(*(float(value) for value in values))


def _matrix(rotation: Any) -> np.ndarray:
    return np.array([[rotation.get(i, j) for j in range(3)] for i in range(3)])


class Oracle:
    """OpenSim's own kinematics of a model file, optionally scaled by Model::scale."""

    def __init__(self, path: Path, skeleton: Skeleton, scales: np.ndarray | None = None) -> None:
        self.skeleton = skeleton
        self.scales = np.ones((len(skeleton.bodies), 3)) if scales is None else scales
        self.model = opensim.Model(str(path))
        self.state = self.model.initSystem()
        if scales is not None:
            self.model.scale(self.state, self._scale_set(), False, -1.0)
            self.state = self.model.initSystem()
        self.coordinates = self._parts("Coordinate", skeleton.coordinates)
        self.bodies = self._parts("Body", skeleton.bodies)
        self.joints = self._parts("Joint", skeleton.joints)
        self.markers = self._parts("Station", skeleton.markers)  # markers are stations

    def _parts(self, kind: str, names: Sequence[str]) -> list[Any]:
        """The parts of that type, found by the end of their paths."""
        cast = getattr(opensim, kind).safeDownCast
        found = [part for part in map(cast, self.model.getComponentsList()) if part is not None]
        paths = {part.getAbsolutePathString(): part for part in found}
        parts = []
        for name in names:
            ends = [path for path in paths if path.endswith(f"/{name}")]
            (path,) = [path for path in ends if "/forceset/" not in path]  # a muscle's points
            parts.append(paths[path])
        return parts

    def _scale_set(self) -> Any:
        result = opensim.ScaleSet()
        for body, factors in zip(self.skeleton.bodies, self.scales, strict=True):
            scale = opensim.Scale()
            scale.setSegmentName(body)
            scale.setScaleFactors(vec3(factors))
            scale.setApply(True)
            result.cloneAndAppend(scale)
        return result

    def random_coordinates(self, count: int, seed: int) -> np.ndarray:
        """[count, Q] uniform over the full ranges, couplers satisfied; no range is cut short
        unless it reaches beyond 1e6 rad or m."""
        low, high = np.clip(self.skeleton.coordinate_ranges, -1e6, 1e6).T
        generator = np.random.default_rng(seed)
        values = generator.uniform(low, high, size=(count, len(low)))
        couplers = self._couplers()
        for _ in couplers:  # once for each link of the longest chain, whatever their order
            before = values.copy()
            for drivers, dependent, function, factor in couplers:
                for row in values:
                    arguments = opensim.Vector(row[drivers] if drivers else np.zeros(1))
                    row[dependent] = factor * function.calcValue(arguments)
            if np.array_equal(values, before):
                break
        return values

    def _couplers(self) -> list[tuple[list[int], int, Any, float]]:
        position = {part.getName(): i for i, part in enumerate(self.coordinates)}
        found = []
        for part in self.model.getComponentsList():
            coupler = opensim.CoordinateCouplerConstraint.safeDownCast(part)
            if coupler is None or not coupler.get_isEnforced():
                continue
            names = coupler.getIndependentCoordinateNames()
            drivers = [position[names.get(i)] for i in range(names.getSize())]
            dependent = position[coupler.getDependentCoordinateName()]
            factor = coupler.getPropertyByName("scale_factor")
            factor = opensim.PropertyHelper.getValueDouble(factor)
            found.append((drivers, dependent, coupler.getFunction(), factor))
        return found

    def pose(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """What Pose holds, in ground."""
        state = self.state
        for coordinate, value in zip(self.coordinates, values, strict=True):
            coordinate.setLocked(state, False)
            coordinate.setIsPrescribed(state, False)
            coordinate.setValue(state, float(value), False)
        self.model.realizePosition(state)
        bodies = [body.getTransformInGround(state) for body in self.bodies]
        joints = [joint.getChildFrame().getPositionInGround(state) for joint in self.joints]
        return {
            "joint_centers": _rows(joints),
            "markers": _rows([marker.getLocationInGround(state) for marker in self.markers]),
            "body_rotations": np.array([_matrix(b.R()) for b in bodies]).reshape(-1, 3, 3),
            "body_positions": _rows([b.p() for b in bodies]),
        }


def _rows(vectors: list[Any]) -> np.ndarray:
    return np.array([v.to_numpy() for v in vectors]).reshape(len(vectors), 3)


def angle_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angle [rad] between rotations [..., 3, 3]; precise near 0, where the trace is not."""
    difference = np.linalg.norm(first - second, axis=(-2, -1))
    return 2 * np.arcsin(np.clip(difference / np.sqrt(8), 0, 1))


def largest_errors(
    path: Path,
    *,
    poses: int,
    scaled: bool = False,
    uniform: bool = False,
    seed: int = 0,
    skeleton: Skeleton | None = None,
) -> tuple[float, float]:
    """Largest distance [m] and angle [rad] between the layer and OpenSim, in float64.

    `scaled` also scales every body by a random factor per axis, or by one for all three
    (`uniform`), in the layer and by Model::scale.
    """
    skeleton = Skeleton.from_osim(path) if skeleton is None else skeleton
    layer = SkeletalModelLayer(skeleton)
    scales = None
    if scaled:
        generator = np.random.default_rng(seed)
        axes = 1 if uniform else 3
        scales = generator.uniform(0.7, 1.4, size=(len(skeleton.bodies), axes)).repeat(3 // axes, 1)
    oracle = Oracle(path, skeleton, scales)
    values = oracle.random_coordinates(poses, seed)
    found = layer(torch.from_numpy(values), None if scales is None else torch.from_numpy(scales))
    distance = angle = 0.0
    for row in range(poses):
        for name, expected in oracle.pose(values[row]).items():
            got = getattr(found, name)[row].numpy()
            if name == "body_rotations":
                angle = max(angle, float(angle_between(got, expected).max(initial=0.0)))
            else:
                away = np.linalg.norm(got - expected, axis=-1)
                distance = max(distance, float(away.max(initial=0.0)))
    return distance, angle


def largest_error(path: Path, **settings: Any) -> float:
    """The larger of `largest_errors`: m or rad."""
    return max(largest_errors(path, **settings))


class SmallModel:
    """A chain ground - base - tip, with a marker on each, to try one joint or function type."""

    def __init__(self, *, base_joint: str | None = "GimbalJoint") -> None:
        self.model = keep(opensim.Model())
        self.model.setName("small")
        self.base, self.tip = self._body("base"), self._body("tip")
        if base_joint is not None:
            self.joint(base_joint, "base_joint", self.model.getGround(), self.base)

    def _body(self, name: str) -> Any:
        body = keep(opensim.Body(name, 1.0, opensim.Vec3(0), opensim.Inertia(1.0, 1.0, 1.0)))
        self.model.addBody(body)
        self.marker(f"{name}_marker", body)
        return body

    def marker(
        self, name: str, frame: Any, location: Sequence[float] = (0.11, -0.07, 0.05)
    ) -> None:
        self.model.addMarker(keep(opensim.Marker(name, frame, vec3(location))))

    def joint(self, kind: str, name: str, parent: Any, child: Any, *more: Any) -> Any:
        places = (vec3((0.1, 0.2, -0.3)), vec3((0.3, -0.2, 0.5)))
        ends = (vec3((0.05, -0.06, 0.07)), vec3((-0.1, 0.2, 0.4)))
        joint = keep(getattr(opensim, kind)(name, parent, *places, child, *ends, *more))
        self.model.addJoint(joint)
        for index in range(joint.numCoordinates()):
            coordinate = joint.upd_coordinates(index)
            coordinate.setRangeMin(-1.4)
            coordinate.setRangeMax(1.7)
        return joint

    def custom_joint(
        self,
        slots: dict[int, tuple[Any, Sequence[str]]],
        axes: Sequence[Sequence[float]] | None = None,
        parent: Any = None,
    ) -> Any:
        """Joint base -> tip; slots: number -> (function, coordinate names)."""
        chosen = np.concatenate([np.eye(3), np.eye(3)]) if axes is None else np.array(axes)
        transform = keep(opensim.SpatialTransform())
        for slot in range(6):
            function, names = slots.get(slot, (keep(opensim.Constant(0.0)), ()))
            part = transform.updTransformAxis(slot)
            listed = opensim.ArrayStr()
            for name in names:
                listed.append(name)
            part.setCoordinateNames(listed)
            part.setAxis(vec3(chosen[slot]))
            part.set_function(function)
        parent = self.base if parent is None else parent
        return self.joint("CustomJoint", "tip_joint", parent, self.tip, transform)

    def coupler(self, dependent: str, drivers: Sequence[str], function: Any) -> None:
        coupler = keep(opensim.CoordinateCouplerConstraint())
        coupler.setName(f"{dependent}_coupler")
        listed = opensim.ArrayStr()
        for driver in drivers:
            listed.append(driver)
        coupler.setIndependentCoordinateNames(listed)
        coupler.setDependentCoordinateName(dependent)
        coupler.setFunction(function)
        self.model.addConstraint(coupler)

    def save(self, folder: Path) -> Path:
        self.model.finalizeConnections()
        self.model.initSystem()
        path = folder / "small.osim"
        self.model.printToXML(str(path))
        return path


def linear(slope: float, constant: float = 0.0) -> Any:
    return keep(opensim.LinearFunction(slope, constant))


def linear_of(*coefficients: float) -> Any:
    """LinearFunction of several coordinates; the last coefficient is the constant."""
    function = keep(opensim.LinearFunction())
    listed = opensim.ArrayDouble()
    for value in coefficients:
        listed.append(value)
    function.setCoefficients(listed)
    return function


def constant(value: float) -> Any:
    return keep(opensim.Constant(value))


def multiplier(function: Any, factor: float) -> Any:
    copy = function.clone()
    copy.thisown = False
    return keep(opensim.MultiplierFunction(copy, factor))


def spline(make: Callable[[], Any], xs: Sequence[float], ys: Sequence[float]) -> Any:
    spline = keep(make())
    for x, y in zip(xs, ys, strict=True):
        spline.addPoint(float(x), float(y))
    return spline


def gcv_spline(degree: int) -> Any:
    spline = opensim.GCVSpline()
    spline.setDegree(degree)
    return spline


_XS = (-1.3, -0.6, -0.1, 0.35, 0.9, 1.5)
_UNEVEN_XS = (-1.3, -1.299, -0.1, -0.05, 0.9, 40.0)
_LONG_XS = (*_XS, 1.6, 2.2)
_LONG_YS = (0.02, -0.03, 0.07, 0.05, -0.04, 0.09, 0.1, -0.05)
_YS = (0.02, -0.03, 0.07, 0.05, -0.04, 0.09)


def functions() -> dict[str, Any]:
    """One function of each supported non-linear kind."""
    polynomial = keep(opensim.PolynomialFunction(opensim.Vector(np.array([0.02, -0.05, 0.1, 0.3]))))
    return {
        "SimmSpline": spline(opensim.SimmSpline, _XS, _YS),
        "SimmSpline of two points": spline(opensim.SimmSpline, (-0.5, 0.7), (0.1, -0.2)),
        "SimmSpline of three points": spline(
            opensim.SimmSpline, (-0.5, 0.1, 0.7), (0.1, 0.3, -0.2)
        ),
        "PiecewiseLinearFunction": spline(opensim.PiecewiseLinearFunction, _XS, _YS),
        "PolynomialFunction": polynomial,
        **{
            f"GCVSpline of degree {degree}": spline(
                lambda d=degree: gcv_spline(d), _LONG_XS, _LONG_YS
            )
            for degree in (1, 3, 5, 7)
        },
        "GCVSpline of two points": spline(lambda: gcv_spline(1), (-0.5, 0.7), (0.1, -0.2)),
        "PiecewiseLinearFunction with a jump": spline(
            opensim.PiecewiseLinearFunction, (-1.0, 0.2, 0.2, 1.1), _YS[:4]
        ),
        "PiecewiseLinearFunction of one point": spline(
            opensim.PiecewiseLinearFunction, (0.3,), (0.2,)
        ),
        "SimmSpline of uneven knots": spline(opensim.SimmSpline, _UNEVEN_XS, _YS),
        "MultivariatePolynomialFunction": keep(
            opensim.MultivariatePolynomialFunction(
                opensim.Vector(np.array([0.1, 0.3, -0.2, 0.05])), 1, 3
            )
        ),
        "MultiplierFunction": multiplier(spline(opensim.SimmSpline, _XS, _YS), -2.5),
        "MultiplierFunction of another": multiplier(multiplier(polynomial, 2.0), -0.7),
    }
