"""The embedded data set: files, rows, exact geometry, independence of order, everyone in view."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from d3ke.camera import project
from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerSet, read_trc
from d3ke_platform.errors import UsageError
from d3ke_platform.files import content_hash, read_table
from d3ke_platform.schema import BOXES, RECORDINGS, SUBJECTS, TRIALS
from d3ke_platform.sources.anny_body import AnnyBody
from d3ke_platform.sources.anny_phenotype import Phenotype
from d3ke_platform.sources.gait_table import TRAVELLING
from d3ke_platform.sources.motions import make_motion, sample_motion_style
from d3ke_platform.sources.movement_table import MOVEMENTS
from d3ke_platform.sources.planting import plant
from d3ke_platform.sources.scene import room_to_move, sample_camera
from d3ke_platform.sources.synthetic import SyntheticSource, vertex_boxes
from d3ke_platform.sources.synthetic_settings import SyntheticSettings
from d3ke_platform.stages.crop import camera_of, trial_frames

SETTINGS = SyntheticSettings(
    subjects=3,
    validation_subjects=1,
    test_subjects=1,
    movements=("kick", "arm_raise"),
    seconds=0.6,
    image_size=96,
    seed=7,
)
KICK = {"unit": "s001_kick", "subject": "s001", "movement": "kick", "split": "train"}
RAISE = {"unit": "s002_arm_raise", "subject": "s002", "movement": "arm_raise", "split": "test"}


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(SETTINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def made(source: SyntheticSource, folder: Path):
    return source.make(KICK, folder)


def test_rows_are_rows_of_the_tables(made) -> None:
    assert TRIALS.from_rows(made.trials).num_rows == 1
    assert RECORDINGS.from_rows(made.recordings).num_rows == 2
    assert [row["recording_id"] for row in made.recordings] == [
        "s001_kick_frontal",
        "s001_kick_sagittal",
    ]
    assert {row["split"] for row in (*made.trials, *made.recordings)} == {"train"}


def test_videos_have_every_frame_and_the_recorded_hash(made, folder: Path) -> None:
    for row in made.recordings:
        assert content_hash(folder / row["uri"]) == row["content_hash"]
        with av.open(str(folder / row["uri"])) as container:
            stream = container.streams.video[0]
            assert float(stream.average_rate) == row["fps"] == 10.0
            pictures = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
        assert len(pictures) == row["frame_count"] == made.trials[0]["frame_count"]
        assert pictures[0].shape == (row["height"], row["width"], 3) == (96, 96, 3)
        moved = np.abs(pictures[0].astype(int) - pictures[len(pictures) // 2]).max(axis=2)
        box = BOXES.to_numpy(read_table(folder / f"boxes/{row['recording_id']}.parquet"))["box"]
        x0, y0, x1, y1 = box[0].round().astype(int)
        inside = moved[y0:y1, x0:x1].mean()
        assert inside > 2 * moved[:, : max(x0 - 8, 1)].mean()


def test_markers_project_into_the_boxes(made, folder: Path, source: SyntheticSource) -> None:
    markers = read_trc(folder / made.trials[0]["markers_uri"])
    assert markers.rate_hz == 10.0
    assert markers.names == MarkerSet.builtin("anny").names
    for row in made.recordings:
        table = BOXES.to_numpy(read_table(folder / f"boxes/{row['recording_id']}.parquet"))
        np.testing.assert_array_equal(table["frame"], np.arange(row["frame_count"]))
        camera = source.camera("s001", row["camera"])
        np.testing.assert_array_equal(row["intrinsics"], camera.intrinsics)
        pixels = project(camera, markers.positions)
        surface = ~np.isnan(pixels).any(axis=(0, 2))
        assert surface.sum() >= 60
        low, high = table["box"][:, None, :2], table["box"][:, None, 2:]
        assert ((pixels[:, surface] >= low - 0.1) & (pixels[:, surface] <= high + 0.1)).all()
        # A box is tight: the 43 surface markers span most of it.
        span = np.ptp(pixels[:, surface], axis=1) / np.ptp(table["box"].reshape(-1, 2, 2), axis=1)
        assert span[:, 1].min() > 0.85


def test_files_do_not_depend_on_order_or_process(
    made, folder: Path, tmp_path: Path, source: SyntheticSource
) -> None:
    fresh = pickle.loads(pickle.dumps(source))
    fresh.make(RAISE, tmp_path)
    again = fresh.make(KICK, tmp_path)
    assert [r["content_hash"] for r in again.recordings] == [
        r["content_hash"] for r in made.recordings
    ]
    trc = made.trials[0]["markers_uri"]
    assert (tmp_path / trc).read_bytes() == (folder / trc).read_bytes()
    other = tmp_path / "videos/s002_arm_raise_frontal.mp4"
    assert content_hash(other) not in {r["content_hash"] for r in made.recordings}
    assert not [path.name for path in tmp_path.rglob(".*")]


FULL = SyntheticSettings(
    subjects=3,
    validation_subjects=1,
    test_subjects=1,
    movements=("walk", "sit_down"),
    seconds=0.8,
    rate_hz=15.0,
    marker_rate_hz=60.0,
    full_motion=True,
    image_size=96,
    field_of_view=50.0,
    lens_distortion=0.15,
    rooms=3,
    style="furnished",
)
WALK = {"unit": "s001_walk", "subject": "s001", "movement": "walk", "split": "train"}
SIT = {"unit": "s002_sit_down", "subject": "s002", "movement": "sit_down", "split": "test"}


@pytest.fixture(scope="module")
def full_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def full(full_folder: Path):
    return SyntheticSource(FULL).make(WALK, full_folder)


def test_markers_keep_their_own_rate(full, full_folder: Path) -> None:
    (trial,) = full.trials
    markers = read_trc(full_folder / trial["markers_uri"])
    assert (markers.rate_hz, trial["rate_hz"]) == (60.0, 60.0)
    assert len(markers.times) == trial["frame_count"]
    for row in full.recordings:
        with av.open(str(full_folder / row["uri"])) as container:
            (stream,) = container.streams.video
            assert float(stream.average_rate) == row["fps"] == 15.0
            times = [float(f.pts * stream.time_base) for f in container.decode(stream)]
        assert len(times) == row["frame_count"] == -(-trial["frame_count"] // 4)
        joined = trial_frames(
            np.array(times) + row["start_s"],
            fps=row["fps"],
            rate_hz=trial["rate_hz"],
            count=trial["frame_count"],
        )
        np.testing.assert_array_equal(joined, np.arange(len(times)) * 4)


def test_every_frame_shows_the_markers_of_its_own_time(full, full_folder: Path) -> None:
    """Boxes are of the video's frames, through the lens; markers of the same times fill them."""
    markers = read_trc(full_folder / full.trials[0]["markers_uri"])
    for row in full.recordings:
        assert np.any(row["distortion"])
        box = BOXES.to_numpy(read_table(full_folder / f"boxes/{row['recording_id']}.parquet"))[
            "box"
        ]
        pixels = project(camera_of(row), markers.positions[::4])
        surface = ~np.isnan(pixels).any(axis=(0, 2))
        low, high = box[:, None, :2], box[:, None, 2:]
        assert ((pixels[:, surface] >= low - 0.1) & (pixels[:, surface] <= high + 0.1)).all()
        assert (np.ptp(pixels[:, surface], axis=1)[:, 1] > 0.85 * (box[:, 3] - box[:, 1])).all()


