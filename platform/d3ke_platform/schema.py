"""Every table of the platform: columns with type, shape, unit and frame.

Writers, readers, tests and the documentation use this one source. A column of shape `()` is a
plain Arrow column. A shaped column is a fixed-size list of the flattened array (row-major), with
shape, unit and frame in the field's metadata, so that any Parquet reader can read it.
Symbolic dimensions: Q coordinates, P predicted coordinates, N bodies, J joints, M markers,
S measurement factors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from d3ke.errors import InvalidInputError, UnknownNameError

SCHEMA_VERSION = 2

_ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
}


@dataclass(frozen=True)
class Column:
    """One column: `shape` holds numbers or the letters of symbolic dimensions."""

    name: str
    dtype: str
    shape: tuple[int | str, ...] = ()
    unit: str = ""
    frame: str = ""
    description: str = ""
    stored: str = ""
    """Type in files where it is not `dtype`: 24 bits tell 0.1 um, which is plenty for a marker."""

    def resolve(self, dims: Mapping[str, int]) -> tuple[int, ...]:
        """Shape with the letters replaced by `dims`; raises UnknownNameError for a missing one."""
        for size in self.shape:
            if isinstance(size, str) and size not in dims:
                raise UnknownNameError(f"dimension of column {self.name}", size, dims)
        return tuple(dims[size] if isinstance(size, str) else size for size in self.shape)

    def field(self, dims: Mapping[str, int]) -> pa.Field:
        """Arrow field, with shape, unit, frame and description as metadata."""
        shape = self.resolve(dims)
        value_type = _ARROW_TYPES[self.stored or self.dtype]
        arrow_type = pa.list_(value_type, math.prod(shape)) if shape else value_type
        metadata = {
            "shape": json.dumps(shape),
            "unit": self.unit,
            "frame": self.frame,
            "description": self.description,
        }
        return pa.field(self.name, arrow_type, metadata=metadata)


@dataclass(frozen=True)
class Table:
    """A named list of columns, and the way to and from Arrow."""

    name: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name; raises UnknownNameError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise UnknownNameError(f"column of table {self.name}", name, self.column_names)

    def arrow_schema(self, dims: Mapping[str, int] | None = None) -> pa.Schema:
        """Arrow schema for these sizes of the symbolic dimensions."""
        metadata = {"table": self.name, "schema_version": str(SCHEMA_VERSION)}
        return pa.schema([column.field(dims or {}) for column in self.columns], metadata=metadata)

    def to_arrow(self, data: Mapping[str, Any], dims: Mapping[str, int] | None = None) -> pa.Table:
        """Arrow table of `data`: column name -> array [rows, *shape] or list of rows.

        Raises UnknownNameError for a column that is not of this table and InvalidInputError for a
        missing column, a wrong shape or columns of different lengths.
        """
        for name in data:
            self.column(name)
        missing = [name for name in self.column_names if name not in data]
        if missing:
            raise InvalidInputError(f"Table {self.name}", f"missing column {', '.join(missing)}")
        schema = self.arrow_schema(dims)
        arrays = [
            self._array(column, data[column.name], column.resolve(dims or {}))
            for column in self.columns
        ]
        lengths = dict(zip(self.column_names, map(len, arrays), strict=True))
        if len(set(lengths.values())) > 1:
            raise InvalidInputError(f"Table {self.name}", f"columns differ in length: {lengths}")
        return pa.Table.from_arrays(arrays, schema=schema)

    def from_rows(
        self, rows: Iterable[Mapping[str, Any]], dims: Mapping[str, int] | None = None
    ) -> pa.Table:
        """Arrow table of a list of dicts, each with every column."""
        rows = list(rows)
        for row in rows:
            missing = [name for name in self.column_names if name not in row]
            if missing:
                raise InvalidInputError(
                    f"Table {self.name}", f"a row lacks column {', '.join(missing)}"
                )
            for name in row:
                self.column(name)
        return self.to_arrow(
            {name: [row[name] for row in rows] for name in self.column_names}, dims
        )

    def to_numpy(
        self, table: pa.Table, columns: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Columns as arrays [rows, *shape]; strings and bytes as object arrays.

        The shape comes from the field's metadata, so no dimension has to be known. Raises
        UnknownNameError for a column that the table lacks.
        """
        names = self.column_names if columns is None else columns
        result = {}
        for name in names:
            column = self.column(name)
            if name not in table.column_names:
                raise UnknownNameError(f"column of {self.name} file", name, table.column_names)
            shape = field_shape(table.schema.field(name))
            result[name] = _column_to_numpy(table.column(name), column.dtype, shape)
        return result

    def to_rows(self, table: pa.Table) -> list[dict[str, Any]]:
        """Rows as dicts: numbers and strings as Python values, shaped columns as arrays."""
        arrays = self.to_numpy(table)
        plain = {column.name for column in self.columns if not column.shape}
        values = {
            name: array.tolist() if name in plain else list(array) for name, array in arrays.items()
        }
        return [
            {name: values[name][row] for name in self.column_names} for row in range(table.num_rows)
        ]

    def _array(self, column: Column, values: Any, shape: tuple[int, ...]) -> pa.Array:
        arrow_type = _ARROW_TYPES[column.stored or column.dtype]
        if column.dtype in ("string", "binary"):
            return pa.array(list(values), type=arrow_type)
        array = np.asarray(values, dtype=column.stored or column.dtype)
        array = array.reshape(0, *shape) if array.size == 0 and len(array) == 0 else array
        if array.shape[1:] != shape:
            raise InvalidInputError(
                f"Table {self.name}, column {column.name}",
                f"rows have shape {array.shape[1:]}, expected {shape} ({column.shape})",
            )
        flat = pa.array(array.reshape(-1), type=arrow_type)
        return pa.FixedSizeListArray.from_arrays(flat, math.prod(shape)) if shape else flat


