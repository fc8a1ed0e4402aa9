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
        """[count, Q] uniform over the full ranges, couplers satisfied."""
        low, high = np.clip(self.skeleton.coordinate_ranges, -10, 10).T
        generator = np.random.default_rng(seed)
        values = generator.uniform(low, high, size=(count, len(low)))
        for _ in range(3):  # chains of couplers
            self._satisfy_couplers(values)
        return values

    def _satisfy_couplers(self, values: np.ndarray) -> None:
        coordinates = self.model.getCoordinateSet()
        constraints = self.model.getConstraintSet()
        position = {name: i for i, name in enumerate(self.skeleton.coordinates)}
        for index in range(constraints.getSize()):
            coupler = opensim.CoordinateCouplerConstraint.safeDownCast(constraints.get(index))
            if coupler is None or not coupler.get_isEnforced():
                continue
            names = coupler.getIndependentCoordinateNames()
            drivers = [position[names.get(i)] for i in range(names.getSize())]
            dependent = coupler.getDependentCoordinateName()
            assert coordinates.contains(dependent)
            factor = opensim.PropertyHelper.getValueDouble(
                coupler.getPropertyByName("scale_factor")
            )
            for row in values:
                arguments = opensim.Vector(row[drivers].astype(float))
                value = factor * coupler.getFunction().calcValue(arguments)
                row[position[dependent]] = value

    def pose(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """What Pose holds, in ground."""
        for name, value in zip(self.skeleton.coordinates, values, strict=True):
            coordinate = self.model.getCoordinateSet().get(name)
            coordinate.setLocked(self.state, False)
            coordinate.setValue(self.state, float(value), False)
        self.model.realizePosition(self.state)
        model, state, skeleton = self.model, self.state, self.skeleton
        bodies = [model.getBodySet().get(b).getTransformInGround(state) for b in skeleton.bodies]
        joints = [model.getJointSet().get(name).getChildFrame() for name in skeleton.joints]
        markers = [model.getMarkerSet().get(name) for name in skeleton.markers]
        return {
            "joint_centers": _rows([f.getPositionInGround(state) for f in joints]),
            "markers": _rows([m.getLocationInGround(state) for m in markers]),
            "body_rotations": np.array([_matrix(b.R()) for b in bodies]),
            "body_positions": _rows([b.p() for b in bodies]),
        }


def _rows(vectors: list[Any]) -> np.ndarray:
    return np.array([v.to_numpy() for v in vectors]).reshape(len(vectors), 3)


def largest_error(
    path: Path,
    *,
    poses: int,
    scaled: bool = False,
    uniform: bool = False,
    seed: int = 0,
    skeleton: Skeleton | None = None,
) -> float:
    """Largest difference (m, or matrix entry) between the layer and OpenSim, float64."""
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
    worst = 0.0
    for row in range(poses):
        for name, expected in oracle.pose(values[row]).items():
            difference = np.abs(getattr(found, name)[row].numpy() - expected)
            worst = max(worst, float(difference.max(initial=0.0)))
    return worst


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


def constant(value: float) -> Any:
    return keep(opensim.Constant(value))


def multiplier(function: Any, factor: float) -> Any:
    copy = function.clone()
    copy.thisown = False
    return keep(opensim.MultiplierFunction(copy, factor))


def _spline(make: Callable[[], Any], xs: Sequence[float], ys: Sequence[float]) -> Any:
    spline = keep(make())
    for x, y in zip(xs, ys, strict=True):
        spline.addPoint(float(x), float(y))
    return spline


def _gcv_spline(degree: int) -> Any:
    spline = opensim.GCVSpline()
    spline.setDegree(degree)
    return spline


_XS = (-1.3, -0.6, -0.1, 0.35, 0.9, 1.5)
_YS = (0.02, -0.03, 0.07, 0.05, -0.04, 0.09)


def functions() -> dict[str, Any]:
    """One function of each supported non-linear kind."""
    polynomial = keep(opensim.PolynomialFunction(opensim.Vector(np.array([0.02, -0.05, 0.1, 0.3]))))
    return {
        "SimmSpline": _spline(opensim.SimmSpline, _XS, _YS),
        "SimmSpline of two points": _spline(opensim.SimmSpline, (-0.5, 0.7), (0.1, -0.2)),
        "SimmSpline of three points": _spline(
            opensim.SimmSpline, (-0.5, 0.1, 0.7), (0.1, 0.3, -0.2)
        ),
        "PiecewiseLinearFunction": _spline(opensim.PiecewiseLinearFunction, _XS, _YS),
        "PolynomialFunction": polynomial,
        "GCVSpline of degree 3": _spline(lambda: _gcv_spline(3), _XS, _YS),
        "GCVSpline of degree 5": _spline(lambda: _gcv_spline(5), _XS, _YS),
        "MultiplierFunction": multiplier(_spline(opensim.SimmSpline, _XS, _YS), -2.5),
    }
