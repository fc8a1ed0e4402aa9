"""Stage: estimates of a recording -> refined results and export files."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.calibration import camera_from_json
from d3ke_platform.errors import ChildCrashedError, ChildMemoryError, ChildTimeoutError
from d3ke_platform.isolation import Isolated, patiently
from d3ke_platform.schema import RESULTS
from d3ke_platform.stages.body_outline import surface_markers
from d3ke_platform.stages.decode import Frame, frames
from d3ke_platform.stages.estimate import EstimateArrays
from d3ke_platform.stages.export import (
    EXPORTS,
    SHARED_EXPORTS,
    ExportRecording,
    check_exports,
    missing_exports,
)
from d3ke_platform.stages.local_copy import local_copy
from d3ke_platform.stages.overlay import Overlay, draw_people, write_overlay
from d3ke_platform.stages.recording_page import write_page
from d3ke_platform.stages.refine import Columns, Placement, SequenceRefiner
from d3ke_platform.stages.rejects import error_reason, reject_row
from d3ke_platform.stages.score_plan import ScorePlan
from d3ke_platform.stages.scores_folder import (
    ScoredVideo,
    exports_uri,
    read_scored,
    results_uri,
    write_rejected,
)
from d3ke_platform.stages.segment_files import read_estimates
from d3ke_platform.stages.video_record import load_record

BLOCK_ROWS = 4096
"""Rows of results that are computed and written at a time: memory does not follow the length."""
FINISH_TIMEOUT_S = 6 * 3600.0


class FinishRecording:
    """Refine over time, place in ground, write RESULTS and the exports that are missing.

    OpenSim scales models and FFmpeg writes overlays: all of it happens in a child process.
    """

    name = "finish"

    def __init__(self, plan: ScorePlan) -> None:
        """Raises InvalidInputError for exports into an object store, which need a folder."""
        check_exports(plan.exports)
        if plan.exports and storage.is_uri(plan.output):
            raise InvalidInputError(
                f"output {plan.output}",
                "export files are written to local folders only",
                "Use --export none, or a local --output.",
            )
        self._plan = plan
        self._child = Isolated(partial(Finisher, plan), timeout_s=FINISH_TIMEOUT_S)

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: recording_id. What is there already is kept.

        Returns one ledger row {"recording_id", "uri", "skipped", "exports", "seconds", "counts":
        {"frames", "rows", "detected", "people"}}, or a row of REJECTS for a recording in which
        there is nobody.
        """
        name = item["recording_id"]
        try:
            return [patiently(lambda: self._child.call("finish", name), self._plan.retries)]
        except (ChildCrashedError, ChildTimeoutError, NobodyError, ChildMemoryError) as error:
            self._child.start()  # where no child starts it is not the recording's fault
            return [self._rejected(name, error)]

    def _rejected(self, name: str, error: Exception) -> dict[str, str]:
        """The row of a recording that cannot be finished, which is kept."""
        scored = read_scored(self._plan.folder, name)
        trace = "\n".join([*traceback.format_exception(error), *getattr(error, "__notes__", [])])
        row = reject_row(scored.label if scored else name, self.name, error_reason(error), trace)
        if scored is not None:
            write_rejected(self._plan.folder, name, scored.key, row)
        return row


class NobodyError(InvalidInputError):
    """A recording without a person."""