def field_shape(field: pa.Field) -> tuple[int, ...]:
    """Shape of one row of a column, from the field's metadata."""
    metadata = field.metadata or {}
    return tuple(json.loads(metadata.get(b"shape", b"[]")))


def _column_to_numpy(column: pa.ChunkedArray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if dtype in ("string", "binary"):
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
        return values
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # zero chunks: combine_chunks cannot make an array
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    flat = array.flatten() if shape else array
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=dtype).reshape(len(array), *shape)


def _text(name: str, description: str = "") -> Column:
    return Column(name, "string", description=description)


SUBJECTS = Table(
    "subjects",
    (
        _text("subject"),
        _text("split", "train, validation or test; made once, by subject"),
        _text("sex", "female, male or unknown"),
        Column("height_m", "float64", unit="m"),
        Column("mass_kg", "float64", unit="kg"),
        _text(
            "static_uri", "marker trajectories (.trc) of the static pose, relative to the data set"
        ),
        _text(
            "scale_setup_uri",
            "OpenSim Scale tool setup (.xml); empty: scaled by the data set's measurements",
        ),
        _text("scaled_model_uri", "model (.osim) that is already this subject's; empty: scale it"),
    ),
)

TRIALS = Table(
    "trials",
    (
        _text("trial_id"),
        _text("subject"),
        _text("movement"),
        _text("split"),
        Column("rate_hz", "float64", unit="Hz"),
        Column("frame_count", "int32"),
        _text(
            "markers_uri",
            "marker trajectories (.trc) of exactly the labelled frames, relative to the data set",
        ),
        _text(
            "ik_setup_uri",
            "OpenSim inverse kinematics setup or task set (.xml); empty: the marker set's weights",
        ),
    ),
)

RECORDINGS = Table(
    "recordings",
    (
        _text("recording_id"),
        _text("trial_id"),
        _text("subject"),
        _text("movement"),
        _text("split"),
        _text("camera"),
        _text("uri", "video, relative to the data set or absolute"),
        _text("content_hash"),
        Column("first_frame", "int32", description="its first frame, as an index in the video"),
        Column(
            "start_s",
            "float64",
            unit="s",
            description="time of that frame after the trial's first label",
        ),
        Column("fps", "float64", unit="Hz"),
        Column("frame_count", "int32", description="from first_frame on"),
        Column("width", "int32", unit="px"),
        Column("height", "int32", unit="px"),
        Column("intrinsics", "float64", (3, 3), "px", "image"),
        Column("rotation", "float64", (3, 3), "", "ground -> camera"),
        Column("translation", "float64", (3,), "m", "camera"),
        Column("distortion", "float64", (5,), description="k1, k2, p1, p2, k3"),
        Column("calibrated", "bool", description="false: the camera is an assumed one"),
    ),
)

