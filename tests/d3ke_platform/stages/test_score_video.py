"""One video: a row per frame, nothing done twice, and harm that stays with its own video."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_videos import CrowdedVideos, HarmfulVideos
from score_cases import (
    WHOLE,
    SlowNetwork,
    make_plan,
    plain_script,
)
from video_files import write_video

from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.isolation import Isolated
from d3ke_platform.pipelines.ray_data import is_reject
from d3ke_platform.schema import BOXES, RESULTS
from d3ke_platform.stages.crop_network import LocalNetwork
from d3ke_platform.stages.finish_recording import Finisher, FinishRecording, NobodyError
from d3ke_platform.stages.score_plan import ScorePlan
from d3ke_platform.stages.score_video import ScoreVideo
from d3ke_platform.stages.scores_folder import (
    exports_uri,
    read_scored,
    recording_name,
    results_uri,
    run_name,
)
from d3ke_platform.stages.segment_files import read_estimates
from d3ke_platform.stages.segment_runs import parts_of, runs
from d3ke_platform.stages.speed_sample import SpeedSample

BOX = np.array([8.0, 4, 40, 44])
COUNT = 30


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "a walk.mp4", COUNT, b_frames=2)


@pytest.fixture
def plan(random_bundle: Path, tmp_path: Path) -> ScorePlan:
    return make_plan(random_bundle, tmp_path / "scores")


@pytest.fixture(scope="module")
def network(random_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalNetwork:
    return LocalNetwork(make_plan(random_bundle, tmp_path_factory.mktemp("unused")))


def item(video: Path, **more: Any) -> dict[str, Any]:
    return {"uri": str(video), "camera": None, **more}


def estimates(plan: ScorePlan, name: str) -> dict[str, np.ndarray]:
    scored = read_scored(plan.folder, name)
    assert scored is not None
    return read_estimates(plan.folder, scored).columns


def known_boxes(folder: Path, missed: tuple[int, ...] = ()) -> Path:
    there = [frame for frame in range(COUNT) if frame not in missed]
    box = [BOX + 0.3 * frame for frame in there]
    columns = {"frame": there, "box": box, "confidence": [1.0] * len(there)}
    storage.write_table(folder / "boxes.parquet", BOXES.to_arrow(columns))
    return folder / "boxes.parquet"


def test_a_row_per_frame_equal_to_a_plain_script_then_nothing_is_done_twice(
    video: Path, random_bundle: Path, plan: ScorePlan, network: LocalNetwork, tmp_path: Path
) -> None:
    boxes = known_boxes(tmp_path, missed=(1, 2, 20))
    whole = item(video, boxes_uri=str(boxes))
    plan = replace(plan, part_segments=16)
    stage = ScoreVideo(plan, network=network)
    (row,) = stage(whole)
    assert (row["frames"], row["estimated"], row["counts"]) == (COUNT, COUNT, None)
    assert {"decode", "detect", "crop", "network", "write"} <= row["seconds"].keys()
    name = row["recording_id"]
    assert name.startswith("a_walk-")
    columns = estimates(plan, name)
    np.testing.assert_array_equal(columns["frame"], range(COUNT))
    np.testing.assert_allclose(columns["time_s"], np.arange(COUNT) / 10, atol=1e-3)
    np.testing.assert_array_equal(np.flatnonzero(columns["confidence"] == 0), [1, 2, 20])
    np.testing.assert_allclose(columns["box"], [BOX + 0.3 * n for n in range(COUNT)], atol=1e-9)
    expected = plain_script(random_bundle, video, columns["box"])
    np.testing.assert_allclose(columns["coordinates"], expected.coordinates, atol=1e-4)
    np.testing.assert_allclose(columns["root_rotation"], expected.root_rotation, atol=1e-4)
    np.testing.assert_allclose(columns["measurement_factors"], expected.factors, atol=1e-4)
    folder = Path(plan.folder, "estimates", name)
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert len(before) == 4
    assert stage(whole)[0]["estimated"] == 0
    # What is lost is made again, and only that; the record of the video is not needed for it.
    lost = sorted(before)[1]
    content = lost.read_bytes()
    lost.unlink()
    for record in Path(plan.output, "videos").iterdir():
        record.unlink()
    assert stage(whole)[0]["estimated"] == 8
    assert lost.read_bytes() == content
    assert all(f.stat().st_mtime_ns == t for f, t in before.items() if f != lost)


def test_a_long_video_is_shared_out_and_comes_out_the_same(
    video: Path, plan: ScorePlan, network: LocalNetwork
) -> None:
    whole = replace(plan, part_segments=16, run="whole")
    (one,) = ScoreVideo(whole, network=network)(item(video))
    slow = SlowNetwork(network)
    stage = ScoreVideo(replace(plan, part_segments=2), network=slow)
    (row,) = stage(item(video))
    assert (row["estimated"], row["missing"]) == (0, COUNT)
    assert [part["segments"] for part in row["parts"]] == [(0, 2), (2, 4)]
    for part in reversed(row["parts"]):
        (done,) = stage(part)
        assert done["part"]
    first, second = (estimates(p, one["recording_id"]) for p in (whole, plan))
    for name, values in first.items():
        if values.dtype == object:
            assert list(values) == list(second[name])
        else:
            np.testing.assert_allclose(values, second[name], atol=1e-5)
    assert slow.most == 3
    assert slow.waiting == 0


def test_people_keep_their_numbers_through_segments_and_parts(
    video: Path, plan: ScorePlan, network: LocalNetwork
) -> None:
    rule = replace(plan.rule, people="all", detect_every=2, gap_s=0.4, smoothing_s=0.1)
    found = []
    for run, part_segments in (("whole", 16), ("parts", 1)):
        each = replace(plan, rule=rule, run=run, part_segments=part_segments)
        stage = ScoreVideo(each, network=network)
        stage._child = Isolated(partial(CrowdedVideos, WHOLE), timeout_s=60.0)
        (row,) = stage(item(video))
        for part in row["parts"]:
            stage(part)
        found.append(estimates(each, row["recording_id"]))
        done = Finisher(each).finish(row["recording_id"])
        assert done["counts"]["people"] == 2
    whole, parts = found
    for name in ("person", "frame", "box", "confidence"):
        np.testing.assert_array_equal(whole[name], parts[name])
    for person in (0, 1):
        rows = whole["person"] == person
        np.testing.assert_array_equal(whole["frame"][rows], range(COUNT))
        height = whole["box"][rows][:, 3] - whole["box"][rows][:, 1]
        np.testing.assert_allclose(height, (40, 28)[person], atol=1e-6)


def test_a_range_is_a_recording_of_its_own(
    video: Path, plan: ScorePlan, network: LocalNetwork
) -> None:
    stage = ScoreVideo(replace(plan, part_segments=16), network=network)
    (row,) = stage(item(video, start_s=0.5, end_s=1.2))
    columns = estimates(plan, row["recording_id"])
    np.testing.assert_array_equal(columns["frame"], range(5, 12))
    np.testing.assert_allclose(columns["time_s"], np.arange(5, 12) / 10, atol=1e-3)
    assert row["recording_id"] != stage(item(video))[0]["recording_id"]
    with pytest.raises(InvalidInputError, match="no frame from 7"):
        stage(item(video, start_s=7.0))


def test_another_content_under_a_given_name_starts_anew(
    plan: ScorePlan, network: LocalNetwork, tmp_path: Path
) -> None:
    file = write_video(tmp_path / "b.mp4", 6)
    stage = ScoreVideo(plan, network=network)
    finisher = Finisher(plan)
    stage(item(file, recording_id="b"))
    finisher.finish("b")
    write_video(file, 5)
    assert stage(item(file, recording_id="b"))[0]["frames"] == 5
    assert not storage.exists(results_uri(plan.folder, "b"))
    assert len(estimates(plan, "b")["frame"]) == 5


@pytest.mark.slow
def test_harm_ends_with_its_own_video(
    plan: ScorePlan, network: LocalNetwork, tmp_path: Path
) -> None:
    stage = ScoreVideo(plan, network=network)
    stage._child = Isolated(
        partial(HarmfulVideos, WHOLE), timeout_s=60.0, memory_bytes=1_000_000_000
    )
    reasons = {
        "crash": "process died (signal 11)",
        "probe-crash": "process died (signal 11)",
        "memory": "more than the 1 GB",
        "hang": "no answer within 5 s",
    }
    for kind, reason in reasons.items():
        if kind == "hang":
            stage._plan = replace(plan, retries=0)
            stage._child._timeout_s = 5.0
        file = write_video(tmp_path / f"{kind}.mp4", 12)
        (row,) = stage(item(file))
        assert is_reject(row)
        assert row["item"] == str(file)
        assert reason in row["reason"], row["reason"]
        assert stage(item(file)) == [row]  # it is not tried again
    stage._plan, stage._child._timeout_s = plan, 60.0
    # A crash that does not come again costs nothing but time.
    assert stage(item(write_video(tmp_path / "once.mp4", 12)))[0]["estimated"] == 12
    again = ScoreVideo(replace(plan, retry_rejects=True), network=network)
    assert again(item(tmp_path / "crash.mp4"))[0]["estimated"] in (4, 12)


@pytest.mark.slow
def test_a_reject_is_of_one_content_and_ends_with_what_is_scored(
    plan: ScorePlan, network: LocalNetwork, tmp_path: Path
) -> None:
    file = tmp_path / "crash.mp4"
    write_video(file, 12)
    given = item(file, recording_id="r", item="crash.mp4 [0 to 1 s]", end_s=1.0)
    stage = ScoreVideo(plan, network=network)
    stage._child = Isolated(partial(HarmfulVideos, WHOLE), timeout_s=60.0)
    (row,) = stage(given)
    assert row["item"] == "crash.mp4 [0 to 1 s]"
    moved = file.rename(tmp_path / "moved.mp4")
    assert stage(item(moved, recording_id="r", end_s=1.0))[0]["item"] == str(moved)
    # Tried again and scored, it is a reject no more.
    again = ScoreVideo(replace(plan, retry_rejects=True), network=network)
    assert again(item(moved, recording_id="r", end_s=1.0))[0]["estimated"] > 0
    assert not is_reject(
        ScoreVideo(plan, network=network)(item(moved, recording_id="r", end_s=1.0))[0]
    )
    # Another content under the same id is another video.
    write_video(file, 13)
    (row,) = stage(item(file, recording_id="r"))
    assert is_reject(row)
    assert not is_reject(stage(item(write_video(moved, 14), recording_id="r"))[0])


def test_a_file_that_is_no_video_is_not_fetched_again(
    video: Path,
    plan: ScorePlan,
    network: LocalNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "text.mp4"
    file.write_bytes(b"no video")
    stage = ScoreVideo(plan, network=network)
    (row,) = stage(item(file))
    with monkeypatch.context() as without:
        without.delattr(storage, "fetch")
        assert stage(item(file)) == [row]
    assert is_reject(ScoreVideo(replace(plan, retry_rejects=True), network=network)(item(file))[0])
    file.write_bytes(video.read_bytes())
    assert stage(item(file))[0]["frames"] == COUNT


def test_slow_motion_has_the_times_of_the_movement(
    video: Path, plan: ScorePlan, network: LocalNetwork
) -> None:
    plan = replace(plan, frame_rate=40.0, part_segments=16)
    (row,) = ScoreVideo(plan, network=network)(item(video))
    Finisher(plan).finish(row["recording_id"])
    results = RESULTS.to_numpy(storage.read_table(results_uri(plan.folder, row["recording_id"])))
    np.testing.assert_allclose(results["time_s"], np.arange(COUNT) / 40, atol=1e-3)


def test_trouble_that_is_not_the_videos_is_not_held_against_it(
    video: Path, plan: ScorePlan, network: LocalNetwork
) -> None:
    class Broken(SlowNetwork):
        def submit(self, images: np.ndarray) -> Any:
            raise RuntimeError("the network's actor is gone")

    plan = replace(plan, part_segments=16)
    with pytest.raises(RuntimeError, match="is gone"):
        ScoreVideo(plan, network=Broken(network))(item(video, recording_id="v"))
    # A child that cannot even start says nothing of the video.
    stage = ScoreVideo(plan, network=network)
    stage._child = Isolated(partial(HarmfulVideos), timeout_s=60.0)
    with pytest.raises(TypeError, match="detector"):
        stage(item(video, recording_id="v"))
    assert ScoreVideo(plan, network=network)(item(video, recording_id="v"))[0]["estimated"] == COUNT


def test_results_exports_and_a_page(video: Path, plan: ScorePlan, network: LocalNetwork) -> None:
    plan = replace(plan, part_segments=16)
    name = ScoreVideo(plan, network=network)(item(video))[0]["recording_id"]
    done = Finisher(replace(plan, exports=("mot", "overlay"))).finish(name)
    assert sorted(done["exports"]) == ["motion.mot", "overlay.mp4"]
    assert done["counts"] == {"frames": COUNT, "rows": COUNT, "detected": COUNT, "people": 1}
    results = RESULTS.to_numpy(storage.read_table(results_uri(plan.folder, name)))
    np.testing.assert_array_equal(results["frame"], range(COUNT))
    assert np.isfinite(results["markers"]).all()
    # Another export later writes what is missing, and only that.
    more = Finisher(replace(plan, exports=("mot", "overlay", "trc", "page")))
    assert {"markers.trc", "page.html"} <= set(more.finish(name)["exports"])
    again = more.finish(name)
    assert (again["skipped"], again["exports"]) == (True, [])
    page = Path(exports_uri(plan.folder, name), "page.html").read_text()
    assert "Person 0" in page
    assert page.count("data:image/") == 2
    stage = ScoreVideo(replace(plan, exports=("mot", "page")), network=network)
    assert stage(item(video))[0]["counts"] == done["counts"]


def test_results_do_not_depend_on_the_blocks_they_are_written_in(
    video: Path, plan: ScorePlan, network: LocalNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = replace(plan, part_segments=16)
    name = ScoreVideo(plan, network=network)(item(video))[0]["recording_id"]
    uri = results_uri(plan.folder, name)
    tables = []
    for rows in (1000, 7):
        monkeypatch.setattr("d3ke_platform.stages.finish_recording.BLOCK_ROWS", rows)
        storage.remove(uri)
        Finisher(plan).finish(name)
        tables.append(RESULTS.to_numpy(storage.read_table(uri)))
    for column in ("coordinates", "markers", "root_rotation"):
        np.testing.assert_allclose(tables[0][column], tables[1][column], atol=1e-9)


def test_nobody_is_a_reject_that_stays(
    video: Path, plan: ScorePlan, network: LocalNetwork, tmp_path: Path
) -> None:
    columns = {"frame": np.zeros(0), "box": np.zeros((0, 4)), "confidence": np.zeros(0)}
    storage.write_table(tmp_path / "none.parquet", BOXES.to_arrow(columns))
    plan = replace(plan, part_segments=16)
    stage = ScoreVideo(plan, network=network)
    empty = item(video, boxes_uri=str(tmp_path / "none.parquet"))
    name = stage(empty)[0]["recording_id"]
    with pytest.raises(NobodyError, match="no person found in its 30 frames"):
        Finisher(plan).finish(name)
    (row,) = FinishRecording(plan)({"recording_id": name})
    assert is_reject(row)
    assert stage(empty) == [row]


def test_exports_need_a_local_folder(plan: ScorePlan) -> None:
    with pytest.raises(InvalidInputError, match="--export none"):
        FinishRecording(replace(plan, output="s3://bucket/scores", exports=("mot",)))


def test_a_sample_tells_the_speed_and_writes_nothing(
    video: Path, plan: ScorePlan, network: LocalNetwork
) -> None:
    (row,) = SpeedSample(plan, network=network)(item(video))
    assert row["frames_per_second"] > 0
    shown = replace(plan, exports=("mot", "page"))
    (slower,) = SpeedSample(shown, network=network)(item(video))
    assert 0 < slower["frames_per_second"] < row["frames_per_second"]
    assert not Path(plan.output).exists()


def test_names() -> None:
    assert runs([0, 1, 3, 4, 5, 9]) == [(0, 2), (3, 6), (9, 10)]
    assert [p["segments"] for p in parts_of("r", [0, 1, 2, 3, 7], 3)] == [(0, 3), (3, 4), (7, 8)]
    assert recording_name({"uri": "a/b c\n.mp4"}, "0123456789") == "b_c_-01234567"
    assert recording_name({"uri": "x", "recording_id": "r"}, "k") == "r"
    identity = {"model": "0123456789abcdef", "gap_s": 0.5}
    assert run_name(identity).startswith("model-01234567-settings-")
    assert run_name(identity) != run_name({**identity, "gap_s": 0.6})