def test_full_settings_do_not_depend_on_order_or_process_either(
    full, full_folder: Path, tmp_path: Path
) -> None:
    other = pickle.loads(pickle.dumps(SyntheticSource(FULL)))
    other.make(SIT, tmp_path)
    # Room and clothes are kept from one trial of a person to the next.
    other.make(SIT | {"unit": "s001_sit_down", "subject": "s001"}, tmp_path)
    again = other.make(WALK, tmp_path)
    assert [r["content_hash"] for r in again.recordings] == [
        r["content_hash"] for r in full.recordings
    ]
    for uri in (full.trials[0]["markers_uri"], "boxes/s001_walk_frontal.parquet"):
        assert (tmp_path / uri).read_bytes() == (full_folder / uri).read_bytes()


def test_the_pelvis_walks_only_in_full_motion(full, full_folder: Path) -> None:
    path = read_trc(full_folder / full.trials[0]["markers_uri"]).marker("RHIPJ")
    assert np.linalg.norm(path[-1] - path[0]) > 0.3
    still = SyntheticSource(replace(FULL, full_motion=False)).perform("s001", "walk")
    hip = still.joints["upperleg01.R"][:, [0, 2]]
    assert np.linalg.norm(hip[-1] - hip[0]) < 0.2


def test_people_are_spread_over_the_rooms() -> None:
    source = SyntheticSource(replace(FULL, rooms=5))
    rooms = {source._room(f"s{k:03d}").random() for k in range(40)}
    assert len(rooms) == 5
    one = SyntheticSource(replace(FULL, rooms=1))
    assert one._room("s001").random() == one._room("s002").random()