BOXES = Table(
    "boxes",
    (
        Column("frame", "int32"),
        Column("box", "float64", (4,), "px", "image", "x0, y0, x1, y1"),
        Column("confidence", "float64"),
    ),
)

SUBJECT_LABELS = Table(
    "subject_labels",
    (
        _text("subject"),
        _text("model_uri", "scaled .osim model, relative to the data set"),
        Column("measurement_factors", "float64", ("S",)),
        Column("body_scales", "float64", ("N", 3)),
        Column("static_marker_rms_m", "float64", unit="m"),
    ),
)

LABELS = Table(
    "labels",
    (
        _text("trial_id"),
        _text("subject"),
        Column("frame", "int32"),
        Column("time_s", "float64", unit="s"),
        Column("coordinates", "float64", ("Q",), "rad or m", "joint"),
        Column("root_rotation", "float64", (3, 3), "", "pelvis -> ground"),
        Column("root_position", "float64", (3,), "m", "ground"),
        Column("measurement_factors", "float64", ("S",)),
        Column("body_scales", "float64", ("N", 3)),
        Column("joint_centers", "float64", ("J", 3), "m", "ground", stored="float32"),
        Column(
            "markers_measured",
            "float64",
            ("M", 3),
            "m",
            "ground",
            "NaN: not measured",
            stored="float32",
        ),
        Column("markers_model", "float64", ("M", 3), "m", "ground", stored="float32"),
        Column("marker_error_m", "float64", ("M",), "m", "", "NaN: not measured", stored="float32"),
        Column("coordinate_mask", "bool", ("Q",), description="true: usable as a label"),
        Column("marker_mask", "bool", ("M",), description="true: measured and well fitted"),
        Column("converged", "bool", description="false: the solver stopped short; all is masked"),
    ),
)

_CROP_CAMERA = (
    Column("crop_intrinsics", "float64", (3, 3), "px", "crop image"),
    Column("crop_rotation", "float64", (3, 3), "", "ground -> crop camera"),
    Column("crop_translation", "float64", (3,), "m", "crop camera"),
)

CROPS = Table(
    "crops",
    (
        _text("recording_id"),
        _text("trial_id"),
        _text("subject"),
        _text("split"),
        Column("frame", "int32", description="from the recording's first frame"),
        Column("trial_frame", "int32", description="row of the trial's labels, -1: none"),
        Column("time_s", "float64", unit="s"),
        Column("jpeg", "binary", description="square RGB picture with margin for augmentation"),
        Column("box", "float64", (4,), "px", "image", "x0, y0, x1, y1"),
        *_CROP_CAMERA,
    ),
)

ESTIMATES = Table(
    "estimates",
    (
        _text("recording_id"),
        Column("person", "int32"),
        Column("frame", "int32"),
        Column("time_s", "float64", unit="s"),
        Column("coordinates", "float64", ("P",), "rad", "joint"),
        Column("root_rotation", "float64", (3, 3), "", "pelvis -> crop camera"),
        Column("measurement_factors", "float64", ("S",)),
        Column("box", "float64", (4,), "px", "image", "x0, y0, x1, y1"),
        Column("confidence", "float64"),
        *_CROP_CAMERA,
    ),
)

RESULTS = Table(
    "results",
    (
        _text("recording_id"),
        Column("person", "int32"),
        Column("frame", "int32"),
        Column("time_s", "float64", unit="s"),
        Column("box", "float64", (4,), "px", "image", "x0, y0, x1, y1"),
        Column("confidence", "float64"),
        Column("coordinates", "float64", ("Q",), "rad or m", "joint"),
        Column("root_rotation", "float64", (3, 3), "", "pelvis -> ground"),
        Column("body_scales", "float64", ("N", 3)),
        Column("joint_centers", "float64", ("J", 3), "m", "ground"),
        Column("markers", "float64", ("M", 3), "m", "ground"),
    ),
)

REJECTS = Table(
    "rejects",
    (
        _text("item", "recording, trial or subject id, or a uri"),
        _text("stage"),
        _text("reason"),
        _text("traceback"),
        _text("time_utc", "ISO 8601"),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        SUBJECTS,
        TRIALS,
        RECORDINGS,
        BOXES,
        SUBJECT_LABELS,
        LABELS,
        CROPS,
        ESTIMATES,
        RESULTS,
        REJECTS,
    )
}
