"""What the demo does around the steps; the steps themselves run in tests/jobs/test_demo.py."""

from __future__ import annotations

import io
from contextlib import nullcontext
from types import SimpleNamespace

import av
import numpy as np
import pytest
from rich.console import Console

from d3ke.errors import InvalidInputError
from d3ke_platform import demo, demo_gates
from d3ke_platform.demo import Demo, DemoSettings, DemoSummary, StepRecord
from d3ke_platform.demo_gates import footprint_gates, missing_rows, score_gates
from d3ke_platform.evaluation.gates import Gate
from d3ke_platform.schema import RESULTS
from d3ke_platform.storage import write_json, write_table

FRAMES = 5


def write_video(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            picture = np.full((48, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_results(path, frames):
    rows = len(frames)
    columns = {
        column.name: np.zeros((rows, *column.resolve({"Q": 2, "N": 1, "J": 1, "M": 1})))
        for column in RESULTS.columns
    }
    columns |= {"recording_id": [path.stem] * rows, "frame": frames}
    table = RESULTS.to_arrow(columns, {"Q": 2, "N": 1, "J": 1, "M": 1})
    write_table(path, table)


@pytest.fixture
def scored(tmp_path):
    videos, scores = tmp_path / "real", tmp_path / "scores"
    videos.mkdir()
    for name in ("cam1", "cam2"):
        write_video(videos / f"{name}.mp4")
        write_results(scores / "results" / f"{name}.parquet", range(FRAMES))
    return videos, scores


def test_every_frame_has_its_row(scored):
    missing, note = missing_rows(*scored)
    assert missing == 0
    assert note == "10 rows, 2 of 2 views, 10 frames"


def test_missing_and_doubled_rows_count(scored):
    videos, scores = scored
    write_results(scores / "results" / "cam1.parquet", [0, 1, 2])
    assert missing_rows(videos, scores)[0] == 2
    write_results(scores / "results" / "cam1.parquet", [0, 1, 2, 3, 4, 4])
    assert missing_rows(videos, scores)[0] == 1
    (scores / "results" / "cam2.parquet").unlink()
    write_results(scores / "results" / "cam1.parquet", range(FRAMES))
    assert missing_rows(videos, scores)[0] == FRAMES


def test_no_videos_are_not_a_success(tmp_path):
    (gate,) = score_gates(tmp_path / "real", tmp_path / "scores", "")
    assert (gate.status, gate.note) == ("not measured", "no videos")


def test_trouble_with_the_real_video_is_the_note(tmp_path):
    (gate,) = score_gates(tmp_path, tmp_path, "no network")
    assert (gate.status, gate.note) == ("not measured", "no network")


def test_an_error_while_measuring_is_the_note():
    def broken():
        raise InvalidInputError("file", "is broken")

    gate = demo_gates._measured(Gate(name="x", limit=1, measured=None, unit="m"), broken)
    assert (gate.status, gate.note) == ("not measured", "file: is broken.")


def test_footprint_counts_the_first_run():
    time_gate, memory_gate = footprint_gates(
        seconds_now=30.0, seconds_in_all=1000.0, peak_bytes=5_000_000_000
    )
    assert time_gate.status == "falls short"
    assert time_gate.measured == pytest.approx(1000 / 60)
    assert (memory_gate.measured, memory_gate.status) == (5.0, "pass")


def test_step_record_keeps_the_longest(tmp_path):
    record = StepRecord(tmp_path / "demo.json")
    record.note("prepare", 100.0)
    record.note("train", 50.0)
    record.note_peak(7)
    again = StepRecord(tmp_path / "demo.json")
    again.note("prepare", 2.0)
    again.note_peak(3)
    assert (again.seconds(), again.peak_bytes) == (150.0, 7)


def test_recipe_follows_quick():
    assert DemoSettings().recipe == "demo"
    assert DemoSettings(quick=True).recipe == "demo_quick"
    assert DemoSettings(quick=True, step_recipe="mine").recipe == "mine"


@pytest.fixture
def calls(monkeypatch):
    """The demo with its steps replaced by notes of how they were called."""
    seen: dict[str, object] = {}

    def step(name):
        def run(settings, **options):
            seen[name] = settings
            return SimpleNamespace(rejects=1)

        return run

    def evaluate(settings, *, more_gates):
        seen["evaluate"] = settings
        gates = [gate.to_json() for gate in more_gates()]
        write_json(f"{settings.output}/metrics.json", {"gates": gates})
        return SimpleNamespace(report=f"{settings.output}/report.html", rejects=0)

    for name in ("prepare", "train", "score"):
        monkeypatch.setattr(demo, name, step(name))
    monkeypatch.setattr(demo, "evaluate", evaluate)
    monkeypatch.setattr(demo, "layer_gates", list)
    monkeypatch.setattr(demo.runtime, "connect", nullcontext)
    return seen


def quietly(settings: DemoSettings) -> DemoSummary:
    return Demo(settings, Console(file=io.StringIO())).run()


def test_steps_pass_on_what_they_made(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(demo.pose2sim_demo, "fetch", lambda folder, wheel: folder)
    settings = DemoSettings(output=str(tmp_path), quick=True, pose_model="pose.task")
    summary = quietly(settings)
    assert list(calls) == ["prepare", "train", "score", "evaluate"]
    assert calls["prepare"].output == calls["train"].data == calls["evaluate"].data
    bundle = f"{calls['train'].output}/bundle"
    assert bundle == calls["score"].model == calls["evaluate"].model
    assert calls["score"].output == calls["evaluate"].scores
    assert calls["score"].pose_model == "pose.task"
    assert calls["score"].cameras.endswith("Calib.qca.txt")
    assert calls["train"].frame.image_size == 64  # the quick recipe
    assert summary.rejects == 2
    assert summary.passed + summary.fell_short + summary.not_measured == len(summary.gates)


def test_no_network_is_told_and_does_not_stop_the_demo(calls, tmp_path, monkeypatch):
    def fail(folder, wheel):
        raise InvalidInputError("pose2sim", "cannot be downloaded (no network)")

    monkeypatch.setattr(demo.pose2sim_demo, "fetch", fail)
    summary = quietly(DemoSettings(output=str(tmp_path), quick=True))
    assert "score" not in calls
    assert calls["evaluate"].scores == ""
    real = [gate for gate in summary.gates if gate.name.startswith(("Real", "Export"))]
    assert [gate.status for gate in real] == ["not measured", "not measured"]
    assert all("no network" in gate.note for gate in real)
