"""Checks of an OpenSim document before OpenSim reads it: it would follow names to other files."""

from __future__ import annotations

import re
from pathlib import Path

from d3ke.errors import InvalidInputError

_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_INCLUDE = re.compile(rb"""<(\w+)[^<>]*?\sfile\s*=\s*(?:"\s*([^"\s][^"]*)"|'\s*([^'\s][^']*)')""")
_MESH = re.compile(rb"<(?:mesh|geometry|texture)_file>\s*([^<>]*?)\s*<")


def check_osim_file(path: Path) -> None:
    """Refuse what would make OpenSim read more than this file and the meshes of its bodies.

    A set with a `file` attribute is read from that file, wherever it is; meshes are opened,
    whatever they are. Of a document type nothing is expanded or fetched; it breaks the reading.

    Raises:
        InvalidInputError: a document type, a part in another file, or a mesh that is a device or
            a pipe, which could be read for ever.
    """
    content = _COMMENT.sub(b"", path.read_bytes())
    if b"<!DOCTYPE" in content:
        reason = "it has a document type, which OpenSim cannot read"
        raise InvalidInputError(str(path), reason, "Delete <!DOCTYPE ...> in a text editor.")
    include = _INCLUDE.search(content)
    if include is not None:
        file = (include[2] or include[3]).decode(errors="replace")
        reason = f"its {include[1].decode()} is in another file, {file!r}, which is not read"
        raise InvalidInputError(str(path), reason, "Saved in OpenSim, a model is one file.")
    for name in set(_MESH.findall(content)):
        mesh = path.parent / name.decode(errors="replace")
        if name and mesh.exists() and not (mesh.is_file() or mesh.is_dir()):
            raise InvalidInputError(str(path), f"its mesh {str(mesh)!r} is not a regular file")
