"""SMPL-H: the forward pass against the published formulas, the marker table, the static pose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from smplh_file import JOINTS, made_up_body, write_body_model

from d3ke.errors import InvalidInputError
from d3ke.kinematics import MarkerSet
from d3ke_platform.sources.smplh_body import (
    SMPLHBody,
    check_body_model,
    mesh_volume,
)
from d3ke_platform.sources.smplh_markers import marker_table, static_pose, virtual_markers

FACTS = Path(__file__).resolve().parents[4] / "shared" / "facts"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("body") / "male" / "model.npz"
    write_body_model(path, pose_blend=1e-3)
    return path


@pytest.fixture(scope="module")
def body(file: Path) -> SMPLHBody:
    return SMPLHBody(file)


def published_formulas(
    file: Path, poses: np.ndarray, betas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Loper et al. 2015, equations 2 to 10, in the plainest form."""
    model = np.load(file)
    parents = model["kintree_table"][0]
    shaped = model["v_template"] + model["shapedirs"] @ betas
    rest = model["J_regressor"] @ shaped
    turns = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, JOINTS, 3, 3)
    corrections = (turns[:, 1:] - np.eye(3)).reshape(len(poses), -1)
    vertices, joints = [], []
    for frame, correction in zip(turns, corrections, strict=True):
        posed = shaped + model["posedirs"] @ correction
        world = np.zeros((JOINTS, 4, 4))
        for joint in range(JOINTS):
            local = np.eye(4)
            local[:3, :3] = frame[joint]
            local[:3, 3] = rest[joint] - (rest[parents[joint]] if joint else 0.0)
            world[joint] = local if joint == 0 else world[parents[joint]] @ local
        joints.append(world[:, :3, 3].copy())
        world[:, :3, 3] -= np.einsum("jab,jb->ja", world[:, :3, :3], rest)
        blended = np.einsum("vj,jab->vab", model["weights"], world)
        vertices.append(np.einsum("vab,vb->va", blended[:, :3, :3], posed) + blended[:, :3, 3])
    return np.array(vertices), np.array(joints)


def test_forward_pass_is_the_published_one(file: Path, body: SMPLHBody) -> None:
    """All joints turned, hands too, all shape coefficients, pose corrections: to a micrometre."""
    rng = np.random.default_rng(1)
    poses, betas = 0.4 * rng.normal(size=(3, 156)), rng.normal(size=16)
    translation = rng.normal(size=(3, 3))
    vertices, joints = published_formulas(file, poses, betas)
    found = body.pose(poses, betas, translation)
    np.testing.assert_allclose(found.vertices, vertices + translation[:, None], atol=3e-6)
    np.testing.assert_allclose(found.joints, joints + translation[:, None], atol=3e-6)


def test_pose_corrections_are_in_that_comparison(body: SMPLHBody) -> None:
    turned = np.zeros((1, 156))
    turned[0, 3:9] = 0.8  # the joints whose corrections the made-up file has
    plain = made_up_body()
    moved = body.pose(turned, np.zeros(16), np.zeros((1, 3))).vertices[0]
    still = np.flatnonzero(plain.weights[:, 15] == 1.0)  # the head: moved by corrections alone
    assert 1e-3 < np.abs(moved[still] - plain.vertices[still]).max() < 0.05


def test_chosen_vertices_and_long_motions_are_the_same(body: SMPLHBody) -> None:
    rng = np.random.default_rng(2)
    poses, translation = 0.2 * rng.normal(size=(130, 156)), rng.normal(size=(130, 3))
    chosen = [6889, 0, 3171]
    some = body.pose(poses, np.zeros(16), translation, chosen)
    last = body.pose(poses[-1:], np.zeros(16), translation[-1:])
    assert some.vertices.shape == (130, 3, 3)
    np.testing.assert_allclose(some.vertices[-1], last.vertices[0, chosen], atol=1e-6)
    np.testing.assert_allclose(some.joints[-1], last.joints[0], atol=1e-6)


def test_hands_get_no_mean_pose_and_soft_tissue_none(body: SMPLHBody) -> None:
    """AMASS's hand poses are absolute; the file's mean hands would curl the fingers."""
    rest = body.at_rest(np.zeros(16))
    np.testing.assert_allclose(rest.joints[0], made_up_body().joints, atol=1e-6)


def test_nothing_is_unpickled(file: Path, tmp_path: Path) -> None:
    """Old files hold objects of other packages beside the arrays; a file could hold anything."""
    path, touched = tmp_path / "model.npz", tmp_path / "unpickled"
    extra = np.array([_Touches(str(touched))], object)
    np.savez(path, **dict(np.load(file)), J_regressor_prior=extra)
    rest = SMPLHBody(path).at_rest(np.zeros(16))
    np.testing.assert_allclose(rest.joints[0], made_up_body().joints, atol=1e-6)
    assert not touched.exists()
    np.load(path, allow_pickle=True)["J_regressor_prior"]
    assert touched.exists()
    np.savez(path, **dict(np.load(file)) | {"weights": extra})
    with pytest.raises(InvalidInputError, match="weights has shape 1, not 6890x52"):
        SMPLHBody(path)


