"""The experiments of docs/experiments.md, each table by one command.

    python jobs/prepare.py --recipe standard_small --output DATA
    python tests/benchmarks/experiments.py ablation  --data DATA --output OUT
    python tests/benchmarks/experiments.py sequence  --data DATA --output OUT
    python tests/benchmarks/experiments.py cross_fit --data DATA --output OUT
    python tests/benchmarks/experiments.py pictures  --data DATA --output OUT

All networks are trained and evaluated as jobs/train.py and jobs/evaluate.py do it. What a command
has made is kept and shared by the others; broken off, a command goes on where it stopped. Errors
are those of the test people. `--only` makes some rows: the others may be made by another process
at the same time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from experiment_parts import Errors, Experiments
from experiment_pictures import draw
from machine import machine
from rich.console import Console

from d3ke_platform.tracking import git_commit
from d3ke_platform.training.settings import FrameTraining

FOLDS, PASSES = 2, 2
BASE = "full"


@dataclass(frozen=True)
class Way:
    """One row of a table: what is changed against the recipe."""

    name: str
    text: str
    loss: dict[str, float] = field(default_factory=dict)
    """Loss weights."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the network's training."""
    augmentation: dict[str, Any] = field(default_factory=dict)
    """Settings of the augmentation (per-frame networks)."""
    estimates: str = "passes"
    """What a sequence network is trained on: plain, passes, folds, fold_passes."""
    longer: int = 1
    """Times the recipe's epochs: one pass of estimates needs as many more for the same steps."""

    def of(self, recipe: Any) -> Any:
        """The recipe's settings of a training with the changes."""
        changes = dict(self.settings, loss=replace(recipe.loss, **self.loss))
        if self.augmentation:
            changes["augmentation"] = replace(recipe.augmentation, **self.augmentation)
        changes.setdefault("epochs", tuple(self.longer * count for count in recipe.epochs))
        return replace(recipe, **changes)


FRAME_WAYS = (
    Way(BASE, "full loss"),
    Way("no_marker", "without the marker loss", loss={"marker": 0.0}),
    Way("no_joint", "without the joint loss", loss={"joint": 0.0}),
    # Nothing else would teach the pelvis' orientation. 0.03 per degree is about what a degree of it
    # costs in the joint and marker losses.
    Way(
        "no_layer",
        "without both, orientation by a loss of its own",
        loss={"joint": 0.0, "marker": 0.0, "root": 0.03},
    ),
)
AUGMENTATION_WAYS = (
    FRAME_WAYS[0],
    Way("mirror", "half of the crops mirrored", augmentation={"mirror_probability": 0.5}),
)
PAPER = {"residual": False, "smoothing": 0}
SEQUENCE_WAYS = (
    Way("transformer", "transformer"),
    Way("lstm", "LSTM", settings={"kind": "lstm"}),
    Way("tcn", "TCN", settings={"kind": "tcn"}),
)
MORE_SEQUENCE_WAYS = (
    Way("no_velocity", "transformer, no velocity loss", loss={"velocity": 0.0}),
    Way("no_filter", "transformer, no filter", settings={"smoothing": 0}),
    Way(
        "no_filter_no_velocity",
        "transformer, correction only: neither filter nor velocity loss",
        settings={"smoothing": 0},
        loss={"velocity": 0.0},
    ),
    Way(
        "anew",
        "transformer predicting anew, neither filter nor velocity loss (the paper's form)",
        settings=PAPER,
        loss={"velocity": 0.0},
    ),
)
CROSS_FIT_WAYS = (
    Way("plain", "training people's estimates as they are", estimates="plain", longer=PASSES),
    Way("transformer", f"{PASSES} passes over augmented crops", estimates="passes"),
    Way("folds", f"{FOLDS} folds, as they are", estimates="folds", longer=PASSES),
    Way("fold_passes", f"{FOLDS} folds, {PASSES} augmented passes", estimates="fold_passes"),
)


