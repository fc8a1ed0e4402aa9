"""Files of the platform: local paths and URIs, atomic writes, content hashes.

A location is a local path or a URI that pyarrow knows (s3://, gs://, ...). A reader never sees a
half-written file: local files are renamed into place, objects are put in one piece.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from d3ke.arrays import IntArray
from d3ke.errors import InvalidInputError
from d3ke_platform.errors import UnwritableError
from d3ke_platform.locations import Location, filesystem, is_uri, join, plain_reason

_BLOCK_BYTES = 4 << 20


def exists(location: Location) -> bool:
    """Whether a file or folder is there."""
    return _file_type(location) != pafs.FileType.NotFound


def is_file(location: Location) -> bool:
    """Whether a file or an object, not a folder, is there."""
    return bool(_file_type(location) == pafs.FileType.File)


def _file_type(location: Location) -> Any:
    system, path = filesystem(location)
    try:
        return system.get_file_info(path).type
    except OSError as error:
        raise InvalidInputError(str(location), f"cannot be read ({plain_reason(error)})") from error


def list_files(location: Location, suffix: str = "") -> list[str]:
    """Files below a folder (recursively), sorted; an absent folder has none.

    Hidden and temporary names (leading dot) are left out. Local folders give absolute paths,
    URIs give URIs.
    """
    return [file for file in file_sizes(location) if file.endswith(suffix)]


def file_sizes(location: Location) -> dict[str, int]:
    """Size [bytes] of every file that `list_files` gives."""
    system, path = filesystem(location)
    selector = pafs.FileSelector(path, recursive=True, allow_not_found=True)
    prefix = str(location).split("://", 1)[0] + "://" if is_uri(location) else ""
    try:
        found = [info for info in system.get_file_info(selector) if info.is_file]
    except OSError as error:
        raise InvalidInputError(
            str(location), f"cannot be listed ({plain_reason(error)})"
        ) from error
    visible = [info for info in found if not info.base_name.startswith(".")]
    return {prefix + info.path: info.size for info in sorted(visible, key=lambda i: i.path)}


def make_folder(location: Location) -> None:
    """Create a folder with its parents and check that it can be written.

    Raises UnwritableError, also where permissions do not tell (a file in the way, /proc).
    """
    try:
        system, path = filesystem(location)
        system.create_dir(path, recursive=True)
        probe = join(path, f".probe-{uuid4().hex}")
        with system.open_output_stream(probe) as stream:
            stream.write(b"")
        system.delete_file(probe)
    except (OSError, pa.ArrowException) as error:
        raise UnwritableError(str(location), plain_reason(error)) from error


def remove(location: Location) -> None:
    """Delete a file or a folder with everything in it; absent is fine."""
    system, path = filesystem(location)
    kind = system.get_file_info(path).type
    if kind == pafs.FileType.Directory:
        system.delete_dir(path)
    elif kind == pafs.FileType.File:
        system.delete_file(path)


def write_bytes(location: Location, content: bytes) -> None:
    """Write a file atomically; raises UnwritableError."""
    system, path = filesystem(location)
    try:
        if isinstance(system, pafs.LocalFileSystem):
            _replace_file(Path(path), lambda part: part.write_bytes(content))
        else:
            with system.open_output_stream(path) as stream:
                stream.write(content)
    except (OSError, pa.ArrowException) as error:
        raise UnwritableError(str(location), plain_reason(error)) from error


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary path)` beside a local path, then rename into place.

    For writers that take a path (OpenSim, video encoders). The temporary file keeps the suffix.
    """
    _replace_file(path, write)


def read_bytes(location: Location) -> bytes:
    """Content of a file; raises InvalidInputError when it is absent or unreadable."""
    system, path = filesystem(location)
    try:
        with system.open_input_stream(path) as stream:
            return bytes(stream.read())
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(str(location), f"cannot be read ({plain_reason(error)})") from error


