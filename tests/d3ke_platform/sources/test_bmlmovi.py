"""BML-MoVi's source: units, frame rule, axes, pictures, rejects, and the check of a download."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bmlmovi_files as made_up
import cv2
import numpy as np
import pytest

from d3ke.camera import project
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerSet, read_trc
from d3ke_platform import cli
from d3ke_platform.errors import UsageError
from d3ke_platform.files import content_hash, read_table
from d3ke_platform.pipelines.prepare import prepare
from d3ke_platform.pipelines.prepare_check import check_input
from d3ke_platform.pipelines.prepare_settings import CropSettings, PrepareSettings
from d3ke_platform.schema import BOXES, CROPS, LABELS, RECORDINGS, SUBJECTS, TRIALS
from d3ke_platform.sources import MadeUnit
from d3ke_platform.sources.bmlmovi import BMLMoViSettings, BMLMoViSource
from d3ke_platform.sources.smplh_body import SMPLHBody
from d3ke_platform.sources.smplh_markers import marker_table
from d3ke_platform.stages.crop import camera_of, trial_frames
from d3ke_platform.stages.decode import frames
from d3ke_platform.storage import DataSet

ROOT = Path(__file__).resolve().parents[3]
WALK, THROW = made_up.MOTIONS


@pytest.fixture(scope="session")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Subjects 1 (train), 2 (test) and 14 (validation); read only."""
    return made_up.write_download(tmp_path_factory.mktemp("download"))


@pytest.fixture
def copy(download: Path, tmp_path: Path) -> Path:
    """A copy to be damaged; large files are links until they are replaced."""
    target = tmp_path / "copy"
    shutil.copytree(download, target, copy_function=os.link)
    return target


def source(folder: Path, **settings: Any) -> BMLMoViSource:
    return BMLMoViSource(str(folder), BMLMoViSettings(**settings))


@pytest.fixture(scope="module")
def made(download: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeUnit, Path]:
    """Subject 1's walking, labelled at 120 Hz, with boxes of the mesh."""
    folder = tmp_path_factory.mktemp("data")
    maker = source(download, label_rate_hz=120.0, mesh_boxes=True, all_markers=True, subjects=(1,))
    made = [maker.make(unit, folder) for unit in units_of(maker, folder, "s001")]
    return made[3], folder


def units_of(maker: BMLMoViSource, folder: Path, subject: str) -> list[dict[str, Any]]:
    return [unit for unit in maker.plan(folder).units if unit["subject"] == subject]


def sample_vertices(download: Path, motion: made_up.MadeUpMotion) -> np.ndarray:
    """[T, 66, 3] m, the markers' vertices of subject 1 in AMASS's world, z up."""
    body = SMPLHBody(download / "smplh/female/model.npz")
    poses, translation = motion.poses()
    betas = np.array([*made_up.shape_of(1), *[0.0] * 13])
    return body.pose(poses, betas, translation, list(marker_table().vertices.values())).vertices


def test_plan_has_the_papers_splits_and_phases(download: Path, tmp_path: Path) -> None:
    plan = source(download).plan(tmp_path)
    assert SUBJECTS.from_rows(plan.subjects).num_rows == 3
    assert [(row["subject"], row["split"], row["sex"]) for row in plan.subjects] == [
        ("s001", "train", "female"),
        ("s002", "test", "male"),
        ("s014", "validation", "male"),
    ]
    assert [(u["unit"], u["phase"]) for u in plan.units if u["subject"] == "s001"] == [
        ("s001_static", 0),
        ("s001_video_PG1", 0),
        ("s001_video_PG2", 0),
        ("s001_01_walking", 1),
        ("s001_02_throwing_catching", 1),
    ]
    assert json.loads(json.dumps(plan.units)) == plan.units
    assert plan.model_osim.is_file()
    # A size of 5 % and a height of 5 % for each unit of the first two coefficients.
    size, height, _ = made_up.shape_of(1)
    tall = 1.7179 * (1 + 0.05 * (size + height))
    assert plan.subjects[0]["height_m"] == pytest.approx(tall, abs=2e-3)
    assert 55 < plan.subjects[0]["mass_kg"] < 70


