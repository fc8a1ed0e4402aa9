"""The multi-camera source from files to trials, with known bodies in place of a landmarker."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from multicamera_files import (
    FakeDetector,
    calibration_toml,
    cameras,
    standing_body,
    write_calibration,
    write_keypoints,
    write_trial,
    write_video,
)
from scipy.spatial.transform import Rotation

from d3ke.arrays import FloatArray
from d3ke.camera import Camera, project
from d3ke.errors import D3KEError, InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerSet, read_trc
from d3ke_platform import files
from d3ke_platform.calibration import camera_to_json
from d3ke_platform.errors import UsageError
from d3ke_platform.schema import BOXES, RECORDINGS, TRIALS
from d3ke_platform.sources import keypoint_model, multicamera_making
from d3ke_platform.sources.landmarks import LANDMARKS
from d3ke_platform.sources.multicamera import MultiCameraSource
from d3ke_platform.sources.multicamera_settings import MultiCameraSettings
from d3ke_platform.sources.multicamera_trial import REPROJECTION
from d3ke_platform.sources.multicamera_views import KEYPOINTS, View, check_synchronous
from d3ke_platform.stages.crop import camera_of
from d3ke_platform.stages.detect_mediapipe import LANDMARK_NAMES

NAMES = ("cam01", "cam02", "cam03")


class Workshop:
    """An input folder, and a run of the source's units without Ray."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.input, self.output = tmp_path / "in", tmp_path / "out"
        self.input.mkdir()
        self.output.mkdir()
        self.task = tmp_path / "pose.task"
        self.task.touch()
        self.bodies: dict[str, FloatArray] = {}
        self.views: Mapping[str, Camera] = cameras()
        self._monkeypatch = monkeypatch
        self.detect_by(self._detect)
        self.rejects: dict[str, str] = {}
        self.trials: list[Mapping[str, Any]] = []
        self.recordings: list[Mapping[str, Any]] = []

    def detect_by(self, detect: Callable[..., None]) -> None:
        self._monkeypatch.setattr(multicamera_making, "detect_view", detect)

    def _detect(self, *arguments: Any) -> None:
        FakeDetector(self.bodies, self.views)(*arguments)

    def trial(self, name: str, body: FloatArray, *, videos: tuple[str, ...] = NAMES) -> None:
        folder = self.input / name
        write_trial(folder, videos, len(body))
        self.bodies[folder.name] = body

    def source(self, **settings: Any) -> MultiCameraSource:
        chosen = MultiCameraSettings(**settings)
        return MultiCameraSource(chosen, folder=str(self.input), pose_model=str(self.task))

    def run(self, **settings: Any) -> None:
        source = self.source(**settings)
        units = source.plan(self.output).units
        for unit in sorted(units, key=lambda unit: unit["phase"]):
            restored = pickle.loads(pickle.dumps(source))
            try:
                made = restored.make(json.loads(json.dumps(unit)), self.output)
            except D3KEError as error:
                self.rejects[unit["unit"]] = str(error)
                continue
            rows = {"trials": list(made.trials), "recordings": list(made.recordings)}
            files.write_json(self.output / f"units/{unit['unit']}.json", rows)
            self.trials += made.trials
            self.recordings += made.recordings


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


@pytest.mark.parametrize("up_axis", ["z", "-y"])
def test_known_bodies_come_out_in_ground(workshop: Workshop, up_axis: str) -> None:
    write_calibration(workshop.input, calibration_toml(workshop.views, up_axis=up_axis))
    body = standing_body()
    workshop.trial("s1/bend", body)
    workshop.run(cutoff_hz=0.0)
    assert workshop.rejects == {}
    ground = files.read_json(workshop.output / "views/calibration.json")
    assert ground["up_axis"] == up_axis

    (trial,) = workshop.trials
    TRIALS.from_rows([trial])
    markers = read_trc(workshop.output / trial["markers_uri"])
    chosen = [LANDMARK_NAMES.index(name) for name in LANDMARKS]
    assert markers.names == tuple(LANDMARKS)
    # float32 pixels of a picture of 160 px
    np.testing.assert_allclose(markers.positions, body[:, chosen], atol=2e-4)

    RECORDINGS.from_rows(workshop.recordings)
    assert [row["camera"] for row in workshop.recordings] == list(NAMES)
    for row in workshop.recordings:
        np.testing.assert_allclose(
            project(camera_of(dict(row)), body), project(workshop.views[row["camera"]], body)
        )
        boxes = BOXES.to_numpy(
            files.read_table(workshop.output / f"boxes/{row['recording_id']}.parquet")
        )
        assert len(boxes["frame"]) == row["frame_count"] == len(body)
        assert Path(row["uri"]).is_file()