def write_json(location: Location, content: Any) -> None:
    """Write JSON (dataclasses, paths, tuples and NumPy numbers are converted) atomically."""
    text = json.dumps(content, indent=2, default=_plain, ensure_ascii=False)
    write_bytes(location, (text + "\n").encode())


def read_json(location: Location) -> Any:
    """Parsed JSON; raises InvalidInputError when absent or not JSON."""
    content = read_bytes(location)
    try:
        return json.loads(content)
    except ValueError as error:
        raise InvalidInputError(str(location), f"is not JSON ({error})") from error


def write_table(location: Location, table: pa.Table, *, group_rows: int | None = None) -> None:
    """Write a Parquet file atomically; readers of parts read whole groups of `group_rows` rows."""
    sink = io.BytesIO()
    measured = {column for column in table.schema.names if _varies(table, column)}
    # Floating-point numbers that change from row to row: their first bytes are alike, so bytes
    # are sorted by place before they are compressed; that saves a quarter of a file of labels.
    pq.write_table(
        table,
        sink,
        compression="zstd",
        row_group_size=group_rows,
        use_byte_stream_split=[
            leaf_name(table.schema, name) for name in table.schema.names if name in measured
        ],
        use_dictionary=[
            leaf_name(table.schema, name) for name in table.schema.names if name not in measured
        ],
    )
    write_bytes(location, sink.getvalue())


def is_measured(kind: pa.DataType) -> bool:
    """Whether a column of this type holds floating-point numbers."""
    value = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return pa.types.is_floating(value)