def test_static_unit_writes_a_t_pose_on_the_floor(source: SyntheticSource, tmp_path: Path) -> None:
    unit = {"unit": "s001_static", "subject": "s001", "movement": "static", "split": "train"}
    result = source.make(unit, tmp_path)
    assert not result.trials
    assert not result.recordings
    markers = read_trc(tmp_path / "subjects/s001_static.trc")
    assert len(markers.times) >= 6
    right, left = markers.marker("RWRIST")[0], markers.marker("LWRIST")[0]
    shoulder = markers.marker("RSHOULDER")[0]
    assert right[2] > 0.5
    assert left[2] == pytest.approx(-right[2], abs=0.05)
    assert abs(right[1] - shoulder[1]) < 0.06
    assert 0 < markers.marker("RHEE")[0, 1] < 0.12


def test_plan_lists_subjects_and_units(source: SyntheticSource, tmp_path: Path) -> None:
    plan = source.plan(tmp_path)
    table = SUBJECTS.from_rows(plan.subjects)
    assert table.column("split").to_pylist() == ["train", "validation", "test"]
    assert all(1.5 <= height <= 1.96 for height in table.column("height_m").to_pylist())
    assert all(35 < mass < 140 for mass in table.column("mass_kg").to_pylist())
    ids = [unit["unit"] for unit in plan.units]
    assert len(set(ids)) == len(ids) == 3 * (1 + 2)
    assert {"s003_static", "s003_kick", "s003_arm_raise"} <= set(ids)
    assert plan.model_osim.is_file()
    assert plan.marker_set.names == MarkerSet.builtin("anny").names


def test_people_differ(source: SyntheticSource) -> None:
    rows = [source._subject_row(subject, "train") for subject in ("s001", "s002", "s003")]
    assert len({round(row["height_m"], 3) for row in rows}) == 3
    reseeded = SyntheticSource(SyntheticSettings(seed=8))
    assert reseeded.phenotype("s001") != source.phenotype("s001")


def test_splits_are_disjoint_and_sized() -> None:
    splits = SyntheticSettings(subjects=20, validation_subjects=3, test_subjects=5).splits()
    counts = {name: list(splits.values()).count(name) for name in set(splits.values())}
    assert counts == {"train": 12, "validation": 3, "test": 5}
    assert len(splits) == 20


@pytest.mark.parametrize("movement", sorted(MOVEMENTS))
def test_the_tallest_stay_in_view(source: SyntheticSource, movement: str) -> None:
    body: AnnyBody = source.body
    tall = next(
        Phenotype(gender=0.0, height=height, muscle=0.6, weight=0.6)
        for height in np.arange(0.7, 0.3, -0.02).tolist()
        if body.height(Phenotype(gender=0.0, height=height, muscle=0.6, weight=0.6)) <= 1.96
    )
    assert body.height(tall) > 1.9
    for seed in range(3):
        rng = np.random.default_rng(seed)
        style = sample_motion_style(rng)
        motion = make_motion(movement, rate_hz=12, seconds=2.5, style=style, rng=rng, fine=True)
        moved = body.pose(
            tall,
            motion.segment_rotations,
            motion.root_position,
            grounding="frame",
            clearance=motion.clearance,
        )
        lowest = moved.vertices[..., 1].min(axis=1)
        np.testing.assert_allclose(lowest, motion.clearance, atol=1e-5)
        if movement in TRAVELLING:
            moved = plant(
                moved,
                rate_hz=12,
                heading=rng.uniform(0, 6),
                reach_m=room_to_move(40.0),
                travels=True,
                middle=tuple(motion.root_position[0, [0, 2]]),
            )
        for name in ("frontal", "sagittal"):
            camera = sample_camera(name, image_size=320, rng=rng)
            boxes = vertex_boxes(camera, moved.vertices[:, ::3])
            assert boxes.min() > 4
            assert boxes.max() < 315


@pytest.mark.parametrize(
    "change",
    [
        {"subjects": 2, "validation_subjects": 1, "test_subjects": 1},
        {"movements": ()},
        {"movements": ("kick", "kick")},
        {"movements": ("kik",)},
        {"cameras": ("top",)},
        {"seconds": 0.0},
        {"image_size": 97},
        {"seed": -1},
        {"marker_rate_hz": 25.0},
        {"marker_rate_hz": 5.0},
        {"rooms": 0},
        {"style": "fancy"},
        {"field_of_view": 5.0},
        {"lens_distortion": 0.5},
    ],
)
def test_bad_settings_are_refused(change: dict) -> None:
    with pytest.raises((InvalidInputError, UnknownNameError, UsageError)):
        SyntheticSettings(**change)
