from __future__ import annotations

import math

import pytest

from d3ke_platform.evaluation.gates import Gate, accuracy_gates, label_gates, number
from d3ke_platform.evaluation.label_quality import LabelQuality
from d3ke_platform.pipelines.label_summary import LabelSummary


def gate(measured: float | None, *, limit: float = 10.0, at_most: bool = True) -> Gate:
    return Gate(name="x", limit=limit, measured=measured, unit="mm", at_most=at_most)


@pytest.mark.parametrize(
    ("measured", "at_most", "status"),
    [
        (9.9, True, "pass"),
        (10.0, True, "pass"),
        (10.1, True, "falls short"),
        (10.1, False, "pass"),
        (9.9, False, "falls short"),
        (None, True, "not measured"),
        (math.nan, True, "not measured"),
        (math.nan, False, "not measured"),
    ],
)
def test_status(measured, at_most, status):
    assert gate(measured, at_most=at_most).status == status


def test_texts():
    assert gate(8.123).requirement == "≤ 10 mm"
    assert gate(8.123, at_most=False).requirement == "≥ 10 mm"
    assert gate(8.123).value == "8.12 mm"
    assert gate(None).value == "–"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1e-6, "1e-06"), (3.4567, "3.46"), (12.0, "12"), (98.76, "98.8"), (900.0, "900")],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def rows(baseline: float, frame: float, sequence: float | None) -> list[dict]:
    result = []
    for method, mae in (("mean_angle", baseline), ("per_frame", frame), ("sequence", sequence)):
        if mae is not None:
            shared = {"group": "moving", "method": method}
            result.append({**shared, "masked": True, "mae_deg": mae, "mv_deg_per_s": 2 * mae})
            result.append({**shared, "masked": False, "mae_deg": 99.0, "mv_deg_per_s": 99.0})
    return result


def test_accuracy_gates():
    reduction, error, jitter = accuracy_gates(rows(20.0, 12.0, 10.0))
    assert reduction.measured == pytest.approx(50)
    assert error.measured == pytest.approx(100 * 10 / 12)
    assert {g.status for g in (reduction, error, jitter)} == {"pass"}


def test_a_worse_sequence_network_falls_short():
    reduction, error, jitter = accuracy_gates(rows(20.0, 12.0, 15.0))
    assert reduction.status == "falls short"
    assert (error.status, jitter.status) == ("falls short", "falls short")


def test_without_a_sequence_network_the_per_frame_one_is_judged():
    reduction, error, jitter = accuracy_gates(rows(20.0, 12.0, None))
    assert reduction.measured == pytest.approx(40)
    assert (error.status, jitter.status) == ("not measured", "not measured")


def test_label_gates_judge_the_worst_subject():
    summary = LabelSummary(
        trials=1,
        frames=1,
        marker_rms_mm=9.0,
        marker_rms_mm_by_subject={"a": 8.0, "b": 11.0},
        share_above_20_mm=0.05,
        usable_coordinates=1.0,
    )
    quality = LabelQuality(summary=summary, rms_mm_by_marker={})
    rms, far = label_gates(quality)
    assert (rms.measured, rms.status) == (pytest.approx(11), "falls short")
    assert (far.measured, far.status) == (pytest.approx(5), "pass")
    assert {g.status for g in label_gates(None)} == {"not measured"}