def test_the_static_pose_and_what_is_kept_of_the_views(workshop: Workshop) -> None:
    write_calibration(workshop.input, calibration_toml(workshop.views))
    workshop.trial("s1/bend", standing_body(21))
    workshop.trial("s1/rest", standing_body(9)[:3])
    workshop.run(static="bend:10", cutoff_hz=0.0)
    assert workshop.rejects == {}
    static = read_trc(workshop.output / "subjects/s1_static.trc")
    assert static.names == MarkerSet.builtin("mediapipe").names
    assert np.ptp(static.times) > 0.5  # scaling averages over half a second
    thigh = static.marker("right_knee") - static.marker("right_hip")
    np.testing.assert_allclose(np.linalg.norm(thigh, axis=-1), 0.40, atol=1e-3)
    middle = (static.marker("right_hip") + static.marker("left_hip")) / 2
    np.testing.assert_allclose(static.marker("mid_hip"), middle, atol=1e-6)
    shank = static.marker("right_ankle") - static.marker("right_knee")
    bent = np.arccos(np.sum(thigh * shank, axis=-1)[0] / (0.40 * 0.38))
    assert np.rad2deg(bent) == pytest.approx(np.rad2deg(0.5), abs=0.5)  # frame 10: most bent

    summary = files.read_json(workshop.output / "views/s1_bend.json")
    assert summary["mean_reprojection_px"] < 0.01
    assert summary["mean_views"] == 3.0
    table = REPROJECTION.to_numpy(
        files.read_table(workshop.output / "views/s1_bend_reprojection.parquet")
    )
    assert table["used"].shape == (3 * 21, len(LANDMARKS))
    section = files.read_json(workshop.output / "quality/triangulation.json")
    assert section["text"].startswith("2 of 2 trials, 24 frames")
    assert [row[0] for row in section["table"]["rows"]] == list(NAMES)
    for item in section["pictures"]:
        assert (workshop.output / "quality" / item["file"]).stat().st_size > 500


def test_frames_before_the_person_comes_are_left_out(workshop: Workshop) -> None:
    write_calibration(workshop.input, calibration_toml(workshop.views))
    body = standing_body(30)
    body[:6] = np.nan
    body[14:16] = np.nan
    workshop.trial("s1/enter", body)
    workshop.run(cutoff_hz=0.0, max_gap_s=0.1)
    assert workshop.rejects == {}
    (trial,) = workshop.trials
    assert trial["frame_count"] == 24
    assert {row["first_frame"] for row in workshop.recordings} == {6}
    positions = read_trc(workshop.output / trial["markers_uri"]).positions
    assert np.isfinite(positions).all()  # the gap of two frames is bridged
    chosen = [LANDMARK_NAMES.index(name) for name in LANDMARKS]
    np.testing.assert_allclose(positions[0], body[6, chosen], atol=2e-4)


