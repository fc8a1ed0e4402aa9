"""OpenSim would follow an .osim file to others; here it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from d3ke.errors import InvalidInputError
from d3ke.kinematics.opensim_library import load_model
from d3ke.osim_file_guard import check_osim_file
from d3ke.skeleton import Skeleton

BODY = (
    '<Body name="{name}"><mass>1</mass><mass_center>0 0 0</mass_center>'
    "<inertia>1 1 1 0 0 0</inertia>{geometry}</Body>"
)
MODEL = (
    '<?xml version="1.0"?>{head}<OpenSimDocument Version="40000"><Model name="m">'
    '<Ground name="ground"/><BodySet name="bodyset"{attribute}><objects>{bodies}</objects>'
    "</BodySet></Model></OpenSimDocument>"
)


def write(folder: Path, *, head: str = "", attribute: str = "", geometry: str = "") -> Path:
    file = folder / "model.osim"
    bodies = BODY.format(name="own", geometry=geometry)
    file.write_text(MODEL.format(head=head, attribute=attribute, bodies=bodies))
    return file


def mesh(name: str | Path) -> str:
    return (
        '<attached_geometry><Mesh name="g"><mesh_file>'
        f"{name}</mesh_file></Mesh></attached_geometry>"
    )


def elsewhere(folder: Path) -> Path:
    """A file that OpenSim would take bodies from."""
    file = folder / "bodies.xml"
    body = BODY.format(name="foreign", geometry="")
    file.write_text(
        f'<OpenSimDocument Version="40000"><BodySet name="bodyset"><objects>{body}</objects>'
        "</BodySet></OpenSimDocument>"
    )
    return file


def test_a_usual_model_passes(tmp_path: Path) -> None:
    check_osim_file(write(tmp_path, geometry=mesh("femur.vtp"), attribute=' file=""'))
    (tmp_path / "femur.vtp").write_text("")
    check_osim_file(write(tmp_path, geometry=mesh("femur.vtp")))
    check_osim_file(write(tmp_path, head='<!-- <BodySet file="old.xml"/> <!DOCTYPE x> -->'))


def test_opensim_itself_would_take_the_part_from_the_other_file(tmp_path: Path) -> None:
    """What the guard is for; without it the next test would have nothing to hold off."""
    import opensim

    opensim.Logger.setLevelString("Off")
    file = write(tmp_path, attribute=f' file="{elsewhere(tmp_path)}"')
    model = opensim.Model(str(file))
    assert [body.getName() for body in model.getBodySet()] == ["foreign"]


@pytest.mark.parametrize("read", [check_osim_file, load_model, Skeleton.from_osim])
def test_a_part_in_another_file_is_refused(tmp_path: Path, read) -> None:
    for quote in "\"'":
        file = write(tmp_path, attribute=f" file={quote}{elsewhere(tmp_path)}{quote}")
        with pytest.raises(InvalidInputError, match="BodySet is in another file"):
            read(file)


@pytest.mark.parametrize("read", [check_osim_file, load_model, Skeleton.from_osim])
def test_a_document_type_is_refused(tmp_path: Path, read) -> None:
    file = write(tmp_path, head='<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/hostname">]>')
    with pytest.raises(InvalidInputError, match="document type"):
        read(file)


@pytest.mark.parametrize("read", [check_osim_file, load_model, Skeleton.from_osim])
def test_a_mesh_that_never_ends_is_refused(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "mesh.vtp")
    for name in ("mesh.vtp", tmp_path / "mesh.vtp", "/dev/zero"):
        with pytest.raises(InvalidInputError, match="not a regular file"):
            read(write(tmp_path, geometry=mesh(name)))
