"""Everything that is read and written: files at any location, and data sets made of them."""

from __future__ import annotations

from d3ke_platform.data_set import DataSet, difference, read_rejects, write_rejects
from d3ke_platform.files import (
    Location,
    content_hash,
    count_rows,
    exists,
    file_sizes,
    is_uri,
    join,
    list_files,
    local_path,
    make_folder,
    plain,
    read_bytes,
    read_json,
    read_table,
    remove,
    settings_hash,
    write_atomically,
    write_bytes,
    write_json,
    write_table,
)

__all__ = [
    "DataSet",
    "Location",
    "content_hash",
    "count_rows",
    "difference",
    "exists",
    "file_sizes",
    "is_uri",
    "join",
    "list_files",
    "local_path",
    "make_folder",
    "plain",
    "read_bytes",
    "read_json",
    "read_rejects",
    "read_table",
    "remove",
    "settings_hash",
    "write_atomically",
    "write_bytes",
    "write_json",
    "write_rejects",
    "write_table",
]
