"""The whole path on the embedded data set: prepare, train, score real video, evaluate, judge.

A rerun does only what is missing: every step keeps what it has finished in its own folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from d3ke.errors import D3KEError
from d3ke_platform import cli, runtime, storage
from d3ke_platform.demo_gates import export_gates, footprint_gates, layer_gates, score_gates
from d3ke_platform.evaluation.evaluate import evaluate
from d3ke_platform.evaluation.gates import Gate
from d3ke_platform.evaluation.settings import EvaluateSettings, EvaluationSummary
from d3ke_platform.memory import MemoryPeak
from d3ke_platform.pipelines.prepare import prepare
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.pipelines.score import ScoreSettings, score
from d3ke_platform.sources import pose2sim_demo
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.training.train import train


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """The demonstration; everything it makes lies below `output`."""

    output: str = "runs/demo"
    """Folder for data, run, scores and report."""
    quick: bool = False
    """The smallest form: minutes, of no use but to see that every part works."""
    step_recipe: str = ""
    """Recipe that all steps follow; default: demo, or demo_quick with `quick`."""
    real_video: bool = True
    """Score the Pose2Sim demo recording, which is downloaded once (30 MB)."""
    real_video_wheel: str = ""
    """A pose2sim wheel on this machine, instead of the download."""
    pose_model: str = ""
    """MediaPipe pose model (.task) that finds people in real video; without one the person's box
    is found by simpler means."""

    @property
    def recipe(self) -> str:
        """The recipe to use."""
        return self.step_recipe or ("demo_quick" if self.quick else "demo")


@dataclass(frozen=True, kw_only=True)
class DemoSummary:
    """What the demo came to."""

    output: str
    report: str
    """Path of the report page."""
    seconds: float
    gates: Sequence[Gate]
    passed: int
    fell_short: int
    not_measured: int
    rejects: int
    """Items of any step that could not be processed."""


class Demo:
    """One run of the demo."""

    def __init__(self, settings: DemoSettings, console: Console | None = None) -> None:
        self._settings = settings
        self._console = console or Console(stderr=True, highlight=False)
        storage.make_folder(settings.output)
        self._root = Path(settings.output).absolute()
        self._record = StepRecord(self._root / "demo.json")
        self._trouble = ""
        self._rejects = 0

    def run(self) -> DemoSummary:
        """All steps in one Ray session.

        Raises what preparing, training and evaluating raise. Trouble with the real video (no
        network, say) is told in the table instead.
        """
        started = time.perf_counter()
        with MemoryPeak() as memory, runtime.connect():
            with self._step("prepare", "1 of 4: make, label and crop recordings"):
                self._rejects += _rejects_of(prepare(self._prepare_settings()))
            with self._step("train", "2 of 4: train both networks"):
                train(self._train_settings())
            with self._step("score", "3 of 4: score real video"):
                self._score()
            with self._step("evaluate", "4 of 4: evaluate held-out subjects"):
                gates: list[Gate] = []

                def more() -> list[Gate]:
                    gates.extend(self._gates(started, memory))
                    return gates

                summary = self._evaluate(more)
            self._record.note_peak(memory.peak_bytes)
        return self._summary(summary, started)

    def _path(self, name: str) -> str:
        return str(self._root / name)

    def _arguments(self, **values: str) -> list[str]:
        flags = [part for name, value in values.items() for part in (f"--{name}", value)]
        return ["--recipe", self._settings.recipe, *flags]

    def _prepare_settings(self) -> PrepareSettings:
        arguments = self._arguments(output=self._path("data"))
        return cli.parse(PrepareSettings, arguments, job="prepare")

    def _train_settings(self) -> TrainSettings:
        arguments = self._arguments(data=self._path("data"), output=self._path("run"))
        return cli.parse(TrainSettings, arguments, job="train")

    def _score_settings(self, archive: Path) -> ScoreSettings:
        arguments = self._arguments(
            archive=str(archive),
            model=self._path("run/bundle"),
            output=self._path("scores"),
            cameras=str(archive / pose2sim_demo.CALIBRATION),
        )
        # Scores of an earlier model are worth nothing here.
        arguments.append("--overwrite")
        if self._settings.pose_model:
            arguments += ["--pose-model", self._settings.pose_model]
        return cli.parse(ScoreSettings, arguments, job="score")

    def _score(self) -> None:
        """Score the real recording; a failure becomes the reason of unmeasured gates."""
        if not self._settings.real_video:
            self._trouble = "switched off"
            return
        try:
            wheel = self._settings.real_video_wheel or None
            archive = pose2sim_demo.fetch(self._root / "real", wheel=wheel)
            self._rejects += _rejects_of(score(self._score_settings(archive)))
        except D3KEError as error:
            self._trouble = str(error)
            self._console.print(f"[yellow]Real video left out:[/yellow] {error}")

    def _evaluate(self, more_gates: Callable[[], Sequence[Gate]]) -> EvaluationSummary:
        arguments = self._arguments(
            data=self._path("data"), model=self._path("run/bundle"), output=self._path("report")
        )
        if not self._trouble:
            arguments += ["--scores", self._path("scores")]
        settings = cli.parse(EvaluateSettings, arguments, job="evaluate")
        summary = evaluate(settings, more_gates=more_gates)
        self._rejects += summary.rejects
        return summary

    def _gates(self, started: float, memory: MemoryPeak) -> list[Gate]:
        scores, trouble = self._root / "scores", self._trouble
        return [
            *layer_gates(),
            *score_gates(self._root / "real", scores, trouble),
            *export_gates(scores, self._root / "run" / "bundle", trouble),
            *footprint_gates(
                seconds_now=time.perf_counter() - started,
                seconds_in_all=self._record.seconds(),
                peak_bytes=max(memory.peak_bytes, self._record.peak_bytes),
            ),
        ]

    @contextmanager
    def _step(self, name: str, title: str) -> Iterator[None]:
        self._console.rule(title, align="left")
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        self._record.note(name, seconds)
        self._console.print(f"[dim]{name}: {seconds:.0f} s[/dim]")

    def _summary(self, evaluation: EvaluationSummary, started: float) -> DemoSummary:
        stored = storage.read_json(self._root / "report" / "metrics.json")["gates"]
        gates = [Gate(**{k: v for k, v in gate.items() if k != "status"}) for gate in stored]
        states = [gate.status for gate in gates]
        return DemoSummary(
            output=str(self._root),
            report=evaluation.report,
            seconds=round(time.perf_counter() - started, 1),
            gates=gates,
            passed=states.count("pass"),
            fell_short=states.count("falls short"),
            not_measured=states.count("not measured"),
            rejects=self._rejects,
        )


class StepRecord:
    """How long each step took when it had everything to do, and the peak memory, over all runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content: dict[str, Any] = {"step_seconds": {}, "peak_bytes": 0}
        if path.exists():
            self._content |= storage.read_json(path)

    @property
    def peak_bytes(self) -> int:
        """Largest memory of all runs."""
        return int(self._content["peak_bytes"])

    def seconds(self) -> float:
        """Sum over the steps of the longest time each of them took."""
        return float(sum(self._content["step_seconds"].values()))

    def note(self, step: str, seconds: float) -> None:
        """A step is done."""
        times = self._content["step_seconds"]
        times[step] = round(max(seconds, times.get(step, 0.0)), 1)
        storage.write_json(self._path, self._content)

    def note_peak(self, peak_bytes: int) -> None:
        """A run is over."""
        self._content["peak_bytes"] = max(peak_bytes, self.peak_bytes)
        storage.write_json(self._path, self._content)


def _rejects_of(summary: Any) -> int:
    return int(getattr(summary, "rejects", 0))
