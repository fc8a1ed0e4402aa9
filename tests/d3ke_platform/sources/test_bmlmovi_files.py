"""Readers of BML-MoVi's files: Visual3D, AMASS, calibration, and where they are found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bmlmovi_files as made_up
import h5py
import numpy as np
import pytest
import scipy.io

from d3ke.camera import project
from d3ke.errors import InvalidInputError
from d3ke_platform.errors import UsageError
from d3ke_platform.sources.bmlmovi_amass import GROUND_FROM_AMASS, amass_frame_count, read_amass
from d3ke_platform.sources.bmlmovi_cameras import read_camera
from d3ke_platform.sources.bmlmovi_inventory import paper_splits, subjects_without_video
from d3ke_platform.sources.bmlmovi_layout import find_files
from d3ke_platform.sources.bmlmovi_v3d import read_v3d

FACTS = Path(__file__).resolve().parents[4] / "shared" / "facts"
WALK, THROW = made_up.MOTIONS


def facts(name: str) -> Any:
    if not FACTS.is_dir():
        pytest.skip("needs ../shared/facts")
    return json.loads((FACTS / name).read_text())


@pytest.mark.parametrize("write", [made_up.write_v3d, made_up.write_v3d_hdf5])
def test_v3d_of_both_matlab_formats(tmp_path: Path, write: Callable[..., None]) -> None:
    """Limits count from 1 and include the last frame; names become lower case names."""
    path = tmp_path / "F_v3d_Subject_7.mat"
    write(path, 7, "Female", made_up.MOTIONS)
    subject = read_v3d(path)
    assert subject.sex == "female"
    assert [(m.name, m.first_frame, m.frame_count) for m in subject.motions] == [
        ("walking", 7, 15),
        ("throwing_catching", 25, 11),
    ]


def test_v3d_with_motions_cut_out_as_the_toolbox_does(tmp_path: Path) -> None:
    """The toolbox appends each motion to `move`, without limits; the first stays the whole."""
    path = tmp_path / "F_v3d_Subject_7.mat"
    whole = {"motions_list": np.array(["walking"], object), "flags30": np.array([[4.0, 9.0]])}
    move = np.empty((2, 1), object)
    move[0, 0], move[1, 0] = whole, {"description": "walking"}
    recording = {"subject": {"sex": "male"}, "move": move}
    scipy.io.savemat(path, {"Subject_7_F": recording})
    (motion,) = read_v3d(path).motions
    assert (motion.name, motion.first_frame, motion.frame_count) == ("walking", 3, 6)


def _v3d(path: Path, **changes: Any) -> None:
    move = {"motions_list": np.array(["walking"], object), "flags30": np.array([[4.0, 9.0]])}
    recording: dict[str, Any] = {"subject": {"sex": "male"}, "move": move}
    for key, value in changes.items():
        (recording["subject"] if key == "sex" else move)[key] = value
    if "flags30" in changes and changes["flags30"] is None:
        del move["flags30"]
    scipy.io.savemat(path, {"Subject_7_F": recording})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda p: p.unlink(), "there is no such file"),
        (lambda p: p.write_bytes(p.read_bytes()[:300]), "damaged or broken off"),
        (lambda p: p.write_text("not a MATLAB file at all " * 50), "damaged or broken off"),
        (lambda p: scipy.io.savemat(p, {"other": 1.0}), "no struct Subject_<id>_F.*only other"),
        (lambda p: _v3d(p, sex="unknown"), "the sex is 'unknown', not female or male"),
        (lambda p: _v3d(p, flags30=None), "no flags30"),
        (lambda p: _v3d(p, flags30=np.array([[9.0, 4.0]])), "motion 1 goes from .* 9 to 4"),
        (lambda p: _v3d(p, flags30=np.array([[0.0, 4.0]])), "motion 1 goes from .* 0 to 4"),
        (lambda p: _v3d(p, flags30=np.ones((2, 3))), r"shape \(2, 3\), not \(motions, 2\)"),
        (lambda p: _v3d(p, flags30=np.array([[1.0, 4], [5, 8]])), "names 1 motions.* 2 rows"),
    ],
)
def test_broken_v3d_files_are_refused_in_one_line(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "F_v3d_Subject_7.mat"
    _v3d(path)
    assert read_v3d(path).sex == "male"
    damage(path)
    with pytest.raises(InvalidInputError, match=reason) as caught:
        read_v3d(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_hdf5_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "F_v3d_Subject_7.mat"
    made_up.write_v3d_hdf5(path, 7, "male", made_up.MOTIONS)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InvalidInputError, match="damaged or broken off"):
        read_v3d(path)
    with pytest.raises(OSError, match="."):
        h5py.File(path)


def test_amass_motion(tmp_path: Path) -> None:
    path = tmp_path / "Subject_7_F_1_poses.npz"
    made_up.write_amass(path, WALK, [0.5, -1.0])
    motion, (poses, translation) = read_amass(path), WALK.poses()
    assert amass_frame_count(path) == 60
    assert motion.rate_hz == 120.0
    assert motion.betas.shape == (16,)
    np.testing.assert_array_equal(motion.poses, poses)
    np.testing.assert_array_equal(motion.translation, translation)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"poses": np.zeros((60, 165))}, "poses has shape .60, 165.*SMPL.H version"),
        ({"trans": np.zeros((59, 3))}, "60 poses and translations of shape .59, 3. do not match"),
        ({"poses": np.full((60, 156), np.nan)}, "poses holds values that are not finite"),
        ({"betas": np.zeros(10)}, "betas has shape .10,., not .16,"),
        ({"betas": None}, "holds no betas, only"),
        ({"mocap_framerate": None}, "states no frame rate"),
        ({"mocap_framerate": np.array(0.0)}, "a frame rate of 0 Hz"),
        ({"poses": np.array([{}] * 60, object)}, "."),
    ],
)
def test_broken_amass_files_are_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "Subject_7_F_1_poses.npz"
    made_up.write_amass(path, WALK, [0.5], **change)
    with pytest.raises(InvalidInputError, match=reason) as caught:
        read_amass(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 40, 2000])
def test_cut_short_amass_files_are_refused(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "Subject_7_F_1_poses.npz"
    made_up.write_amass(path, WALK, [0.5])
    path.write_bytes(path.read_bytes()[:kept])
    for read in (read_amass, amass_frame_count):
        with pytest.raises(InvalidInputError, match="damaged or broken off"):
            read(path)


@pytest.mark.parametrize("name", ["PG1", "PG2"])
def test_published_calibration_sees_what_the_reference_sees(tmp_path: Path, name: str) -> None:
    """MATLAB's rows, millimetres and world against the reference's camera in AMASS's world.

    Its pixels are one further: it took MATLAB's, which count from 1, for OpenCV's.
    """
    camera = facts("cameras.json")["cameras"][name]
    published, expected = camera["movi_toolbox_full_precision"], camera["reference_table"]
    intrinsics = np.array(published["K"])
    parameters, extrinsics = tmp_path / "cameraParams.npz", tmp_path / "Extrinsics.npz"
    np.savez(parameters, IntrinsicMatrix=intrinsics.T, RadialDistortion=published["radial_k1_k2"])
    np.savez(
        extrinsics,
        rotationMatrix=np.array(published["R_world_to_cam_movi_colvec"]).T,
        translationVector=1000.0 * np.array([published["t_m"]]),
    )
    found = read_camera(parameters, extrinsics)
    points = np.random.default_rng(4).uniform([-1, -1, 0], [1, 1, 2], size=(50, 3))
    seen = points @ np.array(expected["R_world_to_cam_amass"]).T
    seen += np.array(expected["t_world_to_cam_m"])
    flat = seen[:, :2] / seen[:, 2:]
    radius = np.sum(flat**2, axis=1, keepdims=True)
    k1, k2 = expected["radial_k1_k2"]
    pixels = flat * (1 + k1 * radius + k2 * radius**2) @ np.array(expected["K"])[:2, :2].T
    pixels += np.array(expected["K"])[:2, 2]
    found_pixels = project(found, points @ GROUND_FROM_AMASS.T)
    np.testing.assert_allclose(found_pixels, pixels - 1.0, atol=1e-3)
    center = GROUND_FROM_AMASS @ np.array(expected["camera_center_amass_m"])
    np.testing.assert_allclose(found.center, center, atol=1e-5)


def test_frontal_camera_is_in_front_and_sagittal_at_the_right() -> None:
    centers = {
        name: GROUND_FROM_AMASS @ camera["reference_table"]["camera_center_amass_m"]
        for name, camera in facts("cameras.json")["cameras"].items()
    }
    assert centers["PG1"][0] > 4.0
    assert centers["PG2"][2] > 3.0
    assert all(1.0 < center[1] < 2.0 for center in centers.values())


@pytest.fixture
def calibration(tmp_path: Path) -> tuple[Path, Path]:
    made_up.write_calibration(tmp_path, "PG1", made_up.cameras()["PG1"])
    return tmp_path / "cameraParams_PG1.npz", tmp_path / "Extrinsics_PG1.npz"


def test_calibration_comes_back(calibration: tuple[Path, Path]) -> None:
    found, expected = read_camera(*calibration), made_up.cameras()["PG1"]
    for name in ("intrinsics", "rotation", "translation", "distortion"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12)
    assert found.size == (800, 600)


def test_matlab_calibration_is_the_same(calibration: tuple[Path, Path]) -> None:
    """As the toolbox saves it: plain matrices, or the parameters as a struct."""
    parameters, extrinsics = (path.with_suffix(".mat") for path in calibration)
    scipy.io.savemat(parameters, {"cameraParams": dict(np.load(calibration[0]))})
    scipy.io.savemat(extrinsics, dict(np.load(calibration[1])))
    found, expected = read_camera(parameters, extrinsics), read_camera(*calibration)
    for name in ("intrinsics", "rotation", "translation", "distortion"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12)


def test_other_conventions_of_calibration_are_refused(calibration: tuple[Path, Path]) -> None:
    parameters, extrinsics = calibration
    lens, place = dict(np.load(parameters)), dict(np.load(extrinsics))
    rotation, translation = place["rotationMatrix"], place["translationVector"]
    for change, reason in (
        ({"rotationMatrix": rotation.T}, "another convention"),
        ({"rotationMatrix": rotation @ np.diag([1.0, -1.0, -1.0])}, "another convention"),
        ({"translationVector": translation / 1000.0}, "must be in millimetres"),
        ({"rotationMatrix": 2.0 * rotation}, "not a right-handed rotation"),
    ):
        np.savez(extrinsics, **place | change)
        with pytest.raises(InvalidInputError, match=reason):
            read_camera(parameters, extrinsics)
    np.savez(extrinsics, **place)
    np.savez(parameters, **lens | {"IntrinsicMatrix": lens["IntrinsicMatrix"].T})
    with pytest.raises(InvalidInputError, match="IntrinsicMatrix is not MATLAB's"):
        read_camera(parameters, extrinsics)
    scipy.io.savemat(parameters.with_suffix(".mat"), {"cameraParams": 1.0})
    with pytest.raises(InvalidInputError, match="Take the .npz file of the same name"):
        read_camera(parameters.with_suffix(".mat"), extrinsics)


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_are_found_in_any_folders(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    _touch(elsewhere, "Subject_3_F_MoSh/Subject_3_F_21_poses.npz", "Subject_3_F_MoSh/shape.npz")
    root = tmp_path / "root"
    _touch(
        root,
        "a/F_PG1_Subject_3_L.avi",
        "F_PG2_Subject_90.mp4",
        "F_PG1_Subject_3_L1.avi",  # a motion cut out by the toolbox
        "S1_PG1_Subject_3_L.avi",
        "F_v3d_Subject_3.mat",
        "S_v3d_Subject_3.mat",
        "Calib/cameraParams_PG1.npz",
        "Calib/cameraParams_PG1.mat",
        "Calib/Extrinsics_PG1.mat",
        "smplh/male/model.npz",
        "dmpls/male/model.npz",
        "smplh/neutral/model.npz",
        ".hidden/F_v3d_Subject_4.mat",
    )
    (root / "BMLmovi").symlink_to(elsewhere, target_is_directory=True)
    layout = find_files(root)
    assert set(layout.videos) == {(3, "PG1"), (90, "PG2")}
    assert set(layout.v3d) == {3}
    assert {s: set(k) for s, k in layout.motions.items()} == {3: {21}}
    assert layout.parameters["PG1"].suffix == ".npz"
    assert layout.extrinsics["PG1"].suffix == ".mat"
    assert layout.body_models == {"male": root / "smplh/male/model.npz"}
    assert layout.subjects() == [3, 90]


def test_a_folder_may_be_the_body_models_own(tmp_path: Path) -> None:
    _touch(tmp_path / "female", "model.npz")
    assert set(find_files(tmp_path).body_models) == {"female"}


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    _touch(tmp_path, "a/F_v3d_Subject_3.mat", "b/F_v3d_Subject_3.mat")
    with pytest.raises(InvalidInputError, match="b/F_v3d.* second time as .*a/F_v3d"):
        find_files(tmp_path)
    shutil.rmtree(tmp_path / "b")
    assert set(find_files(tmp_path).v3d) == {3}
    with pytest.raises(UsageError, match="no such folder"):
        find_files(tmp_path / "none")


def test_splits_are_the_papers_and_disjoint() -> None:
    splits = paper_splits()
    counts = {name: list(splits.values()).count(name) for name in set(splits.values())}
    assert counts == {"train": 67, "validation": 4, "test": 18}
    assert sorted({*splits, 12}) == list(range(1, 91))
    assert 12 not in splits
    listed = facts("splits.json")
    for split in counts:
        assert {n for n, name in splits.items() if name == split} == set(listed[split])
    assert subjects_without_video() == set(listed["readme_missing_video_ids"])
