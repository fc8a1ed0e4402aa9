"""docs/data-formats.md, made from the tables in `schema`.

python -m d3ke_platform.schema_docs docs/data-formats.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from d3ke_platform.schema import SCHEMA_VERSION, TABLES, Column, Table

_FILES = {
    "subjects": "`DATA/subjects.parquet`",
    "trials": "`DATA/trials.parquet`",
    "recordings": "`DATA/recordings.parquet`",
    "boxes": "`DATA/boxes/<recording_id>.parquet`, where the source knows the boxes",
    "subject_labels": "`DATA/subjects/<subject>.parquet`, one row",
    "labels": "`DATA/labels/<trial_id>.parquet`, a row per frame",
    "crops": "`DATA/crops/<recording_id>.parquet`, a row per frame",
    "estimates": "`RUN/estimates/<recording_id>.parquet` and `SCORES/<run>/estimates/"
    "<recording_id>/<segment>.parquet`, a row per person and frame: the per-frame network's output",
    "results": "`SCORES/<run>/results/<recording_id>.parquet`, a row per person and frame: after "
    "the sequence network, in the terms of the OpenSim model. `frame` counts from the start of the "
    "video, `person` is 0 for the largest, or the number of somebody followed",
    "rejects": "`rejects/*.parquet` of a data set, of a run of scoring, of a report: what "
    "could not be processed and why",
}

_INTRODUCTION = f"""# Data formats

Made from `platform/d3ke_platform/schema.py` by
`python -m d3ke_platform.schema_docs docs/data-formats.md`; a test checks that it is current.

All tables are Parquet files, format version {SCHEMA_VERSION}. Inside the program angles are radians
and lengths metres; `.mot` files and reports use degrees.

Frames: *ground* is OpenSim's (x forward, y up, z right, metres). *camera* is OpenCV's (x right,
y down, z forward); a point is `x_camera = rotation @ x_ground + translation`. Image positions are
pixels with pixel centres at integers. `a -> b` of a rotation: it takes vectors in a to b.

A column with a shape is stored as a fixed-size list of the flattened array (row-major); shape, unit
and frame are in the metadata of its Parquet field. Letters in shapes: Q coordinates of the
skeleton, P predicted coordinates, N bodies, J joints, M markers, S measurement factors, each in
the order of the lists in `skeleton.json`, `predicted.json` and `measurements.json`.

A SCORES folder holds `summary.json` (the latest run's), `videos/` (what each video consists of) and
a folder per model and settings, `model-<hash>-settings-<hash>/`, with `scores.json` (what made
it), `estimates/`, `results/`, `exports/<recording_id>/`, `recordings/<recording_id>.json` (video,
camera, frames), `rejected/` (what is not tried again), `rejects/` and `summary.json`. All results
of a run are one data set: any Parquet reader takes the folder `results/`.

Video in: anything FFmpeg decodes. Marker trajectories: `.trc`. Models: `.osim`. Motions out:
`.mot`.
"""


def data_formats() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRODUCTION, *(_section(table) for table in TABLES.values())])


def _section(table: Table) -> str:
    lines = [f"## {table.name}", "", f"{_FILES.get(table.name, '')}", ""]
    lines += ["| column | type | unit | frame | meaning |", "|---|---|---|---|---|"]
    lines += [_row(column) for column in table.columns]
    return "\n".join([*lines, ""])


def _row(column: Column) -> str:
    shape = f" [{', '.join(map(str, column.shape))}]" if column.shape else ""
    cells = [
        f"`{column.name}`",
        f"{column.stored or column.dtype}{shape}",
        column.unit,
        column.frame,
    ]
    return "| " + " | ".join([*cells, column.description]) + " |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(data_formats(), encoding="utf-8")
