from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke_platform import storage
from d3ke_platform.schema import BOXES, CROPS, LABELS, TABLES, Column, Table

DIMS = {"Q": 5, "P": 3, "N": 4, "J": 4, "M": 6, "S": 2}


def random_values(column: Column, rows: int, rng: np.random.Generator) -> object:
    shape = (rows, *column.resolve(DIMS))
    if column.dtype == "string":
        return [f"{column.name} {row} é" for row in range(rows)]
    if column.dtype == "binary":
        return [rng.bytes(row) for row in range(rows)]
    if column.dtype == "bool":
        return rng.random(shape) > 0.5
    if column.dtype.startswith("int"):
        return rng.integers(-5, 5, shape)
    values = rng.normal(size=shape)
    values[rng.random(shape) > 0.8] = np.nan
    return values


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
@pytest.mark.parametrize("rows", [0, 1, 7])
def test_round_trip_through_a_file(table: Table, rows: int, tmp_path) -> None:
    rng = np.random.default_rng(rows)
    data = {column.name: random_values(column, rows, rng) for column in table.columns}
    storage.write_table(tmp_path / "t.parquet", table.to_arrow(data, DIMS))
    back = table.to_numpy(storage.read_table(tmp_path / "t.parquet"))
    for column in table.columns:
        assert back[column.name].shape == (rows, *column.resolve(DIMS))
        if column.dtype in ("string", "binary"):
            assert back[column.name].tolist() == data[column.name]
        else:
            expected = np.asarray(data[column.name], column.stored or column.dtype)
            np.testing.assert_array_equal(back[column.name], expected)
            assert back[column.name].dtype == column.dtype


def test_positions_stored_short_are_exact_to_a_tenth_of_a_micrometre(tmp_path) -> None:
    rng = np.random.default_rng(5)
    data = {column.name: random_values(column, 9, rng) for column in LABELS.columns}
    places = rng.uniform(-1.9, 1.9, (9, 6, 3))
    data["markers_measured"] = places
    storage.write_table(tmp_path / "t.parquet", LABELS.to_arrow(data, DIMS))
    back = LABELS.to_numpy(storage.read_table(tmp_path / "t.parquet"))
    assert 0 < np.abs(back["markers_measured"] - places).max() < 1e-7
    np.testing.assert_array_equal(back["coordinates"], data["coordinates"])


def test_smooth_numbers_take_less_room_than_plain_compression(tmp_path) -> None:
    dims = {**DIMS, "Q": 90}
    rng = np.random.default_rng(1)
    data = {column.name: random_values(column, 400, rng) for column in LABELS.columns}
    data["coordinates"] = np.sin(np.arange(400)[:, None] / 40 + np.arange(90))
    data["coordinate_mask"] = np.ones((400, 90), bool)
    data["body_scales"] = np.ones((400, 4, 3))
    table = LABELS.to_arrow(data, dims).select(["coordinates", "body_scales", "trial_id"])
    storage.write_table(tmp_path / "ours.parquet", table)
    pq.write_table(table, tmp_path / "plain.parquet", compression="zstd")
    ours, plain = ((tmp_path / f"{n}.parquet").stat().st_size for n in ("ours", "plain"))
    assert ours < 0.9 * plain
    assert storage.read_table(tmp_path / "ours.parquet").equals(table)


@given(start=st.integers(0, 6), length=st.integers(0, 6))
def test_slices_and_chunks_keep_rows(start: int, length: int) -> None:
    boxes = np.arange(28.0).reshape(7, 4)
    data = {"frame": np.arange(7), "box": boxes, "confidence": np.ones(7)}
    table = BOXES.to_arrow(data)
    chunked = pa.concat_tables([table.slice(start, length), table])
    expected = np.concatenate([boxes[start : start + length], boxes])
    np.testing.assert_array_equal(BOXES.to_numpy(chunked)["box"], expected)


def test_rows_round_trip() -> None:
    rows = [{"frame": 3, "box": np.array([1.0, 2.0, 3.0, 4.0]), "confidence": 0.5}]
    (row,) = BOXES.to_rows(BOXES.from_rows(rows))
    assert (row["frame"], row["confidence"]) == (3, 0.5)
    assert type(row["frame"]) is int
    np.testing.assert_array_equal(row["box"], rows[0]["box"])


def test_units_and_frames_travel_with_the_file(tmp_path) -> None:
    table = BOXES.to_arrow({"frame": [0], "box": [[0, 0, 1, 1]], "confidence": [1.0]})
    storage.write_table(tmp_path / "t.parquet", table)
    metadata = storage.read_table(tmp_path / "t.parquet").schema.field("box").metadata
    assert metadata[b"unit"] == b"px"
    assert metadata[b"shape"] == b"[4]"


def test_wrong_shape_names_table_and_column() -> None:
    with pytest.raises(InvalidInputError, match=r"boxes, column box.*\(3,\), expected \(4,\)"):
        BOXES.to_arrow({"frame": [0], "box": [[1, 2, 3]], "confidence": [1.0]})


def test_missing_unknown_and_uneven_columns_are_errors() -> None:
    with pytest.raises(InvalidInputError, match="missing column box, confidence"):
        BOXES.to_arrow({"frame": [0]})
    with pytest.raises(UnknownNameError, match="Did you mean 'frame'"):
        BOXES.to_arrow({"fame": [0], "box": [[0, 0, 1, 1]], "confidence": [1.0]})
    with pytest.raises(InvalidInputError, match="differ in length"):
        BOXES.to_arrow({"frame": [0, 1], "box": [[0, 0, 1, 1]], "confidence": [1.0]})
    with pytest.raises(InvalidInputError, match="a row lacks column box"):
        BOXES.from_rows([{"frame": 0, "confidence": 1.0}])


def test_a_missing_dimension_is_named() -> None:
    with pytest.raises(UnknownNameError, match="'Q'"):
        LABELS.arrow_schema({})


def test_reading_a_column_the_file_lacks_names_those_it_has() -> None:
    table = CROPS.to_arrow({name: [] for name in CROPS.column_names})
    with pytest.raises(UnknownNameError, match="Valid: frame"):
        CROPS.to_numpy(table.select(["frame"]), ["jpeg"])


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_every_length_and_angle_has_a_unit(table: Table) -> None:
    for column in table.columns:
        if column.name.endswith(("_m", "_s", "_hz")) or "position" in column.name:
            assert column.unit, column.name
