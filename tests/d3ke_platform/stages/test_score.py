"""Scoring an archive: reasons for rejects, resuming, runs beside each other, networks apart."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import psutil
import pytest
from random_bundle import write_random_bundle
from video_files import cut_off, write_video

from d3ke.errors import D3KEError
from d3ke_platform import storage
from d3ke_platform.pipelines.score import ScoreSettings, ScoreSummary, score
from d3ke_platform.pipelines.score_ledger import ScoreLedger
from d3ke_platform.schema import RESULTS
from d3ke_platform.stages.rejects import reject_row
from d3ke_platform.stages.scores_folder import latest_run


def test_settings_are_checked() -> None:
    good: dict[str, Any] = {"archive": "a", "model": "m", "output": "o"}
    assert ScoreSettings(**good, export=("none",)).exports == ()
    bad: list[tuple[dict[str, Any], str]] = [
        ({"detector": "hog"}, "mediapipe"),
        ({"export": ("gif",)}, "overlay"),
        ({"field_of_view_deg": 200.0}, "179"),
        ({"batch_size": 0}, "1 or more"),
        ({"segment_frames": 0}, "1 or more"),
        ({"timeout_s": 0.0}, "positive"),
        ({"model": ""}, "--model"),
        ({"frame_rate": -1.0}, "negative"),
        ({"people": "some"}, "largest"),
        ({"precision": "fp8"}, "bf16"),
    ]
    for change, reason in bad:
        with pytest.raises(D3KEError, match=reason):
            ScoreSettings(**{**good, **change})


def row(name: str, **more: Any) -> dict[str, Any]:
    return {
        "recording_id": name,
        "uri": f"{name}.mp4",
        "item": more.get("uri", f"{name}.mp4"),
        "frames": 10,
        "calibrated": False,
        "estimated": 10,
        "missing": 0,
        "parts": [],
        "part": False,
        "counts": None,
        "seconds": {"network": 2.0},
        **more,
    }


def ledger_summary(ledger: ScoreLedger) -> ScoreSummary:
    options = {"gpus": 2.0, "price_per_gpu_hour": 3.0, "warnings": ()}
    return ledger.summary(seconds=1800.0, network_busy=0.9, workers=1, **options)


def test_a_video_is_one_line_of_the_ledger_whatever_becomes_of_its_parts() -> None:
    plan = type("Plan", (), {"output": "o", "run": "r", "cameras": False})()
    ledger = ScoreLedger(plan, videos=6, rejects=[])
    counts = {"frames": 10, "rows": 12, "detected": 8, "people": 2}
    ledger.start_window()
    ledger.estimated(row("new"))
    ledger.estimated(row("new", uri="copy/new.mp4", estimated=0))
    ledger.estimated(row("old", estimated=0, counts=counts))
    parts = [{"item": f"long {n}", "recording_id": "long"} for n in range(3)]
    assert ledger.estimated(row("long", estimated=0, missing=10, parts=parts)) == parts
    ledger.estimated(row("long", estimated=5, part=True))
    ledger.estimated(reject_row("long 1", "estimate", "the worker process died on this item"))
    ledger.estimated(reject_row("long.mp4", "estimate", "is damaged"))
    ledger.estimated(reject_row("bad.mp4", "estimate", "the file is empty"))
    assert ledger.unfinished() == ["new"]
    ledger.finished({"recording_id": "new", "skipped": False, "seconds": {}, "counts": counts})
    summary = ledger_summary(ledger)
    assert (summary.scored, summary.skipped, summary.rejects) == (3, 1, 2)
    assert (summary.frames, summary.rows, summary.undetected_frames) == (20, 24, 4)
    assert summary.estimated_frames == 15
    assert (summary.missing_frames, summary.unfinished) == (5, 0)
    assert summary.reject_reasons == {"crash": 1, "empty file": 1}
    assert summary.cost == 3.0
    assert summary.network_busy == 0.9
    assert "2 rejected" in ledger.note(10.0)


def test_ranges_of_one_video_are_told_apart() -> None:
    plan = type("Plan", (), {"output": "o", "run": "r", "cameras": False})()
    ledger = ScoreLedger(plan, videos=3, rejects=[])
    ledger.start_window()
    for name in ("a", "b", "c"):
        ledger.estimated(row(name, uri="one.mp4", item=f"one.mp4 [{name}]"))
    ledger.estimated(reject_row("one.mp4 [b]", "estimate", "is damaged"))
    assert ledger.unfinished() == ["a", "c"]
    counts = {"frames": 10, "rows": 10, "detected": 10, "people": 1}
    ledger.finished({"recording_id": "a", "skipped": False, "seconds": {}, "counts": counts})
    ledger.finished(reject_row("one.mp4 [c]", "finish", "no person found"))
    summary = ledger_summary(ledger)
    assert (summary.scored, summary.rejects, summary.unfinished) == (1, 2, 0)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    (folder / "deeper").mkdir(parents=True)
    write_video(folder / "walk.mp4", 20)
    write_video(folder / "deeper" / "run.mkv", 4)
    write_video(folder / "room.mp4", 8)
    whole = write_video(tmp_path / "whole.mp4", 60, codec="mpeg4", size=(320, 240))
    cut_off(whole, folder / "cut.mp4", 0.6)
    (folder / "empty.mp4").write_bytes(b"")
    return folder


def results(output: str) -> dict[str, dict[str, np.ndarray]]:
    files = storage.list_files(f"{latest_run(output)}/results", ".parquet")
    return {Path(file).stem: RESULTS.to_numpy(storage.read_table(file)) for file in files}


@pytest.mark.slow
@pytest.mark.ray
def test_archive_with_every_kind_of_trouble(
    archive: Path,
    random_bundle: Path,
    tmp_path: Path,
    ray_session: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    common: dict[str, Any] = {
        "archive": str(archive),
        "model": str(random_bundle),
        "export": ("mot",),
        "output": str(tmp_path / "scores"),
        "device": "cpu",
        "segment_frames": 8,
        "tracking": False,
    }
    whole = ScoreSettings(**common, detector="none")
    look = score(ScoreSettings(**common, detector="none", dry_run=True))
    assert (look.missing_frames, look.unfinished, look.scored) == (32, 3, 0)
    assert look.expected_seconds > 0
    assert not Path(common["output"], look.run).exists()
    summary = score(whole)
    assert (summary.videos, summary.scored, summary.skipped, summary.rejects) == (5, 3, 0, 2)
    assert (summary.frames, summary.rows, summary.estimated_frames) == (32, 32, 32)
    assert summary.uncalibrated == 3
    assert 0 < summary.network_busy <= 1
    for step in ("decode", "detect", "crop", "network", "refine", "export"):
        assert step in summary.stage_seconds
    assert storage.read_json(f"{common['output']}/summary.json")["frames"] == 32
    rejects = storage.read_rejects(latest_run(common["output"]))
    assert {Path(row["item"]).name for row in rejects} == {"cut.mp4", "empty.mp4"}
    first = results(common["output"])
    # Another archive in the same place has rejects of its own.
    bad = str(archive / "empty.mp4")
    assert score(ScoreSettings(**{**common, "archive": bad}, detector="none")).rejects == 1
    assert len(storage.read_rejects(latest_run(common["output"]))) == 3
    again = score(whole)
    assert (again.scored, again.skipped, again.estimated_frames) == (3, 3, 0)
    assert again.rejects == 2
    look = score(ScoreSettings(**common, detector="none", dry_run=True))
    assert (look.missing_frames, look.unfinished, look.expected_seconds) == (0, 0, 0.0)
    # A driver that dies, a worker that is killed, a network in an actor of its own: it comes to
    # the same, in the place of what was deleted.
    storage.remove(latest_run(common["output"]))
    with monkeypatch.context() as patch:
        patch.setattr(ScoreLedger, "note", _die)
        with pytest.raises(KeyboardInterrupt):
            score(whole)
    assert not Path(common["output"], summary.run, "results").exists()
    with killed_worker() as killed:
        apart = score(ScoreSettings(**common, detector="none", network_actors=1))
    assert killed
    assert (apart.run, apart.scored, apart.rejects) == (summary.run, 3, 2)
    assert results(common["output"]).keys() == first.keys()
    for name, columns in results(common["output"]).items():
        np.testing.assert_array_equal(columns["frame"], first[name]["frame"])
        for column in ("coordinates", "markers"):
            np.testing.assert_allclose(columns[column], first[name][column], atol=1e-4)


def _die(ledger: ScoreLedger, seconds: float) -> str:
    raise KeyboardInterrupt


@contextmanager
def killed_worker() -> Iterator[list[int]]:
    """Kills the first worker of a stage that appears; the list has its process id then."""
    old = {process.pid for process in workers()}
    killed: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not killed and not done.wait(0.05):
            for process in workers():
                if process.pid not in old:
                    process.kill()
                    killed.append(process.pid)
                    return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


def workers() -> list[psutil.Process]:
    """Processes of this session that run the stage."""
    children = psutil.Process().children(recursive=True)
    return [p for p in children if p.is_running() and "StageActor" in _title(p)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.slow
@pytest.mark.ray
def test_another_model_or_setting_lies_beside_and_mlflow_has_a_run_each(
    random_bundle: Path, tmp_path: Path, ray_session: object
) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "a.mp4", 6)
    other = write_random_bundle(tmp_path / "other", sequence=False, seed=1)
    output = str(tmp_path / "scores")
    common: dict[str, Any] = {
        "archive": str(tmp_path / "videos"),
        "output": output,
        "export": ("none",),
        "device": "cpu",
    }
    runs = [
        score(ScoreSettings(**common, model=str(random_bundle), detector="none")).run,
        score(ScoreSettings(**common, model=str(other), detector="none")).run,
    ]
    # Nobody is in this picture for the detector.
    nobody = score(ScoreSettings(**common, model=str(other), detector="fallback", tracking=False))
    assert nobody.reject_reasons == {"no person": 1}
    assert len({*runs, nobody.run}) == 3
    assert latest_run(output).endswith(nobody.run)
    assert all(Path(output, run, "results").is_dir() for run in runs)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{output}/mlflow.db")
    experiment = client.get_experiment_by_name("score")
    found = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in found} == set(runs)
    for run in found:
        assert run.info.status == "FINISHED"
        assert run.data.metrics["frames"] == 6
        assert run.data.params["detector"] == "none"
        assert {f.path for f in client.list_artifacts(run.info.run_id)} >= {"summary.json"}
    kept = ScoreSettings(
        **common, model=str(other), detector="none", tracking=False, overwrite=True
    )
    assert score(kept).skipped == 1
    assert [Path(output, run).exists() for run in runs] == [False, True]
