"""What the networks of the paper predict and are judged by."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d3ke.errors import InvalidInputError, UnknownNameError

FORMAT = "d3ke.predicted"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PredictedSet:
    """Predicted coordinates, loss weights, landmarks and mirror maps of a model."""

    coordinates: tuple[str, ...]
    """P names, in the paper's order."""
    angle_loss_weights: tuple[float, ...]
    """P weights of the angle loss: wider ranges count more."""
    marker_loss_weights: Mapping[str, float]
    """Per supervised marker."""
    bony_landmarks: tuple[str, ...]
    """Markers of the mean per bony landmark position error (MPBLPE)."""
    groups: Mapping[str, tuple[str, ...]]
    """Named subsets of `coordinates` for reports: main, legs, arms, trunk."""
    mirror_coordinates: Mapping[str, tuple[str, int]]
    """Coordinate -> (coordinate of the other side, sign) under left/right mirroring."""
    mirror_markers: Mapping[str, str]
    body_longest_axis: Mapping[str, tuple[str, float]]
    """Body -> (axis, extent of its bone along it in the model as loaded [m]): turns a scale
    error into millimetres (MAE_body)."""

    def __post_init__(self) -> None:
        if len(self.coordinates) != len(self.angle_loss_weights):
            raise InvalidInputError("predicted set", "coordinates and weights differ in number")
        for group in self.groups.values():
            for name in group:
                if name not in self.coordinates:
                    raise UnknownNameError("predicted coordinate", name, self.coordinates)

    def select(self, names: Sequence[str]) -> PredictedSet:
        """The same with only some coordinates, in this set's order.

        Args:
            names: coordinates, or groups of them ("arms").

        Raises:
            UnknownNameError: neither a coordinate nor a group.
        """
        chosen: set[str] = set()
        for name in names:
            if name in self.groups:
                chosen.update(self.groups[name])
            elif name in self.coordinates:
                chosen.add(name)
            else:
                valid = (*self.groups, *self.coordinates)
                raise UnknownNameError("predicted coordinate or group", name, valid)
        weights = dict(zip(self.coordinates, self.angle_loss_weights, strict=True))
        kept = tuple(name for name in self.coordinates if name in chosen)
        groups = {
            group: tuple(name for name in members if name in chosen)
            for group, members in self.groups.items()
        }
        return replace(
            self,
            coordinates=kept,
            angle_loss_weights=tuple(weights[name] for name in kept),
            groups={group: members for group, members in groups.items() if members},
        )

    def to_json(self) -> dict[str, Any]:
        """Plain lists and names."""
        return {"format": FORMAT, "version": VERSION} | vars(self)

    def save(self, path: str | Path) -> None:
        """Write as JSON."""
        Path(path).write_text(json.dumps(self.to_json(), indent=1))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PredictedSet:
        """Inverse of `to_json`; InvalidInputError for another format or version."""
        if (data.get("format"), data.get("version")) != (FORMAT, VERSION):
            found = f"{data.get('format')!r} version {data.get('version')!r}"
            raise InvalidInputError("predicted-set file", f"is {found}, not {FORMAT} {VERSION}")
        return cls(
            coordinates=tuple(data["coordinates"]),
            angle_loss_weights=tuple(data["angle_loss_weights"]),
            marker_loss_weights=dict(data["marker_loss_weights"]),
            bony_landmarks=tuple(data["bony_landmarks"]),
            groups={name: tuple(group) for name, group in data["groups"].items()},
            mirror_coordinates={n: (m, int(s)) for n, (m, s) in data["mirror_coordinates"].items()},
            mirror_markers=dict(data["mirror_markers"]),
            body_longest_axis={b: (a, float(x)) for b, (a, x) in data["body_longest_axis"].items()},
        )

    @classmethod
    def load(cls, path: str | Path) -> PredictedSet:
        """Read a file written by `save`."""
        try:
            return cls.from_json(json.loads(Path(path).read_text()))
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"predicted-set file {path}", str(error)) from error

    @classmethod
    def full_body(cls) -> PredictedSet:
        """The paper's 69 coordinates, 65 markers and 30 bony landmarks."""
        return cls.load(Path(__file__).parent / "models" / "full_body_predicted.json")
