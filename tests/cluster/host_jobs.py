"""Small real jobs for clusters: how they are started, how far they are, what they must come to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_data import make_data_set
from random_bundle import write_random_bundle
from two_hosts import ROOT, Running, wait_until
from video_files import write_video

from d3ke_platform.training.progress import read_rows

PATIENCE_S = 400.0
EPOCHS = 24
TRAINING = f"""
[train.frame]
backbone = "resnet18_half"
image_size = 32
epochs = [{EPOCHS}]
learning_rate_start = [1e-3]
learning_rate_end = [1e-4]
batch_size = 16

[train.sequence]
enabled = false
"""
VIDEOS = 30
SCORES = ("estimates", "results")
PARTS = ("labels", "crops", *SCORES)
"""Folders of tables that are written once, a part of the work each."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A job with an output folder."""

    name: str
    command: Callable[[Path], tuple[str, ...]]
    """Its command, given the output folder."""
    progress: Callable[[Path], int]
    """How many of its steps are done, told from the output folder."""
    steps: int
    compare: Callable[[Path], None]
    """Compare an output folder with that of the undisturbed run; AssertionError."""

    def wait_for_progress(self, output: Path, job: Running, part: float) -> None:
        """Until more than this part of the steps is done, on a job that still runs."""

        def reached() -> bool:
            assert not job.ended(), job.tail()
            return self.progress(output) > part * self.steps

        wait_until(reached, f"{self.name} at {part:.0%}\n{job.tail()}", PATIENCE_S)


def prepare_work(folder: Path) -> Work:
    """Prepare a data set; half of the steps are labels, half are crops."""
    script = str(Path(__file__).with_name("prepare_on_hosts.py"))
    return Work(
        name="prepare",
        command=lambda output: (sys.executable, script, str(output)),
        progress=lambda output: len([*output.glob("labels/*.parquet"), *output.glob("crops/*.p*")]),
        steps=15,
        compare=lambda output: same_tables(output, folder / "output"),
    )


def train_work(folder: Path) -> Work:
    """Train a per-frame network on two workers."""
    data = make_data_set(folder / "data", subjects={"train": 3, "validation": 1})
    config = folder / "train.toml"
    config.write_text(TRAINING)
    return Work(
        name="train",
        command=lambda output: (
            *(sys.executable, str(ROOT / "jobs" / "train.py"), "--config", str(config)),
            *("--data", data.root, "--output", str(output), "--workers", "2"),
        ),
        progress=lambda output: len(read_rows(output / "progress.jsonl")),
        steps=EPOCHS,
        compare=lambda output: same_epochs(output, folder / "output"),
    )


def score_work(folder: Path) -> Work:
    """Score an archive of small videos."""
    archive = folder / "archive"
    archive.mkdir()
    for number in range(VIDEOS):
        write_video(archive / f"video{number:02d}.mp4", 20 + number)
    (archive / "broken.mp4").write_bytes(b"")
    bundle = write_random_bundle(folder / "bundle")
    return Work(
        name="score",
        command=lambda output: (
            *(sys.executable, str(ROOT / "jobs" / "score.py"), "--archive", str(archive)),
            *("--model", str(bundle), "--output", str(output), "--detector", "none"),
            *("--export", "mot", "--max-rejects", "1"),
        ),
        progress=lambda output: len(tables(output, SCORES)),
        steps=2 * VIDEOS,
        compare=lambda output: same_tables(output, folder / "output", SCORES),
    )


def same_tables(found: Path, expected: Path, among: tuple[str, ...] = ()) -> None:
    """Every Parquet file of either folder is in both, row for row; so are the rejects."""
    wanted, present = tables(expected, among), tables(found, among)
    assert wanted
    assert present.keys() == wanted.keys()
    for name, path in present.items():
        rows, others = pq.read_table(path).to_pylist(), pq.read_table(wanted[name]).to_pylist()
        assert repr(rows) == repr(others), name  # as text, where NaN equals NaN
    assert rejects(found) == rejects(expected)


def tables(folder: Path, among: tuple[str, ...] = ()) -> dict[str, Path]:
    """All tables below a folder but rejects, by relative path; `among`: in folders of these names
    only."""
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*.parquet"))
        if "rejects" not in path.parts and not path.name.startswith(".")
        if not among or set(among) & set(path.parts)
    }


def rejects(folder: Path) -> list[tuple[str, str, str]]:
    """Item, stage and reason of all rejects; a reason may name the folder."""
    files = sorted(folder.rglob("rejects/*.parquet"))
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    return sorted((r["item"], r["stage"], r["reason"].replace(str(folder), "")) for r in rows)


def same_epochs(found: Path, expected: Path) -> None:
    """The same losses and errors in every epoch, each once, and a bundle at the end."""
    rows, wanted = read_rows(found / "progress.jsonl"), read_rows(expected / "progress.jsonl")
    assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
    for row, other in zip(rows, wanted, strict=True):
        for name, value in other.items():
            if name.startswith(("loss_", "val_")):
                # Threads of a worker are as many there as here, so sums have the same order.
                assert row[name] == pytest.approx(value, rel=1e-4, nan_ok=True), (
                    row["epoch"],
                    name,
                )
    assert (found / "bundle" / "weights.safetensors").exists()
