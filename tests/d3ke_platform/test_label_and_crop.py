"""The stages of the prepare pipeline on one subject whose angles are known exactly."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import layer_source
import numpy as np
import pytest
import torch
from layer_source import FRAMES, MOVED, SCALE, LayerSource, true_coordinates

from d3ke.camera import project
from d3ke.errors import D3KEError, InvalidInputError, KinematicsError
from d3ke.rotations import geodesic_angle
from d3ke.skeleton import root_coordinates_from_pose
from d3ke_platform import storage
from d3ke_platform.errors import ChildCrashedError, ChildTimeoutError
from d3ke_platform.pipelines.label_summary import summarise_labels
from d3ke_platform.pipelines.prepare import plan
from d3ke_platform.schema import CROPS, LABELS, RECORDINGS, SUBJECT_LABELS, TRIALS
from d3ke_platform.stages.crop import CropRecording, camera_of, trial_frames
from d3ke_platform.stages.label import LabelTrial, ScaleSubject
from d3ke_platform.storage import DataSet

CROP = {"stored_size": 64, "field_of_view": 1.2, "margin": 1.25}
KNOWN_BOXES = ("none", "", "")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    root = tmp_path_factory.mktemp("layer") / "data"
    data = DataSet.create(root, source="layer", settings={"crop": CROP})
    source = LayerSource(damage=(("trials/s1_gaps.trc", "make_gaps"),), movements=("bend", "gaps"))
    units = plan(data, source)
    made = [source.make(unit, Path(data.root)) for unit in units]
    data.write_rows(TRIALS, [row for unit in made for row in unit.trials])
    data.write_rows(RECORDINGS, [row for unit in made for row in unit.recordings])
    return data


@pytest.fixture(scope="module")
def scale(data: DataSet) -> ScaleSubject:
    return ScaleSubject(data.root)


@pytest.fixture(scope="module")
def label(data: DataSet) -> LabelTrial:
    return LabelTrial(data.root)


@pytest.fixture(scope="module")
def scaled(data: DataSet, scale: ScaleSubject) -> dict[str, Any]:
    (ledger,) = scale(data.subjects()[0])
    assert ledger["subject"] == "s1"
    return SUBJECT_LABELS.to_rows(storage.read_table(data.subject_label_uri("s1")))[0]


@pytest.fixture(scope="module")
def labels(
    data: DataSet, scaled: dict[str, Any], label: LabelTrial
) -> dict[str, dict[str, np.ndarray]]:
    result = {}
    for trial in data.trials():
        (ledger,) = label(trial)
        assert ledger["frames"] == FRAMES
        table = storage.read_table(data.label_uri(trial["trial_id"]))
        result[trial["movement"]] = LABELS.to_numpy(table)
    return result


def test_plan_is_made_once(data: DataSet) -> None:
    class Other(LayerSource):
        def plan(self, folder: Path) -> Any:
            raise AssertionError("planned twice")

    assert [unit["unit"] for unit in plan(data, Other())] == ["s1_static", "s1_bend", "s1_gaps"]
    assert set(data.skeleton().markers) == set(data.marker_set().names)


def test_scaling_finds_the_factors(scaled: dict[str, Any]) -> None:
    np.testing.assert_allclose(scaled["measurement_factors"], SCALE, atol=2e-4)
    assert scaled["static_marker_rms_m"] < 0.005


def test_angles_are_recovered(data: DataSet, labels: dict[str, Any]) -> None:
    skeleton = data.skeleton()
    truth = true_coordinates(skeleton, FRAMES)
    for name in MOVED:
        index = skeleton.index_of("coordinate", name)
        error = np.abs(labels["bend"]["coordinates"][:, index] - truth[:, index])
        # Of up to 50 degrees. OpenSim's solver stops at an accuracy, not at the optimum.
        assert np.degrees(error.max()) < 5.0, name


def test_positions_agree_with_the_measured_markers(data: DataSet, labels: dict[str, Any]) -> None:
    columns = labels["bend"]
    skeleton = data.skeleton()
    weighted = {
        name
        for name, weight in zip(data.marker_set().names, data.marker_set().ik_weights, strict=True)
        if weight > 0
    }
    used = [skeleton.markers.index(name) for name in sorted(weighted)]
    distance = np.linalg.norm(columns["markers_model"] - columns["markers_measured"], axis=2)
    np.testing.assert_allclose(distance, columns["marker_error_m"], atol=3e-7)
    assert np.sqrt(np.square(distance[:, used]).mean()) < 0.005
    # The layer's joint centres and OpenSim's markers are of the same body: the right knee centre
    # marker keeps its distance to the knee joint.
    knee = columns["joint_centers"][:, skeleton.joints.index("knee_r")]
    marker = columns["markers_model"][:, skeleton.markers.index("RKJC")]
    assert np.ptp(np.linalg.norm(knee - marker, axis=1)) < 0.002


def test_root_pose_is_the_pelvis_in_ground(data: DataSet, labels: dict[str, Any]) -> None:
    columns, skeleton = labels["bend"], data.skeleton()
    root = skeleton.index_of("coordinate", skeleton.root_coordinates)
    values = root_coordinates_from_pose(
        skeleton,
        torch.tensor(columns["root_rotation"]),
        torch.tensor(columns["root_position"]),
    )
    np.testing.assert_allclose(values, columns["coordinates"][:, root], atol=1e-9)
    turn = geodesic_angle(
        torch.tensor(columns["root_rotation"][0]), torch.tensor(columns["root_rotation"][4])
    )
    assert 0.5 < float(turn) < 0.8


def test_gaps_are_nan_and_masked(data: DataSet, labels: dict[str, Any]) -> None:
    columns, skeleton = labels["gaps"], data.skeleton()
    ankle = skeleton.markers.index("LANK")
    missing = np.isnan(columns["marker_error_m"][:, ankle])
    assert np.flatnonzero(missing).tolist() == [2, 3, 5]
    assert not columns["marker_mask"][missing, ankle].any()
    assert not columns["coordinate_mask"][5].any()
    assert not columns["marker_mask"][5].any()
    assert columns["coordinate_mask"][[0, 1, 4, 6, 7]].any(axis=1).all()
    assert np.isfinite(columns["coordinates"]).all()


def test_label_summary(data: DataSet, labels: dict[str, Any]) -> None:
    summary = summarise_labels(data)
    assert (summary.trials, summary.frames) == (2, 2 * FRAMES)
    assert summary.marker_rms_mm == pytest.approx(summary.marker_rms_mm_by_subject["s1"])
    assert 0 < summary.marker_rms_mm < 5
    assert summary.share_above_20_mm == 0
    assert 0.5 < summary.usable_coordinates < 1


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        ("empty", D3KEError, "s1_static.trc"),
        ("lose_a_marker", KinematicsError, "MASI"),
    ],
)
def test_a_subject_that_cannot_be_scaled(
    data: DataSet, scale: ScaleSubject, tmp_path: Path, damage: str, error: type, message: str
) -> None:
    row = data.subjects()[0]
    path = tmp_path / "s1_static.trc"
    path.write_bytes(data.resolve(row["static_uri"]).read_bytes())
    layer_source.DAMAGES[damage](path)
    with pytest.raises(error, match=message):
        scale({**row, "subject": "other", "static_uri": str(path)})
    assert not storage.exists(data.subject_label_uri("other"))


def test_an_absent_marker_file_is_named(
    data: DataSet, scaled: dict[str, Any], label: LabelTrial
) -> None:
    trial = {**data.trials()[0], "trial_id": "x", "markers_uri": "trials/none.trc"}
    with pytest.raises(InvalidInputError, match=r"trials/none\.trc"):
        label(trial)
    assert not storage.exists(data.label_uri("x"))


def recording(data: DataSet, **changes: Any) -> dict[str, Any]:
    return {**data.recordings()[0], "rate_hz": 10.0, "label_count": FRAMES, **changes}


def test_crops_show_the_person_centred(data: DataSet, labels: dict[str, Any]) -> None:
    item = recording(data)
    (ledger,) = CropRecording(data.root, detector=KNOWN_BOXES)(item)
    assert ledger["frames"] == FRAMES
    crops = CROPS.to_numpy(storage.read_table(data.crop_uri(item["recording_id"])))
    np.testing.assert_array_equal(crops["trial_frame"], np.arange(FRAMES))
    measured = labels["bend"]["markers_measured"]
    for row in range(FRAMES):
        image = cv2.imdecode(np.frombuffer(crops["jpeg"][row], np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (64, 64, 3)
        view = camera_of(
            {
                "intrinsics": crops["crop_intrinsics"][row],
                "rotation": crops["crop_rotation"][row],
                "translation": crops["crop_translation"][row],
                "distortion": np.zeros(5),
                "width": 64,
                "height": 64,
            }
        )
        pixels = project(view, measured[row])
        extent = pixels.max(axis=0) - pixels.min(axis=0)
        assert extent.max() == pytest.approx(64 / 1.5, rel=0.05)
        middle = (pixels.max(axis=0) + pixels.min(axis=0)) / 2
        np.testing.assert_allclose(middle, 31.5, atol=2.0)
        # The markers are drawn in yellow (blue low), on grey.
        at = np.rint(pixels).astype(int)
        assert image[at[:, 1], at[:, 0], 2].mean() > 120


@pytest.mark.parametrize("damage", ["empty", "truncate"])
def test_a_broken_video_is_an_error_and_leaves_no_crops(
    data: DataSet, tmp_path: Path, damage: str
) -> None:
    video = tmp_path / "broken.mp4"
    video.write_bytes(data.resolve(recording(data)["uri"]).read_bytes())
    layer_source.DAMAGES[damage](video)
    stage = CropRecording(data.root, detector=KNOWN_BOXES)
    with pytest.raises(InvalidInputError, match=r"broken\.mp4"):
        stage(recording(data, recording_id="broken", uri=str(video)))
    assert not storage.exists(data.crop_uri("broken"))


def test_without_known_boxes_the_detector_decides(data: DataSet) -> None:
    uri = str(data.resolve(recording(data)["uri"]))
    CropRecording(data.root, detector=("none", "", ""))(recording(data, recording_id="w", uri=uri))
    crops = CROPS.to_numpy(storage.read_table(data.crop_uri("w")), ["box"])
    size = layer_source.SIZE - 1
    np.testing.assert_array_equal(crops["box"], np.tile([0, 0, size, size], (FRAMES, 1)))


def test_a_recording_can_be_a_part_of_a_video(data: DataSet) -> None:
    """Its first frame is the video's third, filmed 0.3 s after the trial's first label."""
    uri = str(data.resolve(recording(data)["uri"]))
    stage = CropRecording(data.root, detector=("none", "", ""))
    stage(recording(data, recording_id="whole", uri=uri))
    part = {"first_frame": 2, "frame_count": 4, "start_s": 0.3}
    stage(recording(data, recording_id="part", uri=uri, **part))
    whole, cut = (
        CROPS.to_numpy(storage.read_table(data.crop_uri(name))) for name in ("whole", "part")
    )
    assert cut["jpeg"].tolist() == whole["jpeg"][2:6].tolist()
    assert cut["frame"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(cut["time_s"], np.arange(4) / 10, atol=1e-6)
    assert cut["trial_frame"].tolist() == [3, 4, 5, 6]


def test_a_frame_that_has_not_converged_is_no_label(
    data: DataSet, label: LabelTrial, scaled: dict[str, Any]
) -> None:
    measured, result = label._opensim.call("solve", scaled["model_uri"], data.trials()[0])
    stopped = replace(result, converged=np.arange(FRAMES) != 3)
    columns = label._columns(data.trials()[0], scaled, measured, stopped)
    assert not columns["coordinate_mask"][3].any()
    assert not columns["marker_mask"][3].any()
    assert columns["coordinate_mask"][[2, 4]].any(axis=1).all()
    assert columns["converged"].tolist() == stopped.converged.tolist()


@pytest.mark.parametrize(
    ("sent", "error", "message"),
    [
        (signal.SIGSTOP, ChildTimeoutError, "no answer within 8 s"),
        (signal.SIGSEGV, ChildCrashedError, "signal 11"),
    ],
)
@pytest.mark.usefixtures("scaled")
def test_a_solver_that_hangs_or_crashes_costs_one_trial(
    data: DataSet, sent: signal.Signals, error: type[Exception], message: str
) -> None:
    trial = {**data.trials()[0], "trial_id": f"after_{sent.name}"}
    stage = LabelTrial(data.root, timeout_s=8.0)
    stage(trial)
    child = stage._opensim._process
    assert child is not None
    os.kill(child.pid, sent)
    with pytest.raises(error, match=message):
        stage(trial)
    assert not child.is_alive()
    assert stage(trial)[0]["frames"] == FRAMES


def test_frames_find_their_label_by_time() -> None:
    video = np.arange(9) / 30
    found = trial_frames(video, fps=30, rate_hz=10, count=3)
    assert found.tolist() == [0, -1, -1, 1, -1, -1, 2, -1, -1]
    found = trial_frames(np.arange(4) / 30, fps=30, rate_hz=120, count=9)
    assert found.tolist() == [0, 4, 8, -1]
    found = trial_frames(np.arange(3) / 25 + 0.001, fps=25, rate_hz=25, count=3)
    assert found.tolist() == [0, 1, 2]
