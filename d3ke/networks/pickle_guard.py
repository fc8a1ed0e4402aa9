"""Finding pickled files: whoever loads a pickle runs the code of whoever wrote it."""

from __future__ import annotations

import zipfile
from pathlib import Path

_SUFFIXES = frozenset(
    {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".npy", ".npz"}
)
_PROTOCOLS = frozenset({2, 3, 4, 5})


def find_pickle(folder: Path) -> Path | None:
    """The first file below a folder that is a pickle or of a kind that may hold one.

    Told by name and, whatever the name, by content: a pickle's first bytes, or an archive with a
    pickle in it, which is what `torch.save` writes.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (path.suffix.lower() in _SUFFIXES or _holds_pickle(path)):
            return path
    return None


def _holds_pickle(path: Path) -> bool:
    if path.suffix == ".safetensors":  # its first bytes are a length, which may be any
        return False
    with path.open("rb") as stream:
        start = stream.read(2)
    if len(start) == 2 and start[0] == 0x80 and start[1] in _PROTOCOLS:
        return True
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".pkl") for name in archive.namelist())