class Finisher:
    """Finishes recordings; lives in the child."""

    def __init__(self, plan: ScorePlan) -> None:
        """Load the bundle."""
        self._plan = plan
        self._refiner = SequenceRefiner(plan.bundle)
        self._bundle = self._refiner.bundle
        self._writer = ExportRecording(
            self._bundle, tuple(kind for kind in plan.exports if kind not in SHARED_EXPORTS)
        )

    def finish(self, recording_id: str) -> dict[str, Any]:
        """See `FinishRecording`."""
        scored = read_scored(self._plan.folder, recording_id)
        if scored is None:
            raise InvalidInputError(recording_id, "has no estimates")
        began = time.perf_counter()
        uri = results_uri(self._plan.folder, recording_id)
        there = storage.exists(uri)
        if not there:
            self._write_results(uri, scored)
        refined = time.perf_counter()
        written = self._export(scored, uri)
        return {
            "recording_id": recording_id,
            "uri": scored.uri,
            "skipped": there and not written,
            "exports": written,
            "seconds": {"refine": refined - began, "export": time.perf_counter() - refined},
            "counts": storage.read_metadata(uri, "scored"),
        }

    def _write_results(self, uri: str, scored: ScoredVideo) -> None:
        estimates = read_estimates(self._plan.folder, scored)
        columns = estimates.columns
        people = np.unique(columns["person"])
        if not len(people):
            raise NobodyError(scored.uri, f"no person found in its {scored.frames} frames")
        counts = {
            "frames": scored.frames,
            "rows": len(columns["frame"]),
            "detected": estimates.detected,
            "people": len(people),
        }

        def blocks() -> Iterator[pa.Table]:
            for _, rows in _by_person(columns):
                yield from self._results(scored, rows)

        schema = RESULTS.arrow_schema(self._plan.dims)
        storage.write_tables(uri, schema, blocks(), metadata={"scored": counts})

    def _results(self, scored: ScoredVideo, rows: Columns) -> Iterator[pa.Table]:
        """RESULTS of one person, block by block."""
        refined = self._refine(scored, rows)
        camera = camera_from_json(scored.camera)
        placement = Placement(self._bundle, refined.factors, camera)
        for start in range(0, len(rows["frame"]), BLOCK_ROWS):
            part = slice(start, start + BLOCK_ROWS)
            estimates = {name: values[part] for name, values in rows.items()}
            estimates["time_s"] = estimates["time_s"] * scored.time_scale
            block = placement.results(
                estimates, EstimateArrays(*(values[part] for values in refined))
            )
            yield RESULTS.to_arrow(block, self._plan.dims)

    def _refine(self, scored: ScoredVideo, rows: Columns) -> EstimateArrays:
        """Refined estimates of one person; where the person was away, movement begins anew."""
        starts = np.flatnonzero(np.diff(rows["frame"]) != 1) + 1
        ends = [0, *starts.tolist(), len(rows["frame"])]
        refined = [
            self._refiner.refine({n: v[first:last] for n, v in rows.items()}, fps=scored.fps)
            for first, last in pairwise(ends)
        ]
        return EstimateArrays(*(np.concatenate(values) for values in zip(*refined, strict=True)))

    def _export(self, scored: ScoredVideo, uri: str) -> list[str]:
        location = exports_uri(self._plan.folder, scored.recording_id)
        missing = missing_exports(location, self._plan.exports)
        if not missing:
            return []
        folder = Path(location)
        results = RESULTS.to_numpy(storage.read_table(uri))
        people = dict(_by_person(results))
        written: list[str] = []
        # The first person last: its files say that everybody's are there.
        for person in sorted(people, reverse=True):
            written += self._writer.write(folder, people[person], fps=scored.fps, person=person)
        if set(missing) & set(SHARED_EXPORTS):
            written += self._show(folder, scored, people, missing)
        return written

    def _show(
        self, folder: Path, scored: ScoredVideo, people: dict[int, Columns], missing: list[str]
    ) -> list[str]:
        """Files that show everybody."""
        skeleton, camera = self._bundle.skeleton, camera_from_json(scored.camera)
        landmarks = surface_markers(skeleton)
        overlays = [Overlay(skeleton, landmarks, camera, rows) for rows in people.values()]
        written = []
        with local_copy(scored.uri, content_hash=scored.content_hash) as copy:
            if "overlay" in missing:
                target = folder / EXPORTS["overlay"]
                write_overlay(target, _frames(scored, copy.path), overlays, fps=scored.fps)
                written.append(target.name)
            if "page" in missing:
                middle = scored.first_frame + scored.frames // 2
                seen = np.concatenate([rows["frame"] for rows in people.values()])
                nearest = int(seen[np.argmin(np.abs(seen - middle))])
                frame = next(_frames(scored, copy.path, first=nearest, count=1))
                still = draw_people(frame, overlays)
                target = folder / EXPORTS["page"]
                write_page(target, scored, skeleton, people, still)
                written.append(target.name)
        return written


def _by_person(results: dict[str, np.ndarray]) -> Iterator[tuple[int, Columns]]:
    """Number and columns of each person; those of the only one are not copied."""
    numbers = np.unique(results["person"]).tolist()
    for number in numbers:
        rows = slice(None) if len(numbers) == 1 else results["person"] == number
        yield number, {name: values[rows] for name, values in results.items()}


def _frames(
    scored: ScoredVideo, video: Path, *, first: int | None = None, count: int | None = None
) -> Iterator[Frame]:
    """Frames of a recording, numbered as in its video, at the times of the movement."""
    index = load_record(scored.index_uri).index if scored.index_uri else None
    first = scored.first_frame if first is None else first
    count = scored.end_frame - first if count is None else count
    for frame in frames(video, first=first, count=count, index=index):
        yield replace(frame, time_s=frame.time_s * scored.time_scale)
