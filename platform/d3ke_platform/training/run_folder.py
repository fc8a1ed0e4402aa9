"""The folder of a training run: what is in it, what is finished, and which settings made it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from d3ke_platform.errors import UnwritableError, UsageError
from d3ke_platform.storage import settings_hash
from d3ke_platform.training.settings import TrainSettings

# Where and with what a run is made may change between two starts of the same run.
FREE = (
    "data",
    "output",
    "workers",
    "workers_min",
    "in_process",
    "max_failures",
    "experiment",
)


class RunMismatchError(UsageError):
    """The run folder was begun with other settings or other data."""

    def __init__(self, folder: str, changed: list[str]) -> None:
        super().__init__(
            f"{folder} holds a run with other settings: {'; '.join(changed)}. "
            "Choose another --output, or delete the folder to start over."
        )
        self._arguments = (folder, changed)


class RunFolder:
    """Paths of a run and its record `run.json`.

    A part ("frame", "estimates", "sequence", ...) that is marked done is never done again.
    """

    def __init__(
        self, settings: TrainSettings, data_hash: str, *, free: tuple[str, ...] = FREE
    ) -> None:
        """`free`: settings that may change between two starts."""
        self.root = Path(settings.output).absolute()
        self._path = self.root / "run.json"
        wanted = flatten({k: v for k, v in asdict(settings).items() if k not in free})
        wanted["data_hash"] = data_hash
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableError(str(self.root), str(error)) from error
        if self._path.exists():
            self._record = json.loads(self._path.read_text())
            changed = differences(self._record["settings"], wanted)
            if changed:
                raise RunMismatchError(str(self.root), changed)
        else:
            self._record = {"settings": wanted, "hash": settings_hash(wanted), "parts": {}}
            self._write()

    @property
    def config_hash(self) -> str:
        """16 hexadecimal digits that stand for the settings and the data."""
        return self._record["hash"]

    @property
    def settings(self) -> dict[str, Any]:
        """Settings and data hash of the run, flat."""
        return dict(self._record["settings"])

    @property
    def progress(self) -> Path:
        """JSON lines, one per epoch of either stage."""
        return self.root / "progress.jsonl"

    @property
    def bundle(self) -> Path:
        """The finished model."""
        return self.root / "bundle"

    def part(self, name: str) -> Path:
        """Folder of a part, created."""
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        return folder

    def done(self, part: str) -> dict[str, Any] | None:
        """What a finished part came to, None while it is unfinished."""
        return self._record["parts"].get(part)

    def mark(self, part: str, outcome: dict[str, Any]) -> dict[str, Any]:
        """Record that `part` is finished; `outcome` is JSON-able and is returned."""
        self._record["parts"][part] = outcome
        self._write()
        return outcome

    def _write(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._record, indent=1))
        os.replace(fresh, self._path)


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level with dotted names; tuples become lists, as in JSON."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Readable list of the names whose values differ."""
    names = sorted(set(old) | set(new))
    return [
        f"{name} was {old.get(name)!r}, now {new.get(name)!r}"
        for name in names
        if old.get(name) != new.get(name)
    ]
