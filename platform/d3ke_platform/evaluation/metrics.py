"""All numbers of an evaluation."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from d3ke.networks.prediction import PredictionHead
from d3ke_platform.evaluation.body_scale import BodyScales
from d3ke_platform.evaluation.comparison import METHODS, RecordingComparison
from d3ke_platform.evaluation.frames import LabelFrames, Motion, label_frames, method_frames
from d3ke_platform.evaluation.tables import (
    Row,
    by_key_table,
    coordinate_table,
    generalisation_table,
    group_table,
    moving_coordinates,
    pose_table,
    segment_table,
)

_BRIEF_GROUPS = ("moving", "main", "all")


@dataclass(frozen=True, kw_only=True)
class EvaluationMetrics:
    """Tables, and the frames they were made from (for figures)."""

    tables: dict[str, list[Row]]
    """groups, pose, segments, camera, movement, subject, generalisation, coordinates."""
    coordinates: tuple[str, ...]
    groups: dict[str, list[int]]
    """Group -> indices into `coordinates`; includes "moving" and "all"."""
    labels: LabelFrames
    methods: dict[str, Motion]
    recordings: int

    @property
    def frames(self) -> int:
        """Compared frames of all recordings."""
        return len(self.labels.recording)

    @property
    def moving(self) -> list[str]:
        """Names of the coordinates that move."""
        return [self.coordinates[index] for index in self.groups["moving"]]

    def headline(self) -> dict[str, float]:
        """Masked MAE by method [deg] of moving, main and all angles, and the gain on moving.

        Six digits: whoever prints fewer rounds once, to the same figure as the tables.
        """
        result: dict[str, float] = {}
        for group in _BRIEF_GROUPS:
            for row in self.tables["groups"]:
                if row["group"] == group and row["masked"] and "mae_deg" in row:
                    result[f"mae_{group}_{row['method']}_deg"] = round(row["mae_deg"], 6)
        baseline = result.get("mae_moving_mean_angle_deg")
        best = result.get("mae_moving_sequence_deg", result.get("mae_moving_per_frame_deg"))
        if baseline and best is not None:
            result["reduction_moving_percent"] = round(100 * (1 - best / baseline), 6)
        return result

    def csv(self) -> str:
        """All tables as one: a column `table` and the union of the columns; units in the names."""
        columns = ["table"]
        for rows in self.tables.values():
            for row in rows:
                columns += [name for name in row if name not in columns]
        sink = io.StringIO()
        writer = csv.DictWriter(sink, columns, lineterminator="\n")
        writer.writeheader()
        for table, rows in self.tables.items():
            writer.writerows({"table": table} | row for row in rows)
        return sink.getvalue()


def measure(
    comparisons: Sequence[RecordingComparison],
    *,
    head: PredictionHead,
    moving_threshold_deg: float,
) -> EvaluationMetrics:
    """All tables of the compared recordings."""
    names = tuple(head.predicted.coordinates)
    labels = label_frames(comparisons)
    bodies = BodyScales(head)
    methods = {
        name: method_frames(comparisons, name)
        for name in METHODS
        if all(name in item.estimates for item in comparisons)
    }
    groups: dict[str, list[int]] = {
        group: [names.index(name) for name in members]
        for group, members in head.predicted.groups.items()
    }
    limbs = sorted({i for group in ("legs", "arms", "trunk") for i in groups.get(group, [])})
    # The group that tells most comes first in every table.
    groups = {"moving": moving_coordinates(labels, limbs, moving_threshold_deg)} | groups
    groups["all"] = list(range(len(names)))
    briefly = {name: columns for name, columns in groups.items() if name in _BRIEF_GROUPS}
    tables = {
        "groups": group_table(labels, methods, groups),
        "pose": pose_table(labels, methods, bodies),
        "segments": segment_table(labels, methods, bodies),
    }
    for key in ("camera", "movement", "subject"):
        tables[key] = by_key_table(labels, methods, bodies, briefly, key)
    tables["generalisation"] = generalisation_table(labels, methods, groups["all"])
    tables["coordinates"] = coordinate_table(labels, methods, names)
    return EvaluationMetrics(
        tables=tables,
        coordinates=names,
        groups=groups,
        labels=labels,
        methods=methods,
        recordings=len(comparisons),
    )