def test_source_is_picklable_and_repeatable(download: Path, tmp_path: Path) -> None:
    first = source(download, subjects=(1,))
    plan = first.plan(tmp_path / "a")
    again = pickle.loads(pickle.dumps(first))
    assert again.plan(tmp_path / "b").units == plan.units
    for unit in plan.units[:4]:
        first.make(unit, tmp_path / "a")
        again.make(unit, tmp_path / "b")
    for path in sorted((tmp_path / "a").rglob("*.trc")):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert content_hash(path) == content_hash(other)


def test_rows_and_files(made: tuple[MadeUnit, Path], download: Path) -> None:
    unit, folder = made
    (trial,) = unit.trials
    assert TRIALS.from_rows(unit.trials).num_rows == 1
    assert RECORDINGS.from_rows(unit.recordings).num_rows == 2
    assert (trial["trial_id"], trial["movement"]) == ("s001_01_walking", "walking")
    assert (trial["rate_hz"], trial["frame_count"]) == (120.0, 60)
    for row in unit.recordings:
        assert (row["first_frame"], row["frame_count"], row["start_s"]) == (7, 15, 0.0)
        assert (row["width"], row["height"], row["fps"]) == (800, 600, 30.0)
        assert row["uri"] == str(made_up.video_path(download, 1, row["camera"]))
        assert row["content_hash"] == content_hash(row["uri"])
        assert row["calibrated"]
    labels = read_trc(folder / trial["markers_uri"])
    assert set(labels.names) == set(marker_table().names)
    static = read_trc(folder / "subjects/s001_static.trc")
    assert set(static.names) == set(marker_table().names)
    assert np.isfinite(static.positions).all()


