"""OpenSim, loaded when first needed and kept quiet."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from d3ke.errors import InvalidInputError
from d3ke.osim_file_guard import check_osim_file


@cache
def load_opensim() -> Any:
    """The `opensim` module, logging errors only and to no file.

    Without this every process that uses OpenSim leaves an opensim.log in its working directory.
    """
    import opensim

    opensim.Logger.removeFileSink()
    opensim.Logger.setLevelString("Error")
    return opensim


def load_model(path: str | Path) -> Any:
    """An `opensim.Model` whose topology is finalised but whose system is not built.

    Keep the returned object alive as long as anything made from it: OpenSim's tools and solvers
    hold a bare pointer, and using them after the model is collected ends the interpreter.

    Raises:
        InvalidInputError: no such file, or OpenSim cannot read it as a model.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInputError(str(path), "there is no such model file")
    check_osim_file(path)
    opensim = load_opensim()
    try:
        model = opensim.Model(str(path))
        model.finalizeConnections()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise InvalidInputError(
            str(path), f"OpenSim cannot read it as a model ({reason})"
        ) from error
    return model
