"""BML-MoVi's source: units, frame rule, axes, pictures, and a whole data set."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import bmlmovi_files as made_up
import cv2
import numpy as np
import pytest
from bmlmovi_files import source, units_of

from d3ke.camera import project
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerSet, read_trc
from d3ke_platform.files import content_hash, read_table
from d3ke_platform.pipelines.prepare import prepare
from d3ke_platform.pipelines.prepare_settings import CropSettings, PrepareSettings
from d3ke_platform.schema import BOXES, CROPS, LABELS, RECORDINGS, SUBJECTS, TRIALS
from d3ke_platform.sources import MadeUnit
from d3ke_platform.sources.bmlmovi import BMLMoViSettings
from d3ke_platform.sources.smplh_body import SMPLHBody
from d3ke_platform.sources.smplh_markers import marker_table
from d3ke_platform.stages.crop import camera_of, trial_frames
from d3ke_platform.stages.decode import frames
from d3ke_platform.storage import DataSet

WALK, THROW = made_up.MOTIONS


@pytest.fixture(scope="module")
def made(download: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeUnit, Path]:
    """Subject 1's walking, labelled at 120 Hz, with boxes of the mesh."""
    folder = tmp_path_factory.mktemp("data")
    maker = source(download, label_rate_hz=120.0, mesh_boxes=True, all_markers=True, subjects=(1,))
    made = [maker.make(unit, folder) for unit in units_of(maker, folder, "s001")]
    return made[3], folder


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
            markers = labels.reordered(names).positions[4 * (frame.index - row["first_frame"])]
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