@pytest.mark.parametrize("rate", [120.0, 30.0])
def test_video_frame_f_shows_mocap_sample_4f(download: Path, tmp_path: Path, rate: float) -> None:
    """Whatever the label rate: the label that a video frame gets is AMASS's sample 4 f."""
    maker = source(download, label_rate_hz=rate, subjects=(1,))
    units = units_of(maker, tmp_path, "s001")
    made = [maker.make(unit, tmp_path) for unit in units]
    for unit, motion in ((made[3], WALK), (made[4], THROW)):
        (trial,) = unit.trials
        row = unit.recordings[0]
        labels = read_trc(tmp_path / trial["markers_uri"])
        times = np.arange(row["frame_count"]) / 30.0 + row["start_s"]
        of_frames = trial_frames(
            times, fps=row["fps"], rate_hz=trial["rate_hz"], count=trial["frame_count"]
        )
        assert len(of_frames) == -(-motion.samples // 4)
        assert (of_frames == np.arange(len(of_frames)) * rate / 30.0).all()
        expected = sample_vertices(download, motion)[::4]
        # Ground: x is -y of AMASS's world, y is its z, z is -x.
        turned = np.stack([-expected[..., 1], expected[..., 2], -expected[..., 0]], axis=-1)
        names = [name for name in marker_table().vertices if name in labels.names]
        columns = [list(marker_table().vertices).index(name) for name in names]
        found = labels.reordered(names).positions[of_frames]
        np.testing.assert_allclose(found, turned[:, columns], atol=1e-6)


def test_a_video_longer_than_the_motion_has_frames_without_label(
    copy: Path, tmp_path: Path
) -> None:
    """The reference gives them the last label; here they have none."""
    path = made_up.amass_path(copy, 1, 1)
    path.unlink()
    made_up.write_amass(path, made_up.MadeUpMotion("walking", 53, 0.01), made_up.shape_of(1))
    maker = source(copy, label_rate_hz=120.0, mesh_boxes=True, subjects=(1,))
    made = [maker.make(unit, tmp_path) for unit in units_of(maker, tmp_path, "s001")]
    (trial,) = made[3].trials
    row = made[3].recordings[0]
    times = np.arange(row["frame_count"]) / 30.0
    count = trial["frame_count"]
    assert (row["frame_count"], count) == (15, 53)
    found = trial_frames(times, fps=30.0, rate_hz=120.0, count=count)
    assert found.tolist() == [4 * f for f in range(14)] + [-1]
    boxes = read_table(tmp_path / f"boxes/{row['recording_id']}.parquet")
    assert boxes.num_rows == 15


def test_a_standing_person_stands_in_ground(made: tuple[MadeUnit, Path]) -> None:
    """Head up (y), facing the frontal camera (x), the right hand at +z; metres."""
    unit, folder = made
    labels = read_trc(folder / unit.trials[0]["markers_uri"])
    at = {name: labels.marker(name)[0] for name in labels.names}
    assert at["HEAD"][1] - at["ROOT"][1] == pytest.approx(0.61, abs=0.05)
    assert at["ROOT"][1] - at["RANK"][1] > 0.8
    assert at["STRN"][0] > at["T10"][0] + 0.1
    assert at["RWRIST"][2] - at["LWRIST"][2] > 1.0
    walked = labels.marker("ROOT")[-1] - labels.marker("ROOT")[0]
    assert walked[2] == pytest.approx(59 * 0.01, abs=1e-3)  # to the person's right
    front, right = (camera_of(row).center for row in unit.recordings)
    assert front[0] == pytest.approx(5.0)
    assert right[2] == pytest.approx(4.6)


def test_markers_land_on_the_person_in_every_frame(made: tuple[MadeUnit, Path]) -> None:
    """In the long video, by first_frame; a frame too early or late would be 8 px aside."""
    unit, folder = made
    labels = read_trc(folder / unit.trials[0]["markers_uri"])
    names = list(marker_table().vertices)
    front, side = unit.recordings
    for row in (front, side):
        boxes = BOXES.to_numpy(read_table(folder / f"boxes/{row['recording_id']}.parquet"))
        pictures = list(frames(row["uri"], first=row["first_frame"], count=row["frame_count"]))
        assert len(pictures) == len(boxes["box"]) == 15
        for frame, box in zip(pictures, boxes["box"], strict=True):
            bright = frame.image[..., 0] > (made_up.DARK + made_up.BRIGHT) / 2
            near = cv2.dilate(bright.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            markers = labels.reordered(names).positions[4 * frame.index]
            columns, rows = np.rint(project(camera_of(row), markers)).astype(int).T
            assert near[rows, columns].all()
            seen_rows, seen_columns = np.nonzero(bright)
            seen = [seen_columns.min(), seen_rows.min(), seen_columns.max(), seen_rows.max()]
            np.testing.assert_allclose(box, seen, atol=3.0)
    empty = list(frames(front["uri"], first=front["first_frame"] - 1, count=1))
    assert (empty[0].image < 100).all()


def test_labels_have_only_the_models_markers_by_default(download: Path, tmp_path: Path) -> None:
    maker = source(download, cameras=("PG2",), subjects=(1,))
    made = [maker.make(unit, tmp_path) for unit in maker.plan(tmp_path).units]
    names = read_trc(tmp_path / made[-1].trials[0]["markers_uri"]).names
    assert names == MarkerSet.builtin("smplh").names
    assert [row["camera"] for row in made[-1].recordings] == ["PG2"]
    assert not (tmp_path / "boxes").exists()


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        ({"label_rate_hz": 50.0}, InvalidInputError, "50 is no whole fraction of 120"),
        ({"label_rate_hz": 240.0}, InvalidInputError, "240 is no whole fraction of 120"),
        ({"label_rate_hz": 0.0}, InvalidInputError, "0 is no whole fraction of 120"),
        ({"cameras": ("PG3",)}, UnknownNameError, "Did you mean 'PG[12]'"),
        ({"cameras": ()}, InvalidInputError, "must be distinct, not empty"),
        ({"subjects": (0,)}, InvalidInputError, "not all above 0"),
    ],
)
def test_settings_are_checked(
    settings: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        BMLMoViSettings(**settings)


def _replace(path: Path, content: bytes) -> None:
    path.unlink()  # a hard link: the original stays
    path.write_bytes(content)


def _shorten(path: Path, kept: int) -> None:
    _replace(path, path.read_bytes()[:kept])


def test_broken_material_rejects_what_belongs_to_it(copy: Path, tmp_path: Path) -> None:
    """One motion, one subject and one video are broken; everything else is made."""
    _shorten(made_up.amass_path(copy, 1, 2), 500)
    _shorten(made_up.v3d_path(copy, 2), 300)
    _shorten(made_up.video_path(copy, 14, "PG1"), 100)
    maker = source(copy)
    plan = maker.plan(tmp_path)
    made, rejected = {}, {}
    for unit in sorted(plan.units, key=lambda unit: unit.get("phase", 0)):
        try:
            made[unit["unit"]] = maker.make(unit, tmp_path)
        except InvalidInputError as error:
            rejected[unit["unit"]] = str(error)
    assert set(rejected) == {"s001_02_throwing_catching", "s002", "s014_video_PG1"}
    assert "Subject_1_F_2_poses.npz" in rejected["s001_02_throwing_catching"]
    assert "F_v3d_Subject_2.mat" in rejected["s002"]
    assert "F_PG1_Subject_14_L.avi" in rejected["s014_video_PG1"]
    assert [row["camera"] for row in made["s001_01_walking"].recordings] == ["PG1", "PG2"]
    assert [row["camera"] for row in made["s014_01_walking"].recordings] == ["PG2"]
    assert {row["subject"] for row in plan.subjects} == {"s001", "s014"}


def test_motions_that_do_not_belong_together_are_rejected(copy: Path, tmp_path: Path) -> None:
    """A motion of another length than its part of the video; 100 samples a second."""
    first, second = (made_up.amass_path(copy, 1, k) for k in (1, 2))
    for path in (first, second):
        path.unlink()
    made_up.write_amass(first, made_up.MadeUpMotion("walking", 300), made_up.shape_of(1))
    made_up.write_amass(second, THROW, made_up.shape_of(1), mocap_framerate=np.array(100.0))
    maker = source(copy, subjects=(1,))
    units = units_of(maker, tmp_path, "s001")
    with pytest.raises(InvalidInputError, match=r"lasts 2.5 s, its part of the videos 0.5 s"):
        maker.make(units[3], tmp_path)
    with pytest.raises(InvalidInputError, match="has 100 samples a second, not 120"):
        maker.make(units[4], tmp_path)


def test_a_shape_of_the_other_sex_is_rejected(copy: Path, tmp_path: Path) -> None:
    """Shape coefficients mean another body with the other model; neutral says nothing."""
    path = made_up.amass_path(copy, 1, 1)
    path.unlink()
    made_up.write_amass(path, WALK, made_up.shape_of(1), gender=np.array(b"male"))
    maker = source(copy, subjects=(1,))
    units = units_of(maker, tmp_path, "s001")
    with pytest.raises(InvalidInputError, match="with the male body model.*says female"):
        maker.make(units[3], tmp_path)
    report = source(copy).check()
    assert report.found["motions"] == 5
    assert sum("with the male body model" in text for text in report.problems) == 1


def test_motions_that_one_file_lacks_are_named(copy: Path, tmp_path: Path) -> None:
    made_up.amass_path(copy, 1, 1).unlink()
    made_up.write_amass(made_up.amass_path(copy, 2, 3), WALK, made_up.shape_of(2))
    maker = source(copy)
    report = maker.check()
    assert report.missing["amass_motions"] == "1: 1"
    assert report.missing["v3d_motions"] == "2: 3"
    assert report.found["motions"] == 5
    names = {unit["unit"] for unit in maker.plan(tmp_path).units}
    assert "s001_02_throwing_catching" in names
    assert not {"s001_01_walking", "s002_03_walking"} & names


def test_a_video_at_another_rate_or_too_short_is_rejected(copy: Path, tmp_path: Path) -> None:
    fast, short = (made_up.video_path(copy, 1, camera) for camera in ("PG1", "PG2"))
    pictures = [np.zeros((600, 800, 3), np.uint8)] * 20
    for path, fps in ((fast, 25), (short, 30)):
        path.unlink()
        made_up.write_video(path, pictures, fps=fps)
    maker = source(copy, subjects=(1,))
    units = units_of(maker, tmp_path, "s001")
    with pytest.raises(InvalidInputError, match="has 25 frames per second.*count 30"):
        maker.make(units[1], tmp_path)
    for unit in (units[0], units[2]):
        maker.make(unit, tmp_path)
    walking = maker.make(units[3], tmp_path)
    assert [(r["camera"], r["frame_count"]) for r in walking.recordings] == [("PG2", 13)]
    with pytest.raises(InvalidInputError, match="no camera shows it.*has 20 frames.*begins at"):
        maker.make(units[4], tmp_path)
    problems = source(copy).check().problems
    assert any("25 frames per second" in text for text in problems)
    assert any("has 20 frames, the last motion ends at frame 36" in text for text in problems)


def test_nothing_usable_is_said_at_plan_time(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing of BML-MoVi can be used. Run again with --check"):
        source(tmp_path).plan(tmp_path / "out")


def test_check_of_a_whole_download_of_three(download: Path) -> None:
    began = time.perf_counter()
    report = source(download).check()
    assert time.perf_counter() - began < 5.0
    assert report.usable
    assert report.found == {
        "subjects": 3,
        "train_subjects": 1,
        "validation_subjects": 1,
        "test_subjects": 1,
        "motions": 6,
        "videos": 6,
        "v3d": 3,
        "amass": 6,
        "body_models": 2,
        "cameras": 2,
    }
    assert report.missing["v3d"] == "3-6, 8-9, 11, 13, 15-25, 27-90"
    assert set(report.missing) == {"videos_PG1", "videos_PG2", "v3d", "amass"}
    assert len(report.get) == 3
    assert (report.problems, report.skipped) == ([], {})


def _without(pattern: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        paths = list(folder.rglob(pattern))
        assert paths
        for path in paths:
            path.unlink()

    return remove


@pytest.mark.parametrize(
    ("damage", "kind", "what", "skipped", "where"),
    [
        (_without("F_PG*"), "videos_PG1", "1-6", "no video of PG1 or PG2", "F_PG1_Subject_<id>_L"),
        (_without("F_v3d*"), "v3d", "1-6", "no Visual3D file", "F_Subjects_1_45.tar"),
        (_without("*_poses.npz"), "amass", "1-6", "no AMASS file", "AMASS .amass.is.tue.mpg.de"),
        (_without("smplh/*/*.npz"), "body_models", "female, male", "no SMPL-H model", "extended"),
        (_without("Extr*"), "cameras", "Extrinsics_PG1", "no camera parameters", "Camera Param"),
    ],
)
def test_check_names_what_is_missing_and_where_to_get_it(
    copy: Path, damage: Callable[[Path], None], kind: str, what: str, skipped: str, where: str
) -> None:
    damage(copy)
    report = source(copy).check()
    assert not report.usable
    assert what in report.missing[kind]
    assert any(reason.startswith(skipped) for reason in report.skipped)
    assert sum(where.split(" .")[0] in text for text in report.get) == 1


def test_known_gaps_are_not_missing(copy: Path) -> None:
    """Subject 7 has no published video, subject 12 is in no split: neither is asked for."""
    for subject in (7, 12):
        made_up.write_amass(made_up.amass_path(copy, subject, 1), WALK, [0.0])
        made_up.write_v3d(made_up.v3d_path(copy, subject), subject, "male", made_up.MOTIONS)
    report = source(copy).check()
    assert report.skipped == {
        "no video was published": "7",
        "in none of the paper's splits": "12",
    }
    assert "7" not in report.missing["videos_PG1"].split(", ")
    assert report.found["subjects"] == 3


def test_check_counts_what_the_rest_gives(copy: Path) -> None:
    """A broken calibration, motion and subject each take only what hangs on them."""
    _shorten(copy / "Calib/Extrinsics_PG2.npz", 50)
    _shorten(made_up.amass_path(copy, 1, 1), 500)
    _shorten(made_up.v3d_path(copy, 2), 300)
    report = source(copy).check()
    assert report.usable
    assert (report.found["subjects"], report.found["motions"]) == (2, 3)
    for name in ("Extrinsics_PG2.npz", "Subject_1_F_1_poses.npz", "F_v3d_Subject_2.mat"):
        assert sum(name in problem for problem in report.problems) == 1
    only = source(copy, cameras=("PG2",)).check()
    assert not only.usable


def test_check_command(download: Path) -> None:
    """Exit status 0 when something is usable, 1 when nothing is, 2 without a folder; no Ray."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}"}
    job = [sys.executable, str(ROOT / "jobs/prepare.py"), "--source", "bmlmovi", "--check"]
    done = subprocess.run(
        [*job, "--input", str(download)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=120,
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, last["status"], last["usable"]) == (0, "done", True)
    assert (last["found"]["motions"], last["missing"]["v3d"][:3]) == (6, "3-6")
    assert "missing videos_PG1: 3-6, 8-9" in done.stderr
    assert "get BML-MoVi" in done.stderr


def run_check(folder: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    arguments = ["--source", "bmlmovi", "--input", str(folder), "--check"]
    code = cli.run_job(check_input, PrepareSettings, job="prepare", argv=arguments)
    return code, json.loads(capfd.readouterr().out.splitlines()[-1])


def test_check_command_fails_when_nothing_is_usable(
    copy: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _without("F_v3d*")(copy)
    code, last = run_check(copy, capfd)
    assert (code, last["status"], last["usable"]) == (1, "failed", False)
    assert last["skipped"] == {"no Visual3D file": "1-2, 14"}
    code, last = run_check(tmp_path / "none", capfd)
    assert (code, last["status"]) == (2, "bad usage")
    assert "no such folder" in last["error"]


def test_settings_of_the_job() -> None:
    with pytest.raises(UsageError, match="--source bmlmovi needs --input"):
        PrepareSettings(source="bmlmovi", output="x")
    with pytest.raises(UsageError, match="--output is missing"):
        PrepareSettings(source="bmlmovi", input="x")
    with pytest.raises(UsageError, match="the source synthetic has no such check"):
        check_input(PrepareSettings(check=True))
    settings = PrepareSettings(source="bmlmovi", input="x", output="y")
    assert settings.identity()["bmlmovi"]["label_rate_hz"] == 30.0
    assert isinstance(settings.build_source(), BMLMoViSource)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_a_download_becomes_a_data_set(download: Path, tmp_path: Path) -> None:
    """Scaling and inverse kinematics find the made-up motion again: radians, metres, ground."""
    settings = PrepareSettings(
        source="bmlmovi",
        input=str(download),
        output=str(tmp_path / "data"),
        bmlmovi=BMLMoViSettings(subjects=(1,), mesh_boxes=True),
        crop=CropSettings(stored_size=64),
        actors=1,
    )
    summary = prepare(settings)
    assert (summary.subjects, summary.trials, summary.recordings, summary.rejects) == (1, 2, 4, 0)
    assert summary.labels.marker_rms_mm < 6.0
    assert summary.labels.usable_coordinates > 0.99
    data = DataSet.open(tmp_path / "data")
    labels = LABELS.to_numpy(read_table(data.label_uri("s001_01_walking")))
    names = data.skeleton().coordinates
    angles = {name: labels["coordinates"][:, k] for k, name in enumerate(names)}
    turn = 2 * np.pi * 4 * np.arange(15) / 120.0
    bend, swing = 0.35 * (1 - np.cos(turn)), 0.15 * np.sin(turn)
    assert np.ptp(bend) > 0.6
    for side, sign in (("r", -1.0), ("l", 1.0)):
        np.testing.assert_allclose(angles[f"knee_angle_{side}"], -bend, atol=0.02)
        hip = 0.5 * bend + sign * swing
        np.testing.assert_allclose(angles[f"hip_flexion_{side}"], hip, atol=0.02)
    np.testing.assert_allclose(labels["root_rotation"], np.tile(np.eye(3), (15, 1, 1)), atol=0.02)
    np.testing.assert_allclose(
        np.diff(labels["root_position"][:, 2]), np.full(14, 4 * WALK.step_m), atol=2e-3
    )
    crops = CROPS.to_numpy(read_table(data.crop_uri("s001_01_walking_PG2")))
    assert crops["trial_frame"].tolist() == list(range(15))
    picture = cv2.imdecode(np.frombuffer(crops["jpeg"][7], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture[26:38, 26:38].mean() > 1.5 * picture[:, :6].mean()
