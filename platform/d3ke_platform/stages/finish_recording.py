"""Stage: estimates of a recording -> refined results and export files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from d3ke.camera import Camera
from d3ke.errors import InvalidInputError
from d3ke_platform import storage
from d3ke_platform.calibration import camera_from_json
from d3ke_platform.schema import ESTIMATES, RESULTS
from d3ke_platform.stages.body_outline import surface_markers
from d3ke_platform.stages.decode import frames
from d3ke_platform.stages.estimate import bundle_dims
from d3ke_platform.stages.export import EXPORTS, ExportRecording, check_exports
from d3ke_platform.stages.overlay import Overlay, write_overlay
from d3ke_platform.stages.refine import SequenceRefiner, assemble_results
from d3ke_platform.stages.score_video import local_copy
from d3ke_platform.stages.scores_folder import (
    ScoredVideo,
    estimates_uri,
    exports_uri,
    read_scored,
    results_uri,
)


class FinishRecording:
    """Refine over time, place in ground, write RESULTS and the exports that are missing."""

    name = "finish"

    def __init__(self, bundle_folder: str, *, output: str, exports: tuple[str, ...]) -> None:
        """Load the bundle.

        Args:
            bundle_folder: The model bundle.
            output: SCORES folder or URI; exports need a folder.
            exports: Kinds of `EXPORTS`.
        """
        check_exports(exports)
        if exports and storage.is_uri(output):
            raise InvalidInputError(
                f"output {output}",
                "export files are written to local folders only",
                "Use --export none, or a local --output.",
            )
        self._refiner = SequenceRefiner(bundle_folder)
        self._bundle = self._refiner.bundle
        self._exports = exports
        files = tuple(kind for kind in exports if kind != "overlay")
        self._writer = ExportRecording(self._bundle, files)
        self._output = output

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        """Item: recording_id. What is there already is kept.

        Returns one ledger row {"recording_id", "skipped", "exports", "seconds"}.
        """
        recording_id = item["recording_id"]
        scored = read_scored(self._output, recording_id)
        if scored is None:
            raise InvalidInputError(recording_id, "has no estimates")
        began = time.perf_counter()
        results = self._finished(recording_id)
        skipped = results is not None
        if results is None:
            results = self._results(scored)
        refined = time.perf_counter()
        written = self._export(scored, results) if self._exports else []
        return [
            {
                "recording_id": recording_id,
                "skipped": skipped and not written,
                "exports": written,
                "seconds": {"refine": refined - began, "export": time.perf_counter() - refined},
            }
        ]

    def _finished(self, recording_id: str) -> dict[str, np.ndarray] | None:
        uri = results_uri(self._output, recording_id)
        return RESULTS.to_numpy(storage.read_table(uri)) if storage.exists(uri) else None

    def _results(self, scored: ScoredVideo) -> dict[str, np.ndarray]:
        table = storage.read_table(estimates_uri(self._output, scored.recording_id))
        estimates = ESTIMATES.to_numpy(table)
        refined = self._refiner.refine(estimates, fps=scored.fps)
        camera = camera_from_json(scored.camera)
        dims = bundle_dims(self._bundle)
        results = assemble_results(self._bundle, estimates, refined, camera, dims)
        uri = results_uri(self._output, scored.recording_id)
        storage.write_table(uri, RESULTS.to_arrow(results, dims))
        return results

    def _export(self, scored: ScoredVideo, results: dict[str, np.ndarray]) -> list[str]:
        folder = Path(exports_uri(self._output, scored.recording_id))
        if all((folder / EXPORTS[kind]).is_file() for kind in self._exports):
            return []
        written = self._writer.write(folder, results, fps=scored.fps)
        target = folder / EXPORTS["overlay"]
        if "overlay" in self._exports and not target.is_file():
            self._overlay(target, scored, camera_from_json(scored.camera), results)
            written.append(target.name)
        return written

    def _overlay(
        self, target: Path, scored: ScoredVideo, camera: Camera, results: dict[str, np.ndarray]
    ) -> None:
        skeleton = self._bundle.skeleton
        overlay = Overlay(skeleton, surface_markers(skeleton), camera, results)
        with local_copy(scored.uri) as video:
            write_overlay(target, frames(video), overlay, fps=scored.fps)
