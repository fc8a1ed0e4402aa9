"""Model files: old versions, parts attached anywhere, names, and files that are no model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import opensim
import pytest
import torch
from old_documents import old_document
from osim_models import (
    REPOSITORY,
    SmallModel,
    constant,
    functions,
    keep,
    largest_error,
    linear,
    vec3,
)

from d3ke.errors import InvalidInputError, UnsupportedModelError
from d3ke.skeleton import SkeletalModelLayer, Skeleton

EXACT = 1e-9  # m or rad


def _errors(path: Path) -> float:
    return max(largest_error(path, poses=10), largest_error(path, poses=10, scaled=True))


def _pin_chain() -> SmallModel:
    model = SmallModel()
    model.joint("PinJoint", "tip_joint", model.base, model.tip)
    return model


@pytest.mark.parametrize("version", [10905, 11000, 20001, 20302, 30000, 30500])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_old_documents(version: int, is_reversed: bool, tmp_path: Path) -> None:
    path = tmp_path / "old.osim"
    path.write_text(old_document(version, is_reversed=is_reversed))
    skeleton = Skeleton.from_osim(path)
    ends = [0, 1, 2], [-1, 0, 1]
    parents, children = ends if is_reversed else ends[::-1]
    assert skeleton.joint_parents.tolist() == parents
    assert skeleton.joint_children.tolist() == children
    assert _errors(path) < EXACT


@pytest.mark.parametrize("disabled", [False, True])
def test_a_disabled_coupler_of_an_old_document(disabled: bool, tmp_path: Path) -> None:
    path = tmp_path / "old.osim"
    path.write_text(old_document(30000, coupler_disabled=disabled))
    skeleton = Skeleton.from_osim(path)
    assert skeleton.coupled == (() if disabled else ("pin",))
    assert skeleton.ignored == (("CoordinateCouplerConstraint follow",) if disabled else ())
    assert largest_error(path, poses=10) < EXACT


def test_nothing_is_printed_or_written(tmp_path: Path) -> None:
    """Not for an old document with absent geometry, nor for a model OpenSim cannot assemble."""
    (tmp_path / "old.osim").write_text(old_document(20302))
    model = _pin_chain()
    tie = opensim.ConstantDistanceConstraint(
        model.model.getGround(), opensim.Vec3(0), model.tip, opensim.Vec3(0), 9.0
    )
    tie.setName("tie")
    model.model.addConstraint(keep(tie))
    model.model.finalizeConnections()
    model.model.printToXML(str(tmp_path / "tied.osim"))
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from d3ke.skeleton import Skeleton\n"
            "Skeleton.from_osim('../old.osim')\n"
            "Skeleton.from_osim('../tied.osim', allow_ignored=['tie'])",
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert list(folder.iterdir()) == []


def test_parts_attached_to_other_parts(tmp_path: Path) -> None:
    model = _pin_chain()
    inner = keep(opensim.Body("inner", 1.0, opensim.Vec3(0), opensim.Inertia(1.0, 1.0, 1.0)))
    model.tip.addComponent(inner)
    places = [vec3(values) for values in ((0.1, 0.2, 0.3), (0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.2))]
    joint = keep(opensim.UniversalJoint("j", model.tip, *places[:2], inner, *places[2:]))
    model.tip.addComponent(joint)
    model.model.addComponent(keep(opensim.Marker("loose", inner, vec3((0.1, 0.2, 0.3)))))
    path = model.save(tmp_path)
    skeleton = Skeleton.from_osim(path)
    assert set(skeleton.bodies) == {"base", "tip", "inner"}
    assert skeleton.markers == ("base_marker", "tip_marker", "loose")
    assert _errors(path) < EXACT


def test_markers_and_stations_on_chained_frames(tmp_path: Path) -> None:
    model = _pin_chain()
    for body in (model.tip, model.model.getGround()):
        frame, name = body, body.getName()
        for number in range(2):
            turn = opensim.Rotation(0.4 + number, opensim.CoordinateAxis(number))
            place = opensim.Transform(turn, vec3((0.1, 0.03, -0.2)))
            frame = keep(opensim.PhysicalOffsetFrame(f"{name}{number}", frame, place))
            body.addComponent(frame)
        model.marker(f"{name}_framed", frame, (0.2, 0.1, 0.3))
        station = keep(opensim.Station(frame, vec3((0.1, -0.2, 0.3))))
        station.setName(f"{name}_station")
        model.model.addComponent(station)
    path = model.save(tmp_path)
    markers = Skeleton.from_osim(path).markers
    assert markers[2:] == ("tip_framed", "ground_framed", "tip_station", "ground_station")
    assert _errors(path) < EXACT


def test_names_that_occur_twice_are_lengthened_by_their_paths(tmp_path: Path) -> None:
    model = SmallModel(base_joint=None)
    for name, parent, child in (
        ("hip", model.model.getGround(), model.base),
        ("knee", model.base, model.tip),
    ):
        model.joint("PinJoint", name, parent, child).upd_coordinates(0).setName("q")
    station = keep(opensim.Station(model.base, vec3((0.1, -0.2, 0.3))))
    station.setName("tip_marker")
    model.base.addComponent(station)
    path = model.save(tmp_path)
    skeleton = Skeleton.from_osim(path)
    assert skeleton.coordinates == ("hip/q", "knee/q")
    assert skeleton.markers == ("base_marker", "markerset/tip_marker", "base/tip_marker")
    assert _errors(path) < EXACT


def test_what_has_no_effect_is_listed_wherever_it_sits(tmp_path: Path) -> None:
    model = _pin_chain()
    ground, whole = model.model.getGround(), model.model
    points = ground, opensim.Vec3(0), model.tip, opensim.Vec3(0)
    muscle = keep(opensim.Thelen2003Muscle("muscle", 1.0, 0.1, 0.2, 0.0))
    for number, body in enumerate((model.base, model.tip)):
        muscle.addNewPathPoint(f"point{number}", body, vec3((0.1, 0.1, number)))
    whole.addForce(muscle)
    spring = keep(opensim.PointToPointSpring(*points, 1.0, 0.2))
    spring.setName("spring")
    model.tip.addComponent(spring)
    controller = keep(opensim.PrescribedController())
    controller.setName("controller")
    whole.addController(controller)
    whole.addContactGeometry(keep(opensim.ContactSphere(0.1, vec3((0, 0, 0)), model.tip, "ball")))
    wrap = keep(opensim.WrapCylinder())
    wrap.setName("wrap")
    model.tip.addWrapObject(wrap)
    model.tip.attachGeometry(keep(opensim.Mesh("absent.vtp")))
    path = model.save(tmp_path)
    skeleton = Skeleton.from_osim(path)
    assert sorted(skeleton.ignored) == [
        "ContactSphere ball",
        "PointToPointSpring spring",
        "PrescribedController controller",
        "Thelen2003Muscle muscle",
        "WrapCylinder wrap",
    ]
    assert skeleton.markers == ("base_marker", "tip_marker")  # not the muscle's points
    assert _errors(path) < EXACT


@pytest.mark.parametrize(("function", "start"), [(constant(0.9), 0.9), (linear(2.0, 0.3), 0.3)])
def test_locked_clamped_and_prescribed_coordinates(
    function: Any, start: float, tmp_path: Path
) -> None:
    model = SmallModel()
    joint = model.joint("UniversalJoint", "tip_joint", model.base, model.tip)
    prescribed, locked = joint.upd_coordinates(0), joint.upd_coordinates(1)
    prescribed.setPrescribedFunction(function)
    prescribed.setDefaultIsPrescribed(True)
    prescribed.setDefaultValue(0.4)
    locked.setDefaultLocked(True)
    locked.setDefaultValue(-0.2)
    locked.setDefaultClamped(True)
    path = model.save(tmp_path)
    skeleton = Skeleton.from_osim(path)
    assert skeleton.coordinate_locked.tolist() == [False] * 3 + [True, True]
    assert skeleton.coordinate_clamped[-1]
    assert skeleton.coordinate_defaults.tolist() == [0.0, 0.0, 0.0, start, -0.2]
    fresh = opensim.Model(str(path))
    state = fresh.initSystem()
    found = [fresh.getCoordinateSet().get(i).getValue(state) for i in range(5)]
    assert found == pytest.approx(skeleton.coordinate_defaults, abs=1e-12)
    assert _errors(path) < EXACT


def test_ground_as_the_child_of_a_joint(tmp_path: Path) -> None:
    model = SmallModel(base_joint=None)
    model.joint("PlanarJoint", "base_joint", model.base, model.model.getGround())
    model.joint("FreeJoint", "tip_joint", model.tip, model.base)
    assert _errors(model.save(tmp_path)) < EXACT


def test_a_body_without_a_joint_gets_opensims_free_joint(tmp_path: Path) -> None:
    path = SmallModel().save(tmp_path)
    skeleton = Skeleton.from_osim(path)
    assert skeleton.joints == ("base_joint", "free_tip")
    assert _errors(path) < EXACT


def test_a_model_of_nothing_but_ground(tmp_path: Path) -> None:
    model = opensim.Model()
    model.addMarker(keep(opensim.Marker("origin", model.getGround(), vec3((1, 2, 3)))))
    path = tmp_path / "ground.osim"
    model.finalizeConnections()
    model.printToXML(str(path))
    skeleton = Skeleton.from_osim(path)
    assert (skeleton.bodies, skeleton.joints, skeleton.markers) == ((), (), ("origin",))
    assert largest_error(path, poses=2) < EXACT
    skeleton.save(tmp_path / "ground.json")
    assert Skeleton.load(tmp_path / "ground.json").content_hash() == skeleton.content_hash()


def test_a_frame_that_turns_with_the_scale_is_refused(tmp_path: Path) -> None:
    model = _pin_chain()
    for number, place in enumerate(((0.1, 0, 0), (0, 0.1, 0), (0, 0, 0.1), (0.1, 0.1, 0.1))):
        station = keep(opensim.Station(model.base, vec3(place)))
        station.setName(f"s{number}")
        model.base.addComponent(station)
    path = model.save(tmp_path)
    sockets = zip(("point_a", "point_b", "point_c", "origin_point"), range(4), strict=True)
    frame = "".join(f"<socket_{s}>/bodyset/base/s{n}</socket_{s}>" for s, n in sockets)
    frame = f"<StationDefinedFrame name='bony'>{frame}</StationDefinedFrame></components>"
    text = path.read_text().replace("</components>", frame, 1)
    path.write_text(text)
    assert Skeleton.from_osim(path).ignored == ("StationDefinedFrame bony",)
    marker = text.index('<Marker name="tip_marker">')
    path.write_text(text[:marker] + text[marker:].replace("/bodyset/tip", "/bodyset/base/bony", 1))
    with pytest.raises(UnsupportedModelError, match=r"'bony' of marker 'tip_marker'.*StationDef"):
        Skeleton.from_osim(path)


def _text(folder: Path) -> str:
    model = SmallModel()
    model.custom_joint({0: (linear(1.0), ["a"]), 3: (functions()["SimmSpline"], ["a"])})
    return model.save(folder).read_text()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda text: "", "no well-formed XML.*line 1"),
        (lambda text: "not xml", "no well-formed XML.*line 1"),
        (lambda text: text[:3000], "no well-formed XML.*line"),
        (lambda text: "<OpenSimDocument></OpenSimDocument>", "its OpenSimDocument is empty"),
        (lambda text: "<html><body>404</body></html>", "outermost element is .html., not"),
        (lambda text: re.sub(r"(?s)<Model.*</Model>", "<ScaleSet/>", text), "a ScaleSet, not a"),
        (lambda text: text.replace("CustomJoint", "PluginJoint"), "PluginJoint"),
        (lambda text: text.replace("SimmSpline", "PluginSpline"), "PluginSpline"),
        (lambda text: text.replace("/bodyset/base<", "/bodyset/gone<"), "/bodyset/gone"),
    ],
)
def test_a_malformed_file_is_a_clear_error(broken: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.osim"
    path.write_text(broken(_text(tmp_path)))
    with pytest.raises(InvalidInputError, match=rf"bad\.osim: .*{message}"):
        Skeleton.from_osim(path)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no such file"):
        Skeleton.from_osim(tmp_path / "absent.osim")
    with pytest.raises(InvalidInputError, match="is a folder"):
        Skeleton.from_osim(tmp_path)


def test_a_coupler_of_an_absent_coordinate_is_a_clear_error(tmp_path: Path) -> None:
    model = _pin_chain()
    model.coupler("tip_joint_coord_0", ["base_joint_coord_0"], linear(1.0))
    path = model.save(tmp_path)
    listed = "independent_coordinate_names>base_joint_coord_"
    path.write_text(path.read_text().replace(f"{listed}0", f"{listed}9"))
    with pytest.raises(InvalidInputError, match=r"independent coordinate base_joint_coord_9"):
        Skeleton.from_osim(path)


def test_saved_and_loaded_it_poses_the_same(tmp_path: Path) -> None:
    path = tmp_path / "old.osim"
    path.write_text(old_document(30000, coupler_disabled=False))
    skeleton = Skeleton.from_osim(path)
    skeleton.save(tmp_path / "old.json")
    loaded = Skeleton.load(tmp_path / "old.json")
    values = np.linspace(-1, 1, len(skeleton.coordinates))
    poses = torch.from_numpy(values)
    for first, second in zip(
        SkeletalModelLayer(skeleton)(poses),
        SkeletalModelLayer(loaded)(poses),
        strict=True,
    ):
        assert (first == second).all()