class Tables:
    """Makes the parts of every table and prints it as Markdown."""

    def __init__(self, experiments: Experiments, options: argparse.Namespace) -> None:
        self._parts, self._only = experiments, options.only
        self._seeds: list[int] = options.seeds
        self._console = Console(width=200, highlight=False)

    def ablation(self) -> None:
        """What the skeletal-model layer is worth."""
        self._frame_table(FRAME_WAYS)

    def augmentation(self) -> None:
        """What mirroring is worth."""
        self._frame_table(AUGMENTATION_WAYS)

    def folds(self) -> None:
        """The networks of the folds alone, for a process beside another one."""
        for seed in self._seeds[:1]:
            for fold in range(FOLDS):
                if not self._only or f"fold{fold}" in self._only:
                    self._fold(fold, seed)

    def sequence(self) -> None:
        """What sequence networks do to speed and error of the per-frame estimates."""
        self._sequence_table((*SEQUENCE_WAYS, *MORE_SEQUENCE_WAYS))

    def cross_fit(self) -> None:
        """What a sequence network should be trained on."""
        self._sequence_table(CROSS_FIT_WAYS)
        self._input_table()

    def pictures(self) -> None:
        """Bars of the speeds and curves of one recording."""
        seed = self._seeds[0]
        bundles = {way.text: self._sequence(way, seed) for way in SEQUENCE_WAYS}
        draw(self._parts, bundles, _frame_name(BASE, seed) + "/estimates")

    def _frame(self, way: Way, seed: int) -> dict[str, Errors]:
        name = _frame_name(way.name, seed)
        bundle = self._parts.frame_network(name, way.of(self._parts.settings.frame), seed=seed)
        return self._parts.errors(bundle, self._plain(name, "test"))

    def _plain(self, frame: str, *splits: str) -> str:
        for split in splits:
            self._parts.estimate(frame, self._parts.recordings(split), f"{frame}/estimates")
        return f"{frame}/estimates"

    def _sequence(self, way: Way, seed: int) -> Path:
        frame = _frame_name(BASE, self._seeds[0])
        self._frame(FRAME_WAYS[0], self._seeds[0])
        self._plain(frame, "validation", "test")
        return self._parts.sequence_network(
            f"sequence/{way.name}-{seed}",
            way.of(self._parts.settings.sequence),
            frame=frame,
            passes=self._passes(way.estimates, frame),
            seed=seed,
        )

    def _passes(self, kind: str, frame: str) -> list[str]:
        """Folders of the estimates that a sequence network is trained on."""
        seed, recordings = self._seeds[0], self._parts.recordings("train")
        if kind == "plain":
            return [self._plain(frame, "train")]
        if kind == "passes":
            return [
                self._parts.estimate(
                    frame, recordings, f"{frame}/pass_{number}", seed=1000 * seed + number
                )
                for number in range(PASSES)
            ]
        numbers = range(PASSES) if kind == "fold_passes" else [None]
        folders = []
        for number in numbers:
            folder = f"{frame}/cross_fit" + ("" if number is None else f"_{number}")
            for fold in range(FOLDS):
                name, left_out = self._fold(fold, seed)
                mine = [r for r in recordings if self._subject[r] in left_out]
                draw_seed = None if number is None else 1000 * seed + 10 * fold + number
                self._parts.estimate(name, mine, folder, seed=draw_seed)
            folders.append(folder)
        return folders

    @property
    def _subject(self) -> dict[str, str]:
        return {r["recording_id"]: r["subject"] for r in self._parts.data.recordings()}

    def _fold(self, fold: int, seed: int) -> tuple[str, tuple[str, ...]]:
        """A network that has not seen every FOLDS-th training person, and these people."""
        left_out = tuple(self._parts.subjects("train")[fold::FOLDS])
        name = _frame_name(f"fold{fold}", seed)
        settings: FrameTraining = self._parts.settings.frame
        self._parts.frame_network(name, settings, seed=seed, exclude=left_out)
        return name, left_out

    def _frame_table(self, ways: Sequence[Way]) -> None:
        chosen = self._chosen(ways)
        found = {way.name: [self._frame(way, seed) for seed in self._seeds] for way in chosen}
        self._head("per-frame network", PLACES)
        baseline = found[chosen[0].name][0]["mean_angle"]
        self._row("the mean angle", [baseline], PLACES)
        for way in chosen:
            self._row(way.text, [row["per_frame"] for row in found[way.name]], PLACES)

    def _sequence_table(self, ways: Sequence[Way]) -> None:
        frame = _frame_name(BASE, self._seeds[0])
        chosen, found = self._chosen(ways), {}
        for way in chosen:
            bundles = [self._sequence(way, seed) for seed in self._seeds]
            found[way.name] = [
                self._parts.errors(bundle, f"{frame}/estimates") for bundle in bundles
            ]
        self._head("estimates", PLACES)
        first = found[chosen[0].name][0]
        self._row("the labels", [first["label"]], SPEEDS)
        self._row("per-frame network", [first["per_frame"]], PLACES)
        for way in chosen:
            self._row(way.text, [row["sequence"] for row in found[way.name]], PLACES)

    def _input_table(self) -> None:
        """Errors of the estimates that sequence networks are trained on."""
        seed = self._seeds[0]
        frame = _frame_name(BASE, seed)
        bundle = self._parts.root / frame / "bundle"
        inputs = [("new (test) people", f"{frame}/estimates", "test")]
        inputs += [
            (way.text, self._passes(way.estimates, frame)[0], "train")
            for way in self._chosen(CROSS_FIT_WAYS)
        ]
        self._head("per-frame estimates of", PLACES)
        for text, folder, split in inputs:
            self._row(text, [self._parts.errors(bundle, folder, split)["per_frame"]], PLACES)

    def _chosen(self, ways: Sequence[Way]) -> list[Way]:
        return [way for way in ways if not self._only or way.name in self._only]

    def _head(self, first: str, columns: dict[str, int]) -> None:
        self._console.print(
            f"\n{machine()}; commit {git_commit(Path(__file__).parent)}; "
            f"data {self._parts.data_hash}; {' '.join(sys.argv)}\n"
        )
        self._console.print(f"| {first} | " + " | ".join(TITLES[name] for name in columns) + " |")
        self._console.print("|---|" + "---|" * len(columns))

    def _row(self, text: str, runs: Sequence[Errors], columns: dict[str, int]) -> None:
        cells = [
            _cell([getattr(run, name) for run in runs], columns[name]) if name in columns else ""
            for name in PLACES
        ]
        self._console.print(f"| {text} | " + " | ".join(cells) + " |", soft_wrap=True)


