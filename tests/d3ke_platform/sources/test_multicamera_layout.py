"""What lies in an input folder, and which video belongs to which camera."""

from __future__ import annotations

from pathlib import Path

import pytest

from d3ke.errors import InvalidInputError
from d3ke_platform.errors import UsageError
from d3ke_platform.sources.multicamera_layout import find_trials, match_cameras


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_one_trial_as_pose2sim_demo_has_it(tmp_path: Path) -> None:
    root = tmp_path / "Demo_Single"
    touch(root, "Config.toml", "videos/cam02.mp4", "videos/cam01.MP4", "videos/notes.txt")
    touch(root, "calibration/Calib.qca.txt", "calibration/extrinsics/cam01.png")
    (trial,) = find_trials(root)
    assert (trial.subject, trial.name) == ("Demo-Single", "trial")
    assert trial.trial_id == "Demo-Single_trial"
    assert [video.name for video in trial.videos] == ["cam01.MP4", "cam02.mp4"]
    assert trial.calibration == root / "calibration/Calib.qca.txt"


def test_the_nearest_calibration_counts(tmp_path: Path) -> None:
    touch(tmp_path, "calibration/day1.toml", "s2/calibration/day2.toml")
    for folder in ("s1/walk", "s2/walk", "s2/jump_1"):
        touch(tmp_path, f"{folder}/videos/a.mp4")
    trials = {trial.trial_id: trial for trial in find_trials(tmp_path)}
    assert sorted(trials) == ["s1_walk", "s2_jump-1", "s2_walk"]
    assert trials["s1_walk"].calibration == tmp_path / "calibration/day1.toml"
    assert trials["s2_jump-1"].calibration == tmp_path / "s2/calibration/day2.toml"
    assert trials["s2_walk"].subject == "s2"


def test_deeper_folders_name_the_subject_and_flat_ones_do_not(tmp_path: Path) -> None:
    root = tmp_path / "session"
    touch(root, "calibration/c.toml", "day1/anna/walk/videos/a.mp4", "Trial_1/videos/a.mp4")
    assert [trial.trial_id for trial in find_trials(root)] == [
        "session_Trial-1",
        "day1-anna_walk",
    ]


def test_a_converted_calibration_replaces_its_original(tmp_path: Path) -> None:
    touch(tmp_path, "videos/a.mp4", "calibration/Calib.qca.txt", "calibration/Calib_qca.toml")
    assert find_trials(tmp_path)[0].calibration == tmp_path / "calibration/Calib_qca.toml"


def test_an_unclear_calibration_is_the_trials_problem(tmp_path: Path) -> None:
    touch(tmp_path, "a/t/videos/x.mp4", "b/t/videos/x.mp4", "b/calibration/one.toml")
    touch(tmp_path, "b/calibration/two.toml")
    first, second = find_trials(tmp_path)
    assert first.calibration is None
    assert "no folder 'calibration'" in first.problem
    assert second.calibration is None
    assert "one.toml, two.toml" in second.problem


def test_folders_without_trials_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no trial.*videos/\*\.mp4"):
        find_trials(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        find_trials(tmp_path / "nowhere")


def test_two_trials_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "s1/walk_1/videos/a.mp4", "s1/walk-1/videos/a.mp4")
    with pytest.raises(UsageError, match=r"walk-1 and .*walk_1 are both trial 's1_walk-1'"):
        find_trials(tmp_path)


@pytest.mark.parametrize(
    ("video", "cameras", "expected"),
    [
        ("cam01", ["cam01", "cam02"], "cam01"),
        ("CAM01", ["cam01", "cam02"], "cam01"),
        ("walk_cam_02-take3", ["cam_01", "cam_02"], "cam_02"),
        ("cam1", ["cam01", "cam12"], "cam01"),
        ("02", ["int_cam01_img", "int_cam02_img"], "int_cam02_img"),
        ("left", ["left", "upper left"], "left"),
    ],
)
def test_videos_are_matched_by_name(video: str, cameras: list[str], expected: str) -> None:
    assert list(match_cameras([Path(f"{video}.mp4")], cameras, "c.toml")) == [expected]


@pytest.mark.parametrize(
    ("videos", "reason"),
    [
        (["cam01", "gopro"], "gopro.mp4: has no camera in Calib.toml. Calibrated: cam01, cam02"),
        (["cam01", "cam3"], "cam3.mp4: has no camera"),
        (["cam01_cam02"], "matches cam01 and cam02"),
        (["cam01", "cam01_b"], "cam01.mp4 and cam01_b.mp4: are both of camera cam01"),
    ],
)
def test_never_by_order(videos: list[str], reason: str) -> None:
    paths = [Path(f"{name}.mp4") for name in videos]
    with pytest.raises(InvalidInputError) as caught:
        match_cameras(paths, ["cam01", "cam02"], "Calib.toml")
    assert reason in str(caught.value)