def test_boxes_are_those_of_the_triangulated_body(workshop: Workshop) -> None:
    """A view that confuses the legs gets the box that the other views say."""
    write_calibration(workshop.input, calibration_toml(workshop.views))
    workshop.trial("s1/bend", standing_body())
    workshop.run(cutoff_hz=0.0)
    uri = workshop.output / "boxes/s1_bend_cam02.parquet"
    right = BOXES.to_numpy(files.read_table(uri))["box"]
    real = FakeDetector(workshop.bodies, workshop.views)

    def confused(video: Path, detector: object, uri: files.Location) -> None:
        real(video, detector, uri)
        if video.stem == "cam02":
            table = KEYPOINTS.to_numpy(files.read_table(uri))
            pixels = table["pixels"].astype(float)
            for name in ("ankle", "heel", "foot_index"):
                for side in ("left", "right"):
                    pixels[:, LANDMARK_NAMES.index(f"{side}_{name}"), 1] -= 45.0
            write_keypoints(uri, pixels, table["confidence"])

    workshop.detect_by(confused)
    workshop.run(cutoff_hz=0.0, outlier_px=5.0, max_error_px=5.0)
    again = BOXES.to_numpy(files.read_table(uri))["box"]
    np.testing.assert_allclose(again, right, atol=1.0)


def test_bad_trials_are_rejected_with_their_reasons(workshop: Workshop) -> None:
    write_calibration(workshop.input, calibration_toml(workshop.views))
    workshop.trial("s1/good", standing_body())
    workshop.trial("s1/single", standing_body(), videos=("cam02",))
    workshop.trial("s1/stranger", standing_body(), videos=("cam01", "cam02", "gopro"))
    workshop.trial("s1/long", standing_body())
    write_video(workshop.input / "s1/long/videos/cam02.mp4", 19)
    workshop.trial("s1/other", standing_body())
    workshop.bodies["long"] = standing_body()
    write_calibration(workshop.input / "s1/other", "[cam01]\nsize = [1, 2]\n")
    real = FakeDetector(workshop.bodies, workshop.views)

    def detect(video: Path, detector: object, uri: files.Location) -> None:
        if video.parts[-3:] == ("long", "videos", "cam02.mp4"):
            longer = {**workshop.bodies, "long": standing_body(19)}
            FakeDetector(longer, workshop.views)(video, detector, uri)
        else:
            real(video, detector, uri)

    workshop.detect_by(detect)
    workshop.run()
    assert {row["trial_id"] for row in workshop.trials} == {"s1_good"}
    reasons = {
        "s1_single": "videos: videos of 1 cameras",
        "s1_stranger": "gopro.mp4: has no camera in Calib.toml",
        "s1_long": "differ in length by 7 frames: cam01.mp4 12, cam02.mp4 19",
        "s1_other": "does not hold calibrated cameras (KeyError",
    }
    assert workshop.rejects.keys() == reasons.keys()
    for unit, reason in reasons.items():
        assert reason in workshop.rejects[unit]


def test_a_calibration_of_another_session_is_rejected(workshop: Workshop) -> None:
    """One camera was tilted since: no point is agreed upon."""
    tilt = Rotation.from_euler("x", 15.0, degrees=True).as_matrix()
    camera = workshop.views["cam02"]
    moved = replace(camera, rotation=tilt @ camera.rotation, translation=tilt @ camera.translation)
    write_calibration(workshop.input, calibration_toml({**workshop.views, "cam02": moved}))
    workshop.trial("s1/bend", standing_body(), videos=("cam01", "cam02"))
    workshop.run(up_axis="z", max_error_px=3.0)
    assert workshop.trials == []
    reason = workshop.rejects["s1_bend"]
    assert "the views agree on a person in 0 of 12 frames" in reason
    assert "cam01 100%" in reason
    assert "Check that all videos start at the same moment" in reason
    assert "all trials of this subject were rejected" in workshop.rejects["s1_static_pose"]
    text = files.read_json(workshop.output / "quality/triangulation.json")["text"]
    assert text == "None of 1 trials could be triangulated."


def test_a_flipped_axis_is_named_once_and_its_trials_point_there(workshop: Workshop) -> None:
    write_calibration(workshop.input, calibration_toml(workshop.views, up_axis="-y"))
    workshop.trial("s1/bend", standing_body())
    workshop.run(up_axis="z")
    assert "Set multicamera.up_axis to '-y'" in workshop.rejects["calibration"]
    assert "see the reject 'calibration'" in workshop.rejects["s1_bend"]


