"""The prepare pipeline on Ray, with good and bad input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import layer_source
import pytest
import ray
from layer_source import FRAMES, LayerSource

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform import cli, storage
from d3ke_platform.errors import UsageError
from d3ke_platform.pipelines.prepare import prepare
from d3ke_platform.pipelines.prepare_settings import CropSettings, LabelSettings, PrepareSettings
from d3ke_platform.storage import DataSet

ROOT = Path(__file__).resolve().parents[2]

ray.cloudpickle.register_pickle_by_value(layer_source)

SOURCE = LayerSource(
    subjects=("good", "bad"),
    movements=("bend", "empty", "cut", "impossible"),
    damage=(
        ("subjects/bad_static.trc", "lose_a_marker"),
        ("trials/good_empty.trc", "empty"),
        ("videos/good_bend_cam.mp4", "truncate"),
        ("videos/good_cut_cam.mp4", "empty"),
    ),
)


def settings(output: Path, **changes: Any) -> PrepareSettings:
    crop = CropSettings(stored_size=32)
    return PrepareSettings(output=str(output), crop=crop, detector="none", **changes)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
def test_bad_input_is_rejected_with_a_reason_and_the_rest_finishes(tmp_path: Path) -> None:
    output = tmp_path / "data"
    summary = prepare(settings(output), source=SOURCE)
    data = DataSet.open(output)
    rejects = {(row["stage"], row["item"]): row["reason"] for row in data.rejects()}
    expected = {
        ("make", "good_impossible"): "cannot be made",
        ("make", "bad_impossible"): "cannot be made",
        ("scale", "bad"): "MASI",
        ("label", "good_empty"): "good_empty.trc",
        ("label", "bad_bend"): "subject bad was not scaled: ",
        ("label", "bad_empty"): "subject bad was not scaled: ",
        ("label", "bad_cut"): "subject bad was not scaled: ",
        ("crop", "good_bend_cam"): "good_bend_cam.mp4",
        ("crop", "good_cut_cam"): "good_cut_cam.mp4",
    }
    assert rejects.keys() == expected.keys()
    for key, part in expected.items():
        assert part in rejects[key]
    assert summary.rejects == len(expected)
    assert (summary.subjects, summary.trials, summary.recordings) == (1, 2, 4)
    assert summary.crops == 4 * FRAMES
    assert summary.labels.frames == 2 * FRAMES
    assert list(summary.labels.marker_rms_mm_by_subject) == ["good"]
    assert storage.read_json(data.uri("summary.json"))["content_hash"] == summary.content_hash
    page = Path(summary.quality).read_text()
    assert "good_bend (good, bend)" in page
    assert "MASI" in page[page.index("<h2>Left out</h2>") :]

    # Repaired input is taken up by the next run; what is complete stays untouched.
    label = Path(data.label_uri("good_bend"))
    written = label.stat().st_mtime_ns
    video = data.resolve("videos/good_bend_cam.mp4")
    video.write_bytes(data.resolve("videos/good_empty_cam.mp4").read_bytes())
    again = prepare(settings(output), source=SOURCE)
    assert label.stat().st_mtime_ns == written
    assert again.recordings == 5
    assert ("crop", "good_bend_cam") not in {(r["stage"], r["item"]) for r in data.rejects()}


def test_other_settings_are_refused_before_anything_runs(tmp_path: Path) -> None:
    first = settings(tmp_path / "data")
    DataSet.create(first.output, source=first.source, settings=first.identity())
    with pytest.raises(UsageError, match=r"labels\.ik_accuracy is 1e-05 there, 0\.001 now"):
        prepare(settings(tmp_path / "data", labels=LabelSettings(ik_accuracy=1e-3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "mocap"}, "Unknown source 'mocap'"),
        ({"output": "s3://bucket/data"}, "local or shared folder"),
        ({"actors": -1}, "actors"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((UnknownNameError, UsageError, InvalidInputError), match=message):
        PrepareSettings(**{"output": "o", **changes})
    with pytest.raises(InvalidInputError, match="margin"):
        CropSettings(margin=0.9)


def job(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": ""}
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "prepare.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=300,
        cwd="/",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "{tmp}/x", "--synthetic.subject", "3"), "synthetic.subject"),
        (("--output", "{tmp}/x", "--synthetic.movements", "fly"), "Unknown movement 'fly'"),
        (("--output", "{tmp}/x", "--config", "{tmp}/none.toml"), "none.toml"),
    ],
)
def test_the_job_refuses_bad_usage_at_once(tmp_path, arguments, message: str) -> None:
    done = job(*(part.format(tmp=tmp_path) for part in arguments))
    assert done.returncode == cli.BAD_USAGE
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("ray_session")
@pytest.mark.ray
@pytest.mark.parametrize("where", ["/proc/d3ke", "{tmp}/file/data", "{tmp}/old"])
def test_unusable_outputs_end_with_2_and_one_line(tmp_path, capsys, where: str) -> None:
    (tmp_path / "file").write_text("")
    storage.write_json(tmp_path / "old" / "dataset.json", {"schema_version": 0})
    argv = ["--output", where.format(tmp=tmp_path)]
    code = cli.run_job(prepare, PrepareSettings, job="prepare", argv=argv)
    errors = capsys.readouterr().err
    assert code == cli.BAD_USAGE
    assert len(errors.splitlines()) == 1
    assert where.format(tmp=tmp_path) in errors


def test_only_keypoints_are_smoothed_over_time() -> None:
    assert LabelSettings().smoothness_of("multicamera") == 1e-4
    assert LabelSettings().smoothness_of("synthetic") == 0.0
    assert LabelSettings(ik_smoothness=0.0).smoothness_of("multicamera") == 0.0
    with pytest.raises(InvalidInputError, match="ik_smoothness"):
        LabelSettings(ik_smoothness=-1.0)
