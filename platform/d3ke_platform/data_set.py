"""A prepared data set: one folder (or URI) that training, evaluation and scoring read.

Layout: dataset.json skeleton.json measurements.json predicted.json marker_set.json scaling.json
model.osim subjects.parquet trials.parquet recordings.parquet
subjects/<subject>{_static.trc,.osim,.parquet} trials/<trial>.trc videos/<recording>.mp4
boxes/<recording>.parquet labels/<trial>.parquet crops/<recording>.parquet rejects/*.parquet
summary.json quality.html quality.json quality_trials.parquet; units.json and units/<unit>.json keep
what the source was asked for and has delivered; quality/ is what it adds to the page; notes.json
what it found; subjects/<subject>/ setups and models of subjects that have their own;
views/ what several cameras saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d3ke_platform import files
from d3ke_platform.errors import SchemaVersionError, UsageError
from d3ke_platform.schema import (
    RECORDINGS,
    REJECTS,
    SCHEMA_VERSION,
    SUBJECTS,
    TRIALS,
    Table,
)

if TYPE_CHECKING:
    from d3ke.kinematics import MarkerSet, ScalingSettings
    from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton

_FOLDERS = (
    "subjects",
    "trials",
    "videos",
    "units",
    "boxes",
    "views",
    "labels",
    "crops",
    "rejects",
    "quality",
)
_HASHED_FILES = (
    "dataset.json",
    "skeleton.json",
    "measurements.json",
    "predicted.json",
    "subjects.parquet",
    "trials.parquet",
    "recordings.parquet",
)
_OTHER_FILES = (
    "notes.json",
    "units.json",
    "scaling.json",
    "summary.json",
    "quality.html",
    "quality.json",
    "quality_trials.parquet",
)


class DataSet:
    """Names and reads the files of a data set; picklable, holds no open file."""

    def __init__(
        self,
        root: files.Location,
        description: Mapping[str, Any],
        coordinates: tuple[str, ...] = (),
    ) -> None:
        """As it lies there; with `coordinates`, networks are to predict these (or groups) only."""
        self.root = str(root) if files.is_uri(root) else str(files.local_path(root))
        self.description = dict(description)
        self._coordinates = coordinates

    @classmethod
    def create(
        cls, root: files.Location, *, source: str, settings: Any, overwrite: bool = False
    ) -> DataSet:
        """New data set, or the existing one when its settings are the same (to resume).

        Raises UnwritableError; UsageError naming the first differing setting when the folder
        holds another data set and `overwrite` is false; SchemaVersionError.
        """
        files.make_folder(root)
        wanted = {"source": source, "settings": files.plain(settings)}
        file = files.join(root, "dataset.json")
        if files.exists(file) and not overwrite:
            data = cls.open(root)
            _require_same(str(root), wanted, data.description)
            return data
        description = {
            "schema_version": SCHEMA_VERSION,
            **wanted,
            "settings_hash": files.settings_hash(wanted),
        }
        data = cls(root, description)
        if overwrite:
            data._clear()
        files.write_json(file, description)
        return data

    @classmethod
    def open(cls, root: files.Location, *, coordinates: tuple[str, ...] = ()) -> DataSet:
        """An existing data set; `coordinates` (or groups of them) narrow what is predicted.

        Raises UsageError when there is none, SchemaVersionError.
        """
        file = files.join(root, "dataset.json")
        if not files.exists(file):
            raise UsageError(f"{root} is not a data set (no dataset.json). Run jobs/prepare.py.")
        description = files.read_json(file)
        version = description.get("schema_version")
        if version != SCHEMA_VERSION:
            raise SchemaVersionError(f"Data set {root}", version, SCHEMA_VERSION)
        return cls(root, description, coordinates)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings it was prepared with, as JSON values."""
        return dict(self.description["settings"])

    @property
    def crop(self) -> dict[str, float]:
        """Crop geometry: stored_size [px], field_of_view (box multiple), margin (stored / seen)."""
        return dict(self.settings["crop"])

    def uri(self, *parts: str) -> str:
        """Location of a file of the data set."""
        return files.join(self.root, *parts)

    def resolve(self, uri: str) -> Path:
        """Local path of a uri from a table (relative to the data set, absolute or remote)."""
        return files.local_path(self.uri(uri))

    def skeleton(self) -> Skeleton:
        """The unscaled skeleton with the marker set's markers."""
        from d3ke.skeleton import Skeleton

        return Skeleton.load(self.resolve("skeleton.json"))

    def measurements(self) -> MeasurementSet:
        """Measurements that scale the skeleton's bodies."""
        from d3ke.skeleton import MeasurementSet

        return MeasurementSet.load(self.resolve("measurements.json"))

    def predicted(self) -> PredictedSet:
        """Coordinates that networks predict."""
        from d3ke.skeleton import PredictedSet

        every = PredictedSet.load(self.resolve("predicted.json"))
        return every.select(self._coordinates) if self._coordinates else every

    def marker_set(self) -> MarkerSet:
        """Markers, their bodies and weights."""
        from d3ke.kinematics import MarkerSet

        return MarkerSet.load(self.resolve("marker_set.json"))

    def scaling(self) -> ScalingSettings:
        """Locks and couplers while subjects are scaled and after."""
        from d3ke.kinematics import ScalingSettings

        return ScalingSettings.load(self.resolve("scaling.json"))

    @property
    def model_osim(self) -> Path:
        """The unscaled OpenSim model with the marker set's markers."""
        return self.resolve("model.osim")

    @cached_property
    def _dims(self) -> dict[str, int]:
        skeleton = self.skeleton()
        return {
            "Q": len(skeleton.coordinates),
            "P": len(self.predicted().coordinates),
            "N": len(skeleton.bodies),
            "J": len(skeleton.joints),
            "M": len(skeleton.markers),
            "S": len(self.measurements().names),
        }

    def dims(self) -> dict[str, int]:
        """Sizes of the tables' symbolic dimensions."""
        return dict(self._dims)

    def subjects(self) -> list[dict[str, Any]]:
        """Rows of the SUBJECTS table."""
        return self.read_rows(SUBJECTS)

    def trials(self) -> list[dict[str, Any]]:
        """Rows of the TRIALS table."""
        return self.read_rows(TRIALS)

    def recordings(self) -> list[dict[str, Any]]:
        """Rows of the RECORDINGS table."""
        return self.read_rows(RECORDINGS)

    def read_rows(self, table: Table) -> list[dict[str, Any]]:
        """Rows of one of the top-level tables."""
        return table.to_rows(files.read_table(self.uri(f"{table.name}.parquet")))

    def write_rows(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one of the top-level tables."""
        files.write_table(self.uri(f"{table.name}.parquet"), table.from_rows(rows))

    def subject_label_uri(self, subject: str) -> str:
        """SUBJECT_LABELS table of a subject."""
        return self.uri("subjects", f"{subject}.parquet")

    def label_uri(self, trial_id: str) -> str:
        """LABELS table of a trial."""
        return self.uri("labels", f"{trial_id}.parquet")

    def boxes_uri(self, recording_id: str) -> str:
        """BOXES table of a recording (only where the source knows the boxes)."""
        return self.uri("boxes", f"{recording_id}.parquet")

    def crop_uri(self, recording_id: str) -> str:
        """CROPS table of a recording."""
        return self.uri("crops", f"{recording_id}.parquet")

    def write_rejects(self, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace the rejects of one stage; no rows removes its file."""
        write_rejects(self.root, stage, rows)

    def rejects(self) -> list[dict[str, Any]]:
        """Rows of the REJECTS tables of every stage."""
        return read_rejects(self.root)

    def content_hash(self) -> str:
        """Hash of everything that training reads: settings, definitions, tables, labels, crops."""
        uris = [self.uri(name) for name in _HASHED_FILES]
        for folder in ("labels", "crops"):
            uris += files.list_files(self.uri(folder), ".parquet")
        hashes = [(file.rsplit("/", 1)[-1], files.content_hash(file)) for file in uris]
        return files.settings_hash(hashes)

    def _clear(self) -> None:
        for name in _FOLDERS:
            files.remove(self.uri(name))
        for name in (*_OTHER_FILES, *_HASHED_FILES[1:]):
            files.remove(self.uri(name))


def write_rejects(root: str, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the REJECTS table `rejects/<stage>.parquet` below a folder."""
    uri = files.join(root, "rejects", f"{stage}.parquet")
    if rows:
        files.write_table(uri, REJECTS.from_rows(rows))
    else:
        files.remove(uri)


def read_rejects(root: str) -> list[dict[str, Any]]:
    """Rows of every REJECTS table below a folder."""
    uris = files.list_files(files.join(root, "rejects"), ".parquet")
    return [row for file in uris for row in REJECTS.to_rows(files.read_table(file))]


def difference(wanted: Any, found: Any, path: str = "") -> str:
    """Dotted name of the first differing value of two JSON-like objects, with both values."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted(wanted.keys() | found.keys()):
            name = f"{path}.{key}" if path else key
            text = difference(wanted.get(key), found.get(key), name)
            if text:
                return text
        return ""
    return "" if wanted == found else f"{path} is {found!r} there, {wanted!r} now"


def _require_same(root: str, wanted: dict[str, Any], found: Mapping[str, Any]) -> None:
    text = difference(wanted, {key: found.get(key) for key in wanted})
    if text:
        raise UsageError(
            f"{root} was prepared with other settings: {text}. "
            "Choose another --output, or --overwrite to prepare it anew."
        )
