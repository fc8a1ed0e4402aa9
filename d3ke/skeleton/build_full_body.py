"""Build the built-in full-body model from its published figures.

    python -m d3ke.skeleton.build_full_body FACTS_DIR

writes d3ke/skeleton/models/full_body.osim and the three JSON files beside it. FACTS_DIR holds
skeleton.json, markers.json, scale_measurements.json and predicted_sets.json: the figures of the
paper's model (58 bodies, 58 joints, 95 coordinates, 87 markers), as published.

What is mended, against those figures:

- Left and right are made mirror images: offsets, orientations, axes, markers, masses and bone
  sizes are the mean of the right side and the mirrored left; bodies on the midline lose their
  sideways offsets; ranges are the wider of the two sides. Left axes point so that an angle has
  the same anatomical sense on both sides.
- The left ankle's axis held pi/3 in place of 0.979 and its range ended 20 degrees early: both are
  the mirror of the right.
- The left shoulder lacked the coupler shoulder1_r2 = -elv_angle, which left its angles with a
  free null space and incomparable with the right's: shoulder1_r2_con_l is added (22 couplers).
- Couplers are in the state used for inverse kinematics: the three that would tie the clavicle
  and scapula to the arm's elevation are released on each side.
- elbow_y (both sides) and ribs_bending are locked, as in inverse kinematics.
- Twelve joint-centre markers (hip, knee, ankle, shoulder, elbow, wrist) sit in the joint centres,
  where measurements between them are unbiased. Virtual_RELC, Virtual_LELC, Virtual_RWRIST and
  Virtual_LWRIST, which the published model lacks, are added. Markers are on the bodies that
  carry them while scaling; knee and ankle markers move on afterwards (d3ke.kinematics).
- Bodies without mass or inertia get small ones (an ellipsoid of the bone's size), so that the
  model can be scaled by mass and simulated.
- Every body with a bone shows a plain ellipsoid of that size; no mesh files are needed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d3ke.skeleton.full_body_figures import Figures
from d3ke.skeleton.full_body_sets import measurement_set, predicted_set
from d3ke.skeleton.osim_document import quiet_opensim
from d3ke.skeleton.skeleton import Skeleton, full_body_model_path

Array = NDArray[np.float64]

NAME = "d3ke_full_body"
_LEAST_MASS = 1e-3  # kg
_LEAST_SIZE = np.full(3, 0.02)  # m, of a body without a bone


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the model files; one argument: the folder of figures."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1:
        sys.stderr.write("usage: python -m d3ke.skeleton.build_full_body FACTS_DIR\n")
        return 2
    figures = Figures(Path(given[0]))
    path = full_body_model_path()
    build_model(figures, path)
    skeleton = Skeleton.from_osim(path)
    skeleton.save(path.with_suffix(".json"))
    measurements = measurement_set(figures)
    measurements.check_markers(skeleton)
    measurements.save(path.with_name("full_body_measurements.json"))
    predicted_set(figures).save(path.with_name("full_body_predicted.json"))
    return 0


def build_model(figures: Figures, path: Path) -> None:
    """Write the OpenSim model."""
    with quiet_opensim() as opensim:
        builder = _Builder(opensim, figures)
        for body in figures.bodies:
            builder.add_body(body)
        for joint in figures.joints:
            builder.add_joint(joint)
        for coordinate in figures.coordinates:
            builder.add_coupler(coordinate)
        for marker in figures.markers:
            builder.add_marker(marker)
        builder.model.finalizeConnections()
        builder.model.initSystem()
        builder.model.printToXML(str(path))


class _Builder:
    """Adds parts to one OpenSim model; keeps what OpenSim takes over alive."""

    def __init__(self, opensim: Any, figures: Figures) -> None:
        self.opensim, self.figures = opensim, figures
        self.model = opensim.Model()
        self.model.setName(NAME)
        self.model.set_credits(
            "Figures of the D3KE paper's full-body model, made symmetric and mended."
        )
        self.kept: list[Any] = []

    def _vec3(self, values: Array) -> Any:
        return self.opensim.Vec3(*(float(value) for value in values))

    def _keep(self, part: Any) -> Any:
        self.kept.append(part)
        return part

    def add_body(self, name: str) -> None:
        figures = self.figures
        extents = figures.bone_extents(name)
        mass = max(figures.mass(name), _LEAST_MASS)
        inertia = figures.inertia(name)
        if not inertia[:3].any():
            squares = (np.maximum(extents, _LEAST_SIZE) / 2) ** 2
            inertia = np.concatenate([mass / 5 * (squares.sum() - squares), np.zeros(3)])
        body = self._keep(
            self.opensim.Body(
                name,
                mass,
                self._vec3(figures.mass_center(name)),
                self.opensim.Inertia(*(float(value) for value in inertia)),
            )
        )
        self.model.addBody(body)
        if extents.any():
            self._add_bone(body, extents)

    def _add_bone(self, body: Any, extents: Array) -> None:
        opensim = self.opensim
        middle = self._bone_middle(body.getName(), extents)
        place = opensim.Transform(self._vec3(middle))
        frame = self._keep(opensim.PhysicalOffsetFrame(f"{body.getName()}_bone", body, place))
        body.addComponent(frame)
        bone = self._keep(opensim.Ellipsoid(*(float(size) / 2 for size in extents)))
        bone.setColor(self._vec3(np.array([0.9, 0.87, 0.78])))
        frame.attachGeometry(bone)

    def _bone_middle(self, body: str, extents: Array) -> Array:
        """Half way to the joint at the body's far end; bodies without one lie at their mass."""
        ends = [
            self.figures.offset(name, "parent")
            for name, joint in self.figures.joints.items()
            if joint["parent_body"] == body and np.any(joint["parent_translation_m"])
        ]
        far = max(ends, key=lambda end: float(np.linalg.norm(end)), default=None)
        if far is not None and np.linalg.norm(far) > extents.max() / 2:
            return far / 2
        return self.figures.mass_center(body)

    def add_joint(self, name: str) -> None:
        figures, opensim = self.figures, self.opensim
        joint = figures.joints[name]
        frames = []
        for end in ("parent", "child"):
            body = joint[f"{end}_body"]
            ground = self.model.getGround()
            frames += [
                ground if body == "ground" else self.model.getBodySet().get(body),
                self._vec3(figures.offset(name, end)),
                self._vec3(figures.orientation(name, end)),
            ]
        if joint["type"] == "WeldJoint":
            self.model.addJoint(self._keep(opensim.WeldJoint(name, *frames)))
            return
        custom = self._keep(opensim.CustomJoint(name, *frames, self._transform(name)))
        self.model.addJoint(custom)
        for index in range(custom.numCoordinates()):
            self._set_coordinate(custom.upd_coordinates(index))

    def _transform(self, joint: str) -> Any:
        opensim = self.opensim
        transform = self._keep(opensim.SpatialTransform())
        for slot, (coordinate, axis) in enumerate(self.figures.axes(joint)):
            part = transform.updTransformAxis(slot)
            names = opensim.ArrayStr()
            if coordinate is not None:
                names.append(coordinate)
            part.setCoordinateNames(names)
            part.setAxis(self._vec3(axis))
            # set_function copies; setFunction would take over an object Python also owns.
            line = opensim.LinearFunction(1.0, 0.0)
            part.set_function(opensim.Constant(0.0) if coordinate is None else line)
        return transform

    def _set_coordinate(self, coordinate: Any) -> None:
        name = coordinate.getName()
        low, high = self.figures.range(name)
        coordinate.setRangeMin(low)
        coordinate.setRangeMax(high)
        coordinate.setDefaultValue(self.figures.default(name))
        coordinate.setDefaultClamped(True)
        coordinate.setDefaultLocked(self.figures.locked(name))

    def add_coupler(self, coordinate: str) -> None:
        found, opensim = self.figures.coupler(coordinate), self.opensim
        if found is None:
            return
        slope = self._slope(found)
        coupler = self._keep(opensim.CoordinateCouplerConstraint())
        coupler.setName(found["name"])
        drivers = opensim.ArrayStr()
        drivers.append(found["independent"][0])
        coupler.setIndependentCoordinateNames(drivers)
        coupler.setDependentCoordinateName(coordinate)
        line = self._keep(opensim.LinearFunction(slope, 0.0))
        coupler.setFunction(line)
        coupler.set_isEnforced(bool(found["enforced"]))
        self.model.addConstraint(coupler)

    def _slope(self, coupler: dict[str, Any]) -> float:
        """The published two-point splines are straight lines through the origin, of a slope with
        at most four decimals."""
        x, y = coupler["function"]["x"], coupler["function"]["y"]
        return round(float((y[1] - y[0]) / (x[1] - x[0])), 4)

    def add_marker(self, name: str) -> None:
        body = self.model.getBodySet().get(self.figures.marker_body(name))
        location = self._vec3(self.figures.marker_location(name))
        marker = self._keep(self.opensim.Marker(name, body, location))
        marker.set_fixed(bool(self.figures.markers[name]["fixed_in_marker_placer"]))
        self.model.addMarker(marker)


if __name__ == "__main__":
    sys.exit(main())