def test_a_json_calibration_has_y_up_whatever_is_set(workshop: Workshop) -> None:
    text = json.dumps({name: camera_to_json(view) for name, view in workshop.views.items()})
    write_calibration(workshop.input, text, "cameras.json")
    workshop.trial("s1/bend", standing_body())
    workshop.run(up_axis="z")
    assert workshop.rejects == {}
    ground = files.read_json(workshop.output / "views/calibration.json")
    assert ground["up_axis"] == "y"
    np.testing.assert_allclose(
        ground["cameras"]["cam01"]["rotation"], workshop.views["cam01"].rotation
    )


def test_different_frame_rates_are_named() -> None:
    views = [
        View(
            camera=name,
            video=Path(f"{name}.mp4"),
            fps=rate,
            size=(10, 10),
            times=np.arange(3) / rate,
            pixels=np.zeros((3, 33, 2)),
            confidence=np.zeros((3, 33)),
            boxes=np.zeros((3, 4)),
        )
        for name, rate in (("cam01", 60.0), ("cam02", 59.94))
    ]
    assert check_synchronous(views, max_difference=0) == 3
    faster = replace(views[1], fps=50.0)
    with pytest.raises(InvalidInputError, match=r"cam01.mp4 60.00, cam02.mp4 50.00"):
        check_synchronous([views[0], faster], max_difference=0)


def test_a_model_of_ones_own(workshop: Workshop, tmp_path: Path) -> None:
    write_calibration(workshop.input, calibration_toml(workshop.views))
    workshop.trial("s1/bend", standing_body())
    markers = MarkerSet.builtin("mediapipe")
    names = ("model.osim", "markers.json", "measurements.json", "predicted.json")
    paths = [tmp_path / name for name in names]
    keypoint_model.write_keypoint_model(paths[0], markers)
    markers.save(paths[1])
    keypoint_model.measurements().save(paths[2])
    keypoint_model.predicted_set(markers).save(paths[3])
    own = dict(
        zip(("model", "marker_set", "measurements", "predicted"), map(str, paths), strict=True)
    )
    planned = workshop.source(**own).plan(workshop.output)
    assert planned.model_osim == paths[0]
    assert planned.marker_set.names == markers.names
    assert planned.measurements.names == keypoint_model.measurements().names
    paths[1].write_text(paths[1].read_text().replace("right_knee", "right_kneee"))
    with pytest.raises(UnknownNameError, match="'right_kneee'. Did you mean 'right_knee'"):
        workshop.source(**own).plan(workshop.output)


def test_subjects_and_splits(workshop: Workshop) -> None:
    write_calibration(workshop.input, calibration_toml(workshop.views))
    for subject in ("anna", "ben", "cleo"):
        workshop.trial(f"{subject}/bend", standing_body())
    (workshop.input / "subjects.csv").write_text("subject,mass_kg,split\nben,81.5,test\n")
    rows = workshop.source(validation_subjects=1).plan(workshop.output).subjects
    assert [(r["subject"], r["split"], r["mass_kg"]) for r in rows] == [
        ("anna", "train", 70.0),
        ("ben", "test", 81.5),
        ("cleo", "validation", 70.0),
    ]
    (workshop.input / "subjects.csv").write_text("subject,static\nben,walk:3\n")
    with pytest.raises(UnknownNameError, match="static trial of subject ben 'walk'.*Valid: bend"):
        workshop.source().plan(workshop.output)


@pytest.mark.parametrize(
    ("settings", "error", "reason"),
    [
        ({"up_axis": "up"}, UnknownNameError, "multicamera.up_axis"),
        ({"min_views": 1}, InvalidInputError, "below 2"),
        ({"cutoff_hz": -1.0}, InvalidInputError, "cutoff_hz"),
        ({"confidence_threshold": 2.0}, InvalidInputError, "not in 0 to 1"),
        ({"static": "walk:first"}, InvalidInputError, "TRIAL:FRAME"),
        ({"model": "m.osim"}, UsageError, "without marker_set, measurements, predicted"),
        ({"scaling": "s.json"}, UsageError, "multicamera.model"),
        ({"mass_kg": 7000.0}, InvalidInputError, "not a person's"),
    ],
)
def test_settings_are_checked(
    settings: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        MultiCameraSettings(**settings)
