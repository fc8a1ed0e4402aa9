"""Measurements: the distances that scale a model, shared by bodies and axes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.skeleton.skeleton import Skeleton

FORMAT = "d3ke.measurements"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class MeasurementSet:
    """S measurements, as OpenSim's Scale tool understands them.

    A measurement's factor is the mean, over its marker pairs, of the subject's distance over the
    model's; it scales the listed axes of the listed bodies. A later measurement overrides an
    earlier one on the same body axis.
    """

    marker_pairs: Mapping[str, tuple[tuple[str, str], ...]]
    """Per measurement, in order; () = its factor is stated or estimated, not measured."""
    body_axes: Mapping[str, tuple[tuple[str, str], ...]]
    """Per measurement: (body, subset of "xyz")."""

    def __post_init__(self) -> None:
        if list(self.marker_pairs) != list(self.body_axes):
            raise InvalidInputError("measurement set", "marker_pairs and body_axes differ in names")
        for name, uses in self.body_axes.items():
            for body, axes in uses:
                if not axes or set(axes) - set("xyz"):
                    reason = f"axes {axes!r} of body {body!r} are no subset of 'xyz'"
                    raise InvalidInputError(f"measurement {name!r}", reason)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.marker_pairs)

    @property
    def measured(self) -> bool:
        """Whether marker pairs give all factors."""
        return all(self.marker_pairs.values())

    def slots(self, skeleton: Skeleton) -> Int[np.ndarray, "N 3"]:
        """Index of the measurement of each body axis, -1 = none; UnknownNameError for a body
        that the skeleton lacks."""
        result = np.full((len(skeleton.bodies), 3), -1, dtype=np.int64)
        for index, uses in enumerate(self.body_axes.values()):
            for body, axes in uses:
                row = skeleton.index_of("body", body)
                result[row, ["xyz".index(axis) for axis in axes]] = index
        return result

    def body_scales(
        self, factors: Float[Tensor, "*batch S"], skeleton: Skeleton
    ) -> Float[Tensor, "*batch N 3"]:
        """Scale of every body axis from the factors; 1 where none applies."""
        slots = torch.from_numpy(self.slots(skeleton)).to(factors.device)
        # Index -1 picks the appended one.
        padded = torch.cat([factors, torch.ones_like(factors[..., :1])], -1)
        return padded[..., slots]

    def factors_from_body_scales(
        self, scales: Float[np.ndarray, "N 3"], skeleton: Skeleton
    ) -> Float[np.ndarray, " S"]:
        """Factors whose `body_scales` come closest to `scales`: the mean over a factor's slots
        (1 for a measurement that every later one overrides)."""
        slots = self.slots(skeleton)
        factors = np.ones(len(self.names))
        for index in range(len(self.names)):
            used = scales[slots == index]
            factors[index] = used.mean() if used.size else 1.0
        return factors

    def to_json(self) -> dict[str, Any]:
        """Plain lists and names."""
        entries = [
            {"name": name, "marker_pairs": self.marker_pairs[name], "body_axes": uses}
            for name, uses in self.body_axes.items()
        ]
        return {"format": FORMAT, "version": VERSION, "measurements": entries}

    def save(self, path: str | Path) -> None:
        """Write as JSON."""
        Path(path).write_text(json.dumps(self.to_json(), indent=1))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> MeasurementSet:
        """Inverse of `to_json`; InvalidInputError for another format or version."""
        if (data.get("format"), data.get("version")) != (FORMAT, VERSION):
            found = f"{data.get('format')!r} version {data.get('version')!r}"
            raise InvalidInputError("measurement file", f"is {found}, not {FORMAT} {VERSION}")
        entries = data["measurements"]
        return cls(
            marker_pairs={e["name"]: _pairs(e["marker_pairs"]) for e in entries},
            body_axes={e["name"]: _pairs(e["body_axes"]) for e in entries},
        )

    @classmethod
    def load(cls, path: str | Path) -> MeasurementSet:
        """Read a file written by `save`."""
        try:
            return cls.from_json(json.loads(Path(path).read_text()))
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"measurement file {path}", str(error)) from error

    @classmethod
    def full_body(cls) -> MeasurementSet:
        """The measurements of the built-in model."""
        return cls.load(Path(__file__).parent / "models" / "full_body_measurements.json")

    def check_markers(self, skeleton: Skeleton) -> None:
        """UnknownNameError for a marker that the skeleton lacks."""
        for pairs in self.marker_pairs.values():
            for pair in pairs:
                for marker in pair:
                    if marker not in skeleton.markers:
                        raise UnknownNameError("marker", marker, skeleton.markers)


def _pairs(rows: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((first, second) for first, second in rows)
