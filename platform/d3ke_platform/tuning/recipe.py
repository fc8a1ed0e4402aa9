"""Settings of a training as a TOML file that jobs/train.py takes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from d3ke_platform.storage import plain
from d3ke_platform.training.run_folder import FREE
from d3ke_platform.training.settings import TrainSettings


def recipe_text(settings: TrainSettings, comment: Sequence[str]) -> str:
    """The [train] table with every setting of the model, below the lines of a comment.

    Where and with what is trained (`run_folder.FREE`) is not part of a recipe.

    A setting without a value (None) is left out: TOML has no word for it, and None is what such
    settings are by default.
    """
    lines = [f"# {line}".rstrip() for line in comment]
    return "\n".join(lines) + "\n\n" + recipe_of(plain(asdict(settings)))


def recipe_of(content: Mapping[str, Any]) -> str:
    """The same of settings in their JSON form, without a comment."""
    kept = {name: value for name, value in content.items() if name not in FREE}
    return "\n".join(_table("train", kept)) + "\n"


def _table(name: str, content: Mapping[str, Any]) -> Iterator[str]:
    inner = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    yield f"[{name}]"
    for key, value in content.items():
        if key not in inner and value is not None:
            # JSON's text of strings, numbers, true, false and lists is TOML's.
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in inner.items():
        yield ""
        yield from _table(f"{name}.{key}", value)
