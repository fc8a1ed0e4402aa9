"""NumPy archives (.npz) from elsewhere: their arrays, or only the shapes, without any pickle."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from d3ke.errors import InvalidInputError


def read_npz(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays of an archive.

    Raises InvalidInputError: missing, damaged, an array is absent (naming what there is) or is one
    of Python objects, which only unpickling could read.
    """
    with _reading(path), np.load(path, allow_pickle=False) as archive:
        _require(path, names, archive.files)
        return {name: archive[name] for name in names}


def npz_shapes(path: str | Path, names: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
    """Shape of every array of an archive, from its headers: quick however large it is.

    Raises InvalidInputError as `read_npz` does; `names` have to be there.
    """
    shapes = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            if entry.endswith(".npy"):
                with archive.open(entry) as stream:
                    shapes[entry.removesuffix(".npy")] = _header_shape(stream)
        _require(path, names, list(shapes))
    return shapes


def _header_shape(stream: IO[bytes]) -> tuple[int, ...]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, _ = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, _ = np.lib.format.read_array_header_2_0(stream)
    return tuple(shape)


def _require(path: str | Path, names: Sequence[str], there: Sequence[str]) -> None:
    missing = [name for name in names if name not in there]
    if missing:
        raise InvalidInputError(
            str(path), f"holds no {', '.join(missing)}, only {', '.join(there) or 'nothing'}"
        )


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InvalidInputError(str(path), "there is no such file") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = f"is not a readable .npz file: damaged or broken off ({error})"
        raise InvalidInputError(str(path), reason) from error
