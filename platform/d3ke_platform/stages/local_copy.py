"""Videos as local files: decoders want a path."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pyarrow.fs as pafs

from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.files import filesystem


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local file with the content of a uri, deleted afterwards if it had to be copied."""
    if not storage.is_uri(uri):
        path = storage.local_path(uri)
        if not path.is_file():
            raise InvalidInputError(uri, "no such file")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="d3ke-") as folder:
        path = Path(folder) / f"video{PurePosixPath(uri).suffix}"
        system, remote = filesystem(uri)
        try:
            pafs.copy_files(remote, str(path), source_filesystem=system)
        except OSError as error:
            raise InvalidInputError(uri, f"cannot be copied ({error})") from error
        yield path
