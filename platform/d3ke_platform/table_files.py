"""Parquet files that are written table by table, with JSON values beside their schema."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from d3ke.errors import InvalidInputError
from d3ke_platform.errors import UnwritableError
from d3ke_platform.files import (
    is_measured,
    leaf_name,
    local_path,
    plain,
    write_atomically,
    write_bytes,
)
from d3ke_platform.locations import Location, filesystem, is_uri


def write_tables(
    location: Location,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    *,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a Parquet file of many tables atomically, holding one of them at a time.

    `metadata` are JSON values for `read_metadata`; those of `schema` are kept.
    """
    added = {key: json.dumps(plain(value)) for key, value in (metadata or {}).items()}
    schema = schema.with_metadata({**(schema.metadata or {}), **added})
    measured = [field.name for field in schema if is_measured(field.type)]
    options = {
        "compression": "zstd",
        "use_byte_stream_split": [leaf_name(schema, name) for name in measured],
        "use_dictionary": [leaf_name(schema, n) for n in schema.names if n not in measured],
    }

    def write(path: Path) -> None:
        with pq.ParquetWriter(path, schema, **options) as writer:
            for table in tables:
                writer.write_table(table.replace_schema_metadata(schema.metadata))

    try:
        if not is_uri(location):
            write_atomically(local_path(location), write)
            return
        with tempfile.TemporaryDirectory(prefix="d3ke-") as folder:
            part = Path(folder) / "table.parquet"
            write(part)
            write_bytes(location, part.read_bytes())
    except (OSError, pa.ArrowException) as error:
        raise UnwritableError(str(location), str(error)) from error


def read_metadata(location: Location, key: str) -> Any:
    """JSON value that `write_tables` has put into a Parquet file; None where there is none."""
    system, path = filesystem(location)
    try:
        with system.open_input_file(path) as source:
            metadata = pq.read_schema(source).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(str(location), f"cannot be read ({error})") from error
    return json.loads(metadata.get(key.encode(), b"null"))