def _varies(table: pa.Table, name: str) -> bool:
    """Whether a column holds floating-point numbers that are not the same in every row."""
    column = table.column(name)
    if not is_measured(table.schema.field(name).type) or table.num_rows < 3:
        return False
    first, *others = (column[row].as_py() for row in (0, table.num_rows // 2, table.num_rows - 1))
    return any(other != first for other in others)


def leaf_name(schema: pa.Schema, name: str) -> str:
    """Parquet's name of a column's values."""
    nested = pa.types.is_fixed_size_list(schema.field(name).type)
    return f"{name}.list.element" if nested else name


def read_table(location: Location, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file; raises InvalidInputError when it is absent or broken."""
    system, path = filesystem(location)
    try:
        with system.open_input_file(path) as source:
            return pq.read_table(source, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(str(location), f"cannot be read ({plain_reason(error)})") from error


def count_rows(location: Location) -> int:
    """Number of rows of a Parquet file, from its end alone; InvalidInputError as `read_table`."""
    system, path = filesystem(location)
    try:
        with system.open_input_file(path) as source:
            return int(pq.read_metadata(source).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(str(location), f"cannot be read ({plain_reason(error)})") from error


def group_sizes(location: Location) -> list[int]:
    """Rows of every row group of a Parquet file; InvalidInputError as `read_table`."""
    system, path = filesystem(location)
    try:
        with system.open_input_file(path) as source:
            found = pq.read_metadata(source)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(str(location), f"cannot be read ({plain_reason(error)})") from error
    return [found.row_group(index).num_rows for index in range(found.num_row_groups)]


def read_rows(location: Location, columns: list[str], rows: IntArray) -> pa.Table:
    """Rows [n] of a Parquet file in the order asked for; reads the row groups they lie in only.

    Raises InvalidInputError as `read_table`.
    """
    system, path = filesystem(location)
    try:
        with system.open_input_file(path) as source:
            file = pq.ParquetFile(source)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            groups = np.searchsorted(ends, rows, side="right")
            needed, at = np.unique(groups, return_inverse=True)
            table = file.read_row_groups(needed.tolist(), columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(str(location), f"cannot be read ({plain_reason(error)})") from error
    kept = np.array(sizes)[needed]
    firsts = np.cumsum(kept) - kept
    return table.take(firsts[at] + rows - (ends[groups] - np.array(sizes)[groups]))


def local_path(location: Location) -> Path:
    """A local file with the content of a location, for readers that need a path.

    Remote files are copied once into a cache below the temporary folder.
    """
    if not is_uri(location):
        return Path(os.path.abspath(os.path.expanduser(str(location))))
    name = str(location).rsplit("/", 1)[-1]
    system, path = filesystem(location)
    info = system.get_file_info(path)
    # Size and time are part of the key, so that a changed object is copied again.
    key = content_hash(f"{location} {info.size} {info.mtime_ns}".encode())
    folder = Path(tempfile.gettempdir()) / f"d3ke-{os.getuid()}" / key
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        content = read_bytes(location)
        _replace_file(folder / name, lambda part: part.write_bytes(content))
    return folder / name


def fetch(location: Location, folder: Path) -> tuple[Path, str]:
    """A local file with the content of a location, and its content hash, read once.

    A local file is hashed where it is; anything else is copied into `folder` and hashed on the way.
    Raises InvalidInputError when it is absent or unreadable.
    """
    if not is_uri(location):
        path = local_path(location)
        return path, content_hash(path)
    name = safe_name(str(location).rsplit("/", 1)[-1])
    with (folder / name).open("wb") as copy:
        return folder / name, _hash_blocks(_blocks(location), copy)


def content_hash(content: Location | bytes) -> str:
    """16 hex digits of the SHA-256 of bytes or of a file's content.

    Raises InvalidInputError when the file is absent or unreadable.
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()[:16]
    return _hash_blocks(_blocks(content))


def _hash_blocks(blocks: Iterator[bytes], copy: BinaryIO | None = None) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
        if copy is not None:
            copy.write(block)
    return digest.hexdigest()[:16]


def _blocks(location: Location) -> Iterator[bytes]:
    system, path = filesystem(location)
    # Reading a pipe waits for ever, and /dev/zero has no end.
    if isinstance(system, pafs.LocalFileSystem) and os.path.exists(path) and not is_file(path):
        raise InvalidInputError(str(location), "is not a file")
    try:
        with system.open_input_stream(path) as stream:
            while block := stream.read(_BLOCK_BYTES):
                yield block
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(str(location), f"cannot be read ({plain_reason(error)})") from error


def fingerprint(location: Location) -> str:
    """16 hex digits that change when a file is replaced, without reading its content.

    Size and time, and an object's entity tag: with a note of which content hash belonged to it, a
    restart need not download an archive to learn that it has been scored. Raises
    InvalidInputError when the file is absent or unreadable.
    """
    system, path = filesystem(location)
    try:
        info = system.get_file_info(path)
        if not info.is_file:
            raise InvalidInputError(str(location), "no such file")
        tag = b""
        if is_uri(location) and not isinstance(system, pafs.LocalFileSystem):
            with system.open_input_file(path) as source:
                tag = (source.metadata() or {}).get("ETag", b"")
    except OSError as error:
        raise InvalidInputError(str(location), f"cannot be read ({plain_reason(error)})") from error
    return content_hash(f"{info.size} {info.mtime_ns} {tag!r}".encode())


def safe_name(text: str) -> str:
    """A text as the name of a file anywhere: letters and digits of any script, "." "_" "-".

    Not empty, without a leading dot, at most 80 characters and 200 bytes. Different texts can
    give the same name.
    """
    name = re.sub(r"[^\w.-]+", "_", text.encode("utf-8", "replace").decode()).lstrip(".") or "_"
    return name[:80].encode()[:200].decode("utf-8", "ignore")


def settings_hash(settings: Any) -> str:
    """16 hex digits that change with any value of a settings dataclass or JSON-like object."""
    text = json.dumps(settings, sort_keys=True, default=_plain)
    return content_hash(text.encode())


def plain(settings: Any) -> Any:
    """Settings as JSON-like values: what `write_json` then `read_json` would give."""
    return json.loads(json.dumps(settings, default=_plain))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return value.tolist()
    raise TypeError(f"{value!r} cannot be written as JSON")


def _replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{uuid4().hex}{path.suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
