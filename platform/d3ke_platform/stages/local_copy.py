"""Videos as local files: decoders want a path."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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


class KeptCopy:
    """`local_copy` that keeps the last video it had to copy, for the next who asks for the same.

    A video is looked at, then scored, and a long one in many parts.
    """

    def __init__(self) -> None:
        self._uri = ""
        self._copy = LocalCopy(Path(), "")
        self._keeping = ExitStack()

    @contextmanager
    def __call__(self, uri: str, *, content_hash: str = "") -> Iterator[LocalCopy]:
        """As `local_copy`, but what was copied is deleted when another video is asked for."""
        if not (content_hash and uri == self._uri and content_hash == self._copy.content_hash):
            self.close()
            self._copy = self._keeping.enter_context(local_copy(uri, content_hash=content_hash))
            self._uri = uri
        yield self._copy

    def close(self) -> None:
        """Delete what is kept."""
        self._uri = ""
        self._keeping.close()
