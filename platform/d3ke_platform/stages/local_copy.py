"""Videos as local files: decoders want a path."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from d3ke.errors import InvalidInputError
from d3ke_platform import storage


class LocalCopy(NamedTuple):
    """A video on this machine."""

    path: Path
    content_hash: str


@contextmanager
def local_copy(uri: str, *, content_hash: str = "") -> Iterator[LocalCopy]:
    """A local file with the content of a uri, deleted afterwards if it had to be copied.

    `content_hash` is what the content is known to hash to: a local file is not read again then,
    and another content that an object has by now is an InvalidInputError.
    """
    if not storage.is_uri(uri) and content_hash:
        path = storage.local_path(uri)
        if not path.exists():
            raise InvalidInputError(uri, "no such file")
        yield LocalCopy(path, content_hash)
        return
    with tempfile.TemporaryDirectory(prefix="d3ke-") as folder:
        copy = LocalCopy(*storage.fetch(uri, Path(folder)))
        if content_hash and copy.content_hash != content_hash:
            raise InvalidInputError(uri, "has changed since it was looked at", "Score it again.")
        yield copy