class _Touches:
    """Unpickling it makes a file."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (self._path, "w")


def test_volume_of_known_bodies() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    assert mesh_volume(corners, faces) == pytest.approx(1 / 6)
    assert mesh_volume(corners * 2.0 + [5.0, -3.0, 7.0], faces) == pytest.approx(8 / 6)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:100_000]), "damaged or broken off"),
        (lambda path: np.savez(path, eigvec=np.zeros(3)), "holds no v_template"),
        (lambda path: _replace(path, shapedirs=np.zeros((6890, 3, 10))), "6890x3x10, not"),
        (lambda path: _replace(path, weights=np.zeros((6890, 24))), "6890x24, not 6890x52"),
    ],
)
def test_other_files_are_refused_in_one_line(
    tmp_path: Path, file: Path, damage: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(file.read_bytes())
    damage(path)
    with pytest.raises(InvalidInputError, match=reason) as caught:
        check_body_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def _replace(path: Path, **changes: np.ndarray) -> None:
    np.savez(path, **dict(np.load(path)) | changes)


def test_marker_table_has_the_references_markers() -> None:
    table = marker_table()
    counts = map(len, (table.vertices, table.joints, table.midpoints, table.ground_projections))
    assert tuple(counts) == (66, 52, 12, 12)
    assert len(set(table.names)) == 142
    if not FACTS.is_dir():
        pytest.skip("needs ../shared/facts")
    facts = json.loads((FACTS / "markers.json").read_text())["markers"]
    for name, vertex in table.vertices.items():
        assert facts[name]["smplh_vertex_index"] == vertex
    for index, name in enumerate(table.joints):
        assert facts[name]["smplh_joint_index"] == index


def test_marker_set_computes_the_same_markers() -> None:
    markers, table = MarkerSet.builtin("smplh"), marker_table()
    assert set(markers.names) <= set(table.names)
    for name, sources in markers.midpoints.items():
        assert set(sources) == set(table.midpoints[name])
    for name, source in markers.ground_projections.items():
        assert source == table.ground_projections[name]
    rng = np.random.default_rng(3)
    points = virtual_markers(
        rng.normal(size=(2, 66, 3)), rng.normal(size=(2, 52, 3)), rate_hz=120.0, floor_height=-0.3
    )
    complete = markers.complete(points, floor_height=-0.3)
    np.testing.assert_allclose(complete.positions, points.reordered(markers.names).positions)


def test_static_pose_stands_in_ground_axes(body: SMPLHBody) -> None:
    """Facing x, y up, the right side at +z, on the floor of the lowest vertex; 0.55 s."""
    static = static_pose(body, np.zeros(16))
    markers = static.markers
    assert markers.positions.shape == (66, 142, 3)
    assert markers.times[-1] == pytest.approx(65 / 120)
    assert np.ptp(markers.positions, axis=0).max() == 0.0
    at = {name: markers.marker(name)[0] for name in markers.names}
    assert at["RTOE"][0] > at["RHEE"][0] + 0.1
    assert at["STRN"][0] > at["T10"][0] + 0.1
    assert at["RWRIST"][2] > 0.5 > -0.5 > at["LWRIST"][2]
    assert at["HEAD"][1] - at["RAJC"][1] == pytest.approx(1.47, abs=0.02)
    floor = at["Virtual_Ground_RHEE"][1]
    mesh = made_up_body().vertices[:, 1]
    assert floor == pytest.approx(mesh.min(), abs=1e-6)
    np.testing.assert_allclose(at["Virtual_Ground_RHEE"][[0, 2]], at["RHEE"][[0, 2]], atol=1e-9)
    assert static.height_m == pytest.approx(np.ptp(mesh), abs=1e-6)


def test_mass_is_that_of_the_meshs_volume(body: SMPLHBody) -> None:
    average = static_pose(body, np.zeros(16))
    larger = static_pose(body, np.array([2.0] + [0.0] * 15))  # ten per cent in every direction
    assert 40.0 < average.mass_kg < 90.0
    assert larger.mass_kg / average.mass_kg == pytest.approx(1.1**3, rel=1e-4)
    assert larger.height_m / average.height_m == pytest.approx(1.1, rel=1e-5)


def test_moving_markers_have_no_floor() -> None:
    points = virtual_markers(np.zeros((1, 66, 3)), np.zeros((1, 52, 3)), rate_hz=120.0)
    for name in marker_table().ground_projections:
        assert np.isnan(points.marker(name)).all()
