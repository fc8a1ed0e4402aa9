"""Gates that only the whole demo can measure: exactness, complete scores, exports, footprint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from d3ke.errors import D3KEError
from d3ke.skeleton import Skeleton, full_body_model_path
from d3ke_platform import storage
from d3ke_platform.evaluation import checks
from d3ke_platform.evaluation.gates import Gate
from d3ke_platform.isolation import Isolated
from d3ke_platform.stages.scores_folder import latest_run

_POSES = 20
_TIMEOUT_S = 300.0
_VIDEO_SUFFIX = ".mp4"


class OpenSimChecks:
    """The checks as one object for a child process: OpenSim can take its process along."""

    def layer_error_m(self, *, scaled: bool) -> float:
        """`checks.layer_error_m` on the built-in model."""
        skeleton = Skeleton.full_body()
        path = full_body_model_path()
        return checks.layer_error_m(path, skeleton, poses=_POSES, scaled=scaled)

    def export_error_m(self, folder: str, results: str, bundle: str) -> float:
        """`checks.export_error_m` on one exported recording."""
        markers = Skeleton.load(Path(bundle) / "skeleton.json").markers
        exported = Path(folder)
        return checks.export_error_m(
            exported / "model.osim", exported / "motion.mot", results, markers
        )


def layer_gates() -> list[Gate]:
    """The layer against OpenSim's forward kinematics, unscaled and scaled."""
    with Isolated(OpenSimChecks, timeout_s=_TIMEOUT_S) as child:
        return [
            _measured(
                Gate(
                    name=f"Layer against OpenSim forward kinematics, {text} model",
                    limit=1e-6,
                    measured=None,
                    unit="m",
                    note=f"largest of {_POSES} random poses",
                ),
                partial(child.call, "layer_error_m", scaled=scaled),
            )
            for scaled, text in ((False, "unscaled"), (True, "scaled"))
        ]


def score_gates(videos: Path, scores: Path, trouble: str) -> list[Gate]:
    """One result row for every frame of every real video."""
    gate = Gate(
        name="Real video: frames of all views without their result row",
        limit=0.0,
        measured=None,
        unit="frames",
    )
    return [_measured(gate, partial(missing_rows, videos, scores), trouble)]


def missing_rows(videos: Path, scores: Path) -> tuple[float | None, str]:
    """Frames without exactly one row, over all videos of the folder (None without videos), and
    what was counted."""
    scores = Path(latest_run(str(scores)))
    rows = {
        Path(file).stem: storage.read_table(file, ["frame"]).column("frame").to_pylist()
        for file in storage.list_files(scores / "results", ".parquet")
    }
    counts = [frame_count(file) for file in sorted(videos.glob(f"*{_VIDEO_SUFFIX}"))]
    if not counts:
        return None, "no videos"
    scored = sum(len(set(frames)) for frames in rows.values())
    doubled = sum(len(frames) - len(set(frames)) for frames in rows.values())
    missing = sum(counts) - scored
    note = f"{scored} rows, {len(rows)} of {len(counts)} views, {sum(counts)} frames"
    return float(abs(missing) + doubled), note


def frame_count(video: Path) -> int:
    """Frames that can be decoded."""
    import av

    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def export_gates(scores: Path, bundle: Path, trouble: str) -> list[Gate]:
    """Exported .mot and .osim, loaded in OpenSim, against the written markers."""
    gate = Gate(
        name="Export: markers of .mot and .osim in OpenSim against the results",
        limit=1.0,
        measured=None,
        unit="mm",
    )
    return [_measured(gate, partial(export_error_mm, scores, bundle), trouble)]


def export_error_mm(scores: Path, bundle: Path) -> tuple[float | None, str]:
    """Largest marker error over all exported recordings [mm], None without any."""
    errors = []
    scores = Path(latest_run(str(scores)))
    with Isolated(OpenSimChecks, timeout_s=_TIMEOUT_S) as child:
        for folder in sorted((scores / "exports").glob("*/")):
            results = str(scores / "results" / f"{folder.name}.parquet")
            arguments = (str(folder), results, str(bundle))
            errors.append(1e3 * child.call("export_error_m", *arguments))
    return max(errors, default=None), f"{len(errors)} recordings"


def footprint_gates(*, seconds_now: float, seconds_in_all: float, peak_bytes: int) -> list[Gate]:
    """Wall time and memory. A rerun skips what is done, so the longest time of every step over
    all runs counts as well."""
    minutes = max(seconds_now, seconds_in_all) / 60
    return [
        Gate(
            name="Demo: wall time after installation",
            limit=15.0,
            measured=minutes,
            unit="min",
            note=f"this run {seconds_now / 60:.1f} min",
        ),
        Gate(
            name="Demo: peak memory of all processes",
            limit=12.0,
            measured=peak_bytes / 1e9 if peak_bytes else None,
            unit="GB",
        ),
    ]


def _measured(gate: Gate, measure: Callable[[], Any], trouble: str = "") -> Gate:
    """The gate with its figure; trouble before or while measuring is the note of one without."""
    if trouble:
        return replace(gate, note=trouble)
    try:
        outcome = measure()
    except (D3KEError, OSError, RuntimeError) as error:
        return replace(gate, measured=None, note=str(error).splitlines()[0])
    value, note = outcome if isinstance(outcome, tuple) else (outcome, gate.note)
    return replace(gate, measured=value, note=note)