PLACES = {
    "mae_all": 2,
    "mae_all_unmasked": 2,
    "mae_main": 2,
    "mpblpe": 1,
    "mae_body": 1,
    "root": 1,
    "velocity_error": 1,
    "mv_all": 1,
    "mv_main": 1,
    "mv_landmarks": 0,
}
"""Column of a table -> decimals."""
SPEEDS = {name: places for name, places in PLACES.items() if name.startswith("mv_")}
TITLES = {
    "mae_all": "MAE_angle",
    "mae_all_unmasked": "unmasked",
    "mae_main": "18 main angles",
    "mpblpe": "MPBLPE mm",
    "mae_body": "MAE_body mm",
    "root": "pelvis deg",
    "velocity_error": "velocity error deg/s",
    "mv_all": "MV_angle deg/s",
    "mv_main": "MV of main",
    "mv_landmarks": "MV_BL mm/s",
}
assert set(TITLES) == {one.name for one in fields(Errors)}


def _frame_name(name: str, seed: int) -> str:
    return f"frame/{name}-{seed}"


def _cell(values: Sequence[float], places: int) -> str:
    """Mean and, of several seeds, the lowest and highest value."""
    mean = f"{statistics.fmean(values):.{places}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{places}f} to {max(values):.{places}f})"


def main() -> None:
    """Make what the command asks for."""
    commands = [name for name in vars(Tables) if not name.startswith("_")]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=commands)
    parser.add_argument("--data", required=True, help="data set of jobs/prepare.py")
    parser.add_argument("--output", required=True, help="folder of networks, estimates, errors")
    parser.add_argument("--recipe", default="standard_small")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parser.add_argument("--only", nargs="+", default=[], help="names of rows")
    options = parser.parse_args()
    tables = Tables(Experiments(options.data, options.output, options.recipe), options)
    command: Callable[[], None] = getattr(tables, options.command)
    command()


if __name__ == "__main__":
    main()
