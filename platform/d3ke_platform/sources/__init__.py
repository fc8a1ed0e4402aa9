"""Sources of recordings and marker trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from d3ke.camera import Camera
    from d3ke.kinematics import MarkerSet, ScalingSettings
    from d3ke.skeleton import MeasurementSet, PredictedSet

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """What a source is going to deliver, known before anything is made."""

    model_osim: Path
    """OpenSim model to be scaled; the marker set's markers are put on it."""
    marker_set: MarkerSet
    """Markers of the trajectories."""
    measurements: MeasurementSet
    """How marker distances scale the bodies."""
    predicted: PredictedSet
    """Coordinates that networks predict."""
    subjects: Sequence[Row]
    """Rows of the SUBJECTS table."""
    units: Sequence[dict[str, Any]]
    """Pieces of work for `make`, each with a unique "unit" id and its "subject"; JSON values. Those
    of a "phase" (0 if left out) are made side by side, after all of the phase before."""
    notes: Sequence[str] = ()
    """What the source found and decided, a line each; kept as notes.json."""
    scaling: ScalingSettings | None = None
    """Locks and couplers while subjects are scaled and after; None = the built-in model's."""


@dataclass(frozen=True, kw_only=True)
class MadeUnit:
    """What one unit delivered: table rows whose files lie in the data set."""

    trials: Sequence[Row] = field(default_factory=tuple)
    """Rows of the TRIALS table."""
    recordings: Sequence[Row] = field(default_factory=tuple)
    """Rows of the RECORDINGS table."""


@dataclass(frozen=True, kw_only=True)
class InputCheck:
    """What a look at an input folder tells, before anything is made from it."""

    usable: bool
    """Whether there is anything to make a data set from."""
    found: Mapping[str, int]
    """Number of usable things by kind."""
    missing: Mapping[str, str]
    """Kind -> what of it is not there."""
    skipped: Mapping[str, str]
    """Reason -> who is left out for it."""
    problems: Sequence[str]
    """Broken files, a sentence each: what they belong to is rejected."""
    get: Sequence[str]
    """What to get from where, for what is missing."""


class Source(Protocol):
    """Delivers subjects, trials and recordings into a data set's folder.

    A source is picklable and deterministic: the same settings give the same files and ids on any
    machine. `make` runs in worker processes, once per unit, and writes its files atomically below
    `folder` under the names of the data set's layout (subjects/<subject>_static.trc,
    trials/<trial>.trc, videos/<recording>.mp4, boxes/<recording>.parquet).
    """

    name: str

    def plan(self, folder: Path) -> SourcePlan:
        """Everything known beforehand; quick, no rendering."""
        ...

    def make(self, unit: dict[str, Any], folder: Path) -> MadeUnit:
        """Write one unit's files; raises D3KEError when the unit cannot be made."""
        ...


class CheckedSource(Source, Protocol):
    """A source that can say beforehand what of its input is usable."""

    def check(self) -> InputCheck:
        """Look at the input folder, in seconds; raises D3KEError when there is none."""
        ...


def calibrated_columns(camera: Camera) -> dict[str, Any]:
    """Columns of RECORDINGS that say how a known camera stands; `stages.crop.camera_of` reads
    them."""
    return {
        "width": camera.size[0],
        "height": camera.size[1],
        "intrinsics": camera.intrinsics,
        "rotation": camera.rotation,
        "translation": camera.translation,
        "distortion": camera.distortion,
        "calibrated": True,
    }
