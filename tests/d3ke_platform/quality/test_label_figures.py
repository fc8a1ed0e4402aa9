"""The pass over the labels against figures computed from all rows at once."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import quality_data as known
from quality_data import FRAMES, OUT_MASKED, OUT_USABLE, THRESHOLD_M

from d3ke_platform import storage
from d3ke_platform.data_set import DataSet
from d3ke_platform.quality import tables
from d3ke_platform.quality.label_figures import LabelFigures, read_label_figures
from d3ke_platform.schema import LABELS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataSet:
    return known.make_data(tmp_path_factory.mktemp("quality") / "data")


@pytest.fixture(scope="module")
def figures(data) -> LabelFigures:
    return read_label_figures(data)


@pytest.fixture(scope="module")
def labels(data) -> dict[str, np.ndarray]:
    return known.columns_of(data)


@pytest.fixture(scope="module")
def weighted(data) -> np.ndarray:
    return np.asarray(data.marker_set().ik_weights) > 0.0


def naive(distances_m: np.ndarray) -> dict[str, float]:
    """Figures of marker distances, straight from their definitions."""
    known_mm = 1e3 * distances_m[np.isfinite(distances_m)]
    return {
        "marker_frames": known_mm.size,
        "rms_mm": np.sqrt(np.mean(known_mm**2)),
        "mean_mm": np.mean(known_mm),
        "p95_mm": np.quantile(known_mm, 0.95, method="inverted_cdf"),
        "max_mm": known_mm.max(),
        "over_percent": 100 * np.mean(known_mm > 1e3 * THRESHOLD_M),
    }


def assert_same(row: dict, distances_m: np.ndarray, prefix: str = "") -> None:
    """The 95th percentile within half a bin, everything else exactly."""
    for name, value in naive(distances_m).items():
        close = {"rel": 0.0051} if name == "p95_mm" else {"rel": 1e-9}
        assert row[prefix + name] == pytest.approx(value, **close), name


def masked_of(labels: dict[str, np.ndarray]) -> np.ndarray:
    return np.where(labels["marker_mask"], labels["marker_error_m"], np.nan)


def test_errors_over_everything(figures, labels, weighted) -> None:
    row = tables.overall(figures)
    errors, masked = labels["marker_error_m"], masked_of(labels)
    assert (row["trials"], row["frames"]) == (4, 4 * FRAMES)
    assert_same(row, errors[:, weighted])
    assert_same(row, masked[:, weighted], "masked_")
    assert_same(row, errors[:, ~weighted], "unweighted_")
    assert_same(row, masked[:, ~weighted], "unweighted_masked_")
    usable = labels["coordinate_mask"]
    assert row["masked_coordinates_percent"] == pytest.approx(100 * (1 - usable.mean()))
    assert row["over_percent"] > 0.0 == row["masked_over_percent"]
    assert row["masked_rms_mm"] < row["rms_mm"]


@pytest.mark.parametrize("key", ["subject", "movement"])
def test_errors_by_group(figures, labels, weighted, key: str) -> None:
    rows = tables.group_rows(figures, key)
    assert [row[key] for row in rows] == sorted(set(labels[key]))
    for row in rows:
        mine = labels[key] == row[key]
        assert (row["trials"], row["frames"]) == (2, 2 * FRAMES)
        assert_same(row, labels["marker_error_m"][mine][:, weighted])
        assert_same(row, masked_of(labels)[mine][:, weighted], "masked_")
        assert_same(row, labels["marker_error_m"][mine][:, ~weighted], "unweighted_")
        usable = labels["coordinate_mask"][mine]
        assert row["masked_coordinates_percent"] == pytest.approx(100 * (1 - usable.mean()))


def test_errors_by_marker(data, figures, labels) -> None:
    rows = tables.marker_rows(figures, data.marker_set())
    assert tuple(row["marker"] for row in rows) == data.skeleton().markers
    for index, row in enumerate(rows):
        assert_same(row, labels["marker_error_m"][:, index])
        assert_same(row, masked_of(labels)[:, index], "masked_")
    bodies = {row["marker"]: row["body"] for row in rows}
    assert bodies["RKNE"] == data.marker_set().body_after_scaling("RKNE")


def test_coordinates(data, figures, labels) -> None:
    rows = tables.coordinate_rows(figures, data.skeleton(), ())
    skeleton = data.skeleton()
    assert tuple(row["coordinate"] for row in rows) == skeleton.coordinates
    for index, row in enumerate(rows):
        factor = np.degrees(1.0) if row["unit"] == "deg" else 1.0
        values = factor * labels["coordinates"][:, index]
        usable = labels["coordinate_mask"][:, index]
        low, high = factor * skeleton.coordinate_ranges[index]
        slack = 0.1 if row["unit"] == "deg" else 1e-3
        assert row["masked_share_percent"] == pytest.approx(100 * (1 - usable.mean()))
        for prefix, part in (("", values), ("masked_", values[usable])):
            assert row[prefix + "frames"] == len(part)
            assert row[prefix + "smallest"] == pytest.approx(part.min())
            assert row[prefix + "largest"] == pytest.approx(part.max())
            exact = np.quantile(part, [0.01, 0.5, 0.99], method="inverted_cdf")
            found = [row[prefix + name] for name in ("low_1", "median", "high_99")]
            assert found == pytest.approx(list(exact), rel=0.003, abs=0.003 * factor)
            beyond = [100 * np.mean(part < low - slack), 100 * np.mean(part > high + slack)]
            found = [row[prefix + "below_percent"], row[prefix + "above_percent"]]
            assert found == pytest.approx(beyond)
            held = (np.abs(part - low) <= slack) | (np.abs(part - high) <= slack)
            assert row[prefix + "at_limit_percent"] == pytest.approx(100 * np.mean(held))


def test_masked_frames_do_not_count_as_beyond_the_range(data, figures) -> None:
    rows = {row["coordinate"]: row for row in tables.coordinate_rows(figures, data.skeleton(), ())}
    assert rows[OUT_USABLE]["masked_above_percent"] > 0.0
    assert rows[OUT_MASKED]["masked_above_percent"] == 0.0 < rows[OUT_MASKED]["above_percent"]
    assert rows[OUT_MASKED]["largest"] > rows[OUT_MASKED]["masked_largest"] + 5.0


def test_what_a_coordinate_is(data, figures) -> None:
    rows = tables.coordinate_rows(figures, data.skeleton(), ["hip_rotation_r"])
    kinds = {row["coordinate"]: row["kind"] for row in rows}
    assert (kinds["pelvis_tx"], kinds["hip_rotation_r"]) == ("root", "undetermined")
    assert (kinds["shoulder1_r2"], kinds["elbow_y"]) == ("coupled", "locked")
    assert kinds["knee_angle_r"] == "free"


def test_the_worst_trial_frame_and_marker(data, figures, labels, weighted) -> None:
    worst = figures.worst_trials(2)
    assert worst[0].trial_id == known.WORST
    assert (worst[0].worst_row, worst[0].worst_marker) == (known.WORST_ROW, known.WORST_MARKER)
    mine = labels["trial_id"] == known.WORST
    row = labels["marker_error_m"][mine][known.WORST_ROW, weighted]
    assert worst[0].worst_row_rms_mm == pytest.approx(1e3 * np.sqrt(np.nanmean(row**2)))
    assert worst[0].rms_mm == pytest.approx(
        naive(labels["marker_error_m"][mine][:, weighted])["rms_mm"]
    )
    assert worst[0].max_mm == pytest.approx(500.0)


def test_a_broken_file_and_a_trial_without_rows_are_told(data, tmp_path: Path) -> None:
    copy = known.replicate(data, tmp_path / "copy", copies=2, frames=FRAMES)
    Path(copy.label_uri("ann_jump_0")).unlink()
    storage.write_bytes(copy.label_uri("ann_jump_0"), b"no Parquet")
    columns = known.label_columns(copy, copy.trials()[0], np.random.default_rng(0))
    nothing = {name: np.asarray(values)[:0] for name, values in columns.items()}
    Path(copy.label_uri("ann_jump_1")).unlink()
    table = LABELS.to_arrow(nothing, copy.dims())
    storage.write_table(copy.label_uri("ann_jump_1"), table)
    found = read_label_figures(copy)
    assert list(found.unreadable) == ["ann_jump_0"]
    assert "cannot be read" in found.unreadable["ann_jump_0"]
    assert len(found.trials) == 7
    assert found.frames == 6 * FRAMES
    assert "ann_jump_1" not in [trial.trial_id for trial in found.worst_trials(100)]
    assert tables.overall(found)["masked_coordinates_percent"] > 0


def test_no_labels_give_no_figures(tmp_path: Path) -> None:
    found = read_label_figures(known.make_data(tmp_path / "data", trials=False))
    row = tables.overall(found)
    assert (row["trials"], row["frames"], row["rms_mm"]) == (0, 0, None)
    assert found.worst_trials(10) == []


def test_memory_does_not_grow_with_the_number_of_trials(data, tmp_path: Path) -> None:
    def peak(copies: int) -> int:
        copied = known.replicate(data, tmp_path / str(copies), copies=copies, frames=400)
        gc.collect()
        tracemalloc.start()
        found = read_label_figures(copied)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found.trials) == 4 * copies
        return used

    few, many = peak(2), peak(40)
    trial = 400 * 8 * (len(data.skeleton().markers) + len(data.skeleton().coordinates))
    # 152 trials more: their labels would be 90 MB, their rows are 100 kB.
    assert 152 * trial > 80e6
    assert many < few + 4e6
