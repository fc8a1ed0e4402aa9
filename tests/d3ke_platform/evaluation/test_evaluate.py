"""An evaluation whose every number is known beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import evaluation_data as known
import numpy as np
import pytest
from evaluation_data import BIAS_DEG, BIASED, FRAMES, JITTER_DEG, SHAKEN, FakeRefiner

from d3ke.errors import InvalidInputError
from d3ke_platform.evaluation import evaluate as module
from d3ke_platform.evaluation.gates import Gate
from d3ke_platform.evaluation.settings import EvaluateSettings
from d3ke_platform.pipelines.ray_data import reject_row


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return known.make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def patched(data):
    patch = pytest.MonkeyPatch()
    patch.setattr(FakeRefiner, "head", known.head_of(data), raising=False)
    patch.setattr(module, "SequenceRefiner", FakeRefiner)
    patch.setattr(module, "run_stage", known.fake_run_stage(data))
    yield patch
    patch.undo()


@pytest.fixture(scope="module")
def evaluated(data, patched, tmp_path_factory):
    output = tmp_path_factory.mktemp("report")
    settings = EvaluateSettings(data=data.root, model="model", output=str(output), examples=4)
    extra = Gate(name="Extra", limit=1.0, measured=0.5, unit="m")
    summary = module.evaluate(settings, more_gates=lambda: [extra])
    return summary, json.loads((output / "metrics.json").read_text()), output


def _row(metrics: dict, table: str, **wanted) -> dict:
    rows = [r for r in metrics["tables"][table] if wanted.items() <= r.items()]
    assert len(rows) == 1, (table, wanted, len(rows))
    return rows[0]


def test_counts(evaluated):
    summary, metrics, _ = evaluated
    assert (summary.recordings, summary.frames, summary.rejects) == (8, 8 * FRAMES, 0)
    assert metrics["frames"] == 8 * FRAMES


def test_per_frame_and_sequence_errors_are_the_ones_put_in(evaluated):
    _, metrics, _ = evaluated
    frame = _row(metrics, "coordinates", coordinate=BIASED, method="per_frame")
    sequence = _row(metrics, "coordinates", coordinate=BIASED, method="sequence")
    assert frame["mae_deg"] == pytest.approx(BIAS_DEG)
    assert frame["sd_deg"] == pytest.approx(0, abs=1e-9)
    assert frame["series_rho_median"] == pytest.approx(1)
    assert sequence["mae_deg"] == pytest.approx(BIAS_DEG / 2)
    shaken = _row(metrics, "coordinates", coordinate=SHAKEN, method="per_frame")
    assert shaken["rmse_deg"] == pytest.approx(JITTER_DEG)
    assert shaken["mv_deg_per_s"] > shaken["label_mv_deg_per_s"]


def test_mask_drops_untrusted_labels(evaluated):
    _, metrics, _ = evaluated
    row = _row(metrics, "coordinates", coordinate=BIASED, method="per_frame")
    assert row["used_share"] == pytest.approx(1 - 1 / FRAMES)


def test_moving_coordinates_are_those_that_move(evaluated):
    _, metrics, _ = evaluated
    moved = {"knee_angle_r", "hip_flexion_r", "elbow_flexion", "shoulder_elv"}
    assert moved <= set(metrics["moving_coordinates"])
    still = {"knee_angle_l", "hip_flexion_l", "L5_S1_FE"}
    assert not still & set(metrics["moving_coordinates"])


def test_baseline_is_the_mean_of_the_training_labels(evaluated, data):
    from d3ke_platform.training.samples import load_samples

    _, metrics, _ = evaluated
    samples = load_samples(data, "train")
    column = list(data.predicted().coordinates).index("elbow_flexion")
    test = load_samples(data, "test").coordinates[:, column]
    expected = np.degrees(np.abs(test - samples.coordinates[:, column].mean())).mean()
    row = _row(metrics, "coordinates", coordinate="elbow_flexion", method="mean_angle")
    assert row["mae_deg"] == pytest.approx(expected, rel=1e-4)


def test_landmarks_and_size(evaluated, data):
    _, metrics, _ = evaluated
    row = _row(metrics, "pose", method="sequence")
    assert row["root_rotation_deg"] == pytest.approx(0, abs=1e-5)
    # Every factor is 0.02 too large, of every axis that a measurement scales.
    assert row["rmse_body"] == pytest.approx(0.02, rel=1e-6)
    femur = _row(metrics, "segments", segment="femur_r", method="sequence")
    assert femur["mae_body_mm"] == pytest.approx(0.02 * femur["length_mm"], rel=1e-6)
    # 2 % of a metre or less, plus the markers' own 4 mm.
    assert 4 < row["mpblpe_mm"] < 60


def test_label_quality(evaluated):
    _, metrics, _ = evaluated
    quality = metrics["label_quality"]
    by_marker = quality["marker_rms_mm_by_marker"]
    assert by_marker[known.FAR_MARKER] == pytest.approx(1e3 * known.FAR_M)
    assert quality["markers_beyond_20_mm_percent"] == pytest.approx(100 / len(by_marker))
    assert set(quality["marker_rms_mm_by_subject"]) == {"s0", "s1", "s2", "s3"}


def test_gates_and_headline(evaluated):
    summary, metrics, _ = evaluated
    status = {gate["name"]: gate["status"] for gate in metrics["gates"]}
    assert status["Extra"] == "pass"
    assert set(status.values()) == {"pass"}
    assert summary.headline["reduction_moving_percent"] > 80
    assert (
        summary.headline["mae_moving_sequence_deg"] < summary.headline["mae_moving_per_frame_deg"]
    )


def test_files(evaluated):
    summary, _, output = evaluated
    page = Path(summary.report).read_text()
    assert page.count('<img src="data:image/') >= 5
    assert "http://" not in page and "https://" not in page  # noqa: PT018
    assert "Sequence network" in page
    header, *rows = (output / "metrics.csv").read_text().splitlines()
    assert header.startswith("table,group")
    assert len(rows) > 300


def test_rejected_recordings_are_told(data, patched, tmp_path):
    whole = known.fake_run_stage(data)

    def one_fails(items, stage, **options):
        yield reject_row(items[0]["recording_id"], "estimate", "broken crop")
        yield from whole(items[1:], stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run_stage", one_fails)
        settings = EvaluateSettings(data=data.root, model="model", output=str(tmp_path), examples=0)
        summary = module.evaluate(settings)
    assert (summary.rejects, summary.recordings) == (1, 7)
    assert "broken crop" in Path(summary.report).read_text()


def test_nothing_to_evaluate_is_an_error(data, patched, tmp_path):
    settings = EvaluateSettings(
        data=data.root, model="model", output=str(tmp_path), split="validation"
    )
    with pytest.raises(InvalidInputError, match="validation"):
        module.evaluate(settings)
