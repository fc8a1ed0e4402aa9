"""What the tables of `experiments.py` are made of: trained networks, estimates and errors.

Every part lies in a folder of its own below the output and is made once; a command that was broken
off goes on where it stopped. Trainings use the product's jobs, loop and bundles in this
process: several commands side by side on one machine disturb each other less than a Ray session
each would.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from d3ke_platform import cli, storage
from d3ke_platform.evaluation.body_scale import BodyScales
from d3ke_platform.evaluation.comparison import RecordingComparison
from d3ke_platform.evaluation.evaluate import Evaluation
from d3ke_platform.evaluation.frames import label_frames, method_frames
from d3ke_platform.evaluation.settings import EvaluateSettings
from d3ke_platform.evaluation.tables import group_table, pose_table
from d3ke_platform.storage import DataSet
from d3ke_platform.training import checkpoint as saved
from d3ke_platform.training.build_bundle import build_bundle
from d3ke_platform.training.estimates import EstimateForTraining
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.samples import load_samples
from d3ke_platform.training.sequence_stage import SequenceJob
from d3ke_platform.training.sequences import frame_rate
from d3ke_platform.training.settings import FrameTraining, SequenceTraining, TrainSettings
from d3ke_platform.training.train import best_errors
from d3ke_platform.training.trainer import Job, Resources, fit

IN_PROCESS = Resources(workers=0)


@dataclass(frozen=True)
class Errors:
    """Errors of one method on the people of one split."""

    mae_all: float
    """deg, where the labels can be trusted."""
    mae_all_unmasked: float
    mae_main: float
    """deg, of the 18 large joint angles, masked."""
    mpblpe: float
    """mm"""
    mae_body: float
    """mm"""
    velocity_error: float
    """deg/s, of all angles: mean absolute difference of the velocities. Unlike MV, which has no
    label in it, it is lowest where the estimate moves as the label does."""
    mv_all: float
    """deg/s"""
    mv_main: float
    mv_landmarks: float
    """mm/s"""
    root: float
    """deg"""


class Experiments:
    """A data set, the settings all experiments start from, and the folder of their results."""

    def __init__(self, data: str, output: str, recipe: str) -> None:
        self.settings = cli.parse(
            TrainSettings,
            ["--recipe", recipe, "--data", data, "--output", output],
            job="train",
        )
        self.data = DataSet.open(data)
        self.root = Path(output)
        self.root.mkdir(parents=True, exist_ok=True)

    @cached_property
    def data_hash(self) -> str:
        return self.data.content_hash()

    @cached_property
    def _fps(self) -> float:
        return frame_rate(self.data, [r["recording_id"] for r in self.data.recordings()])

    def recordings(self, split: str) -> tuple[str, ...]:
        """The recordings of a split that have crops and labels."""
        return load_samples(self.data, split).recording_ids

    def subjects(self, split: str) -> list[str]:
        """The people of a split."""
        return sorted({r["subject"] for r in self.data.recordings() if r["split"] == split})

    def frame_network(
        self, name: str, frame: FrameTraining, *, seed: int, exclude: tuple[str, ...] = ()
    ) -> Path:
        """Bundle of a per-frame network, trained if it is not there."""
        job = FrameJob(data=self.data.root, settings=frame, seed=seed, exclude_subjects=exclude)
        settings = replace(self.settings, frame=frame, seed=seed)
        return self._train(job, self.root / name, settings, frame_folder=None)

    def sequence_network(
        self,
        name: str,
        sequence: SequenceTraining,
        *,
        frame: str,
        passes: Sequence[str],
        seed: int,
    ) -> Path:
        """Bundle of the per-frame network called `frame` and a sequence network trained on its
        estimates in the folders `passes`."""
        job = SequenceJob(
            data=self.data.root,
            settings=sequence,
            seed=seed,
            training_passes=tuple(str(self.root / one) for one in passes),
            validation_estimates=str(self.root / frame / "estimates"),
        )
        settings = replace(self.settings, sequence=sequence, seed=seed)
        return self._train(job, self.root / name, settings, frame_folder=self.root / frame)

    def _train(
        self, job: Job, folder: Path, settings: TrainSettings, *, frame_folder: Path | None
    ) -> Path:
        bundle = folder / "bundle"
        if bundle.exists():
            return bundle
        folder.mkdir(parents=True, exist_ok=True)
        trained = fit(
            job,
            folder,
            run_name="loop",
            resources=IN_PROCESS,
            progress=folder / "progress.jsonl",
            deterministic=settings.deterministic,
        )
        saved.write_weights(trained.weights, folder / saved.BEST)
        of_frame = trained.weights if frame_folder is None else saved.load_weights(frame_folder)
        fresh = folder / "bundle.new"
        shutil.rmtree(fresh, ignore_errors=True)
        build_bundle(
            fresh,
            data=self.data,
            data_hash=self.data_hash,
            settings=settings,
            fps=self._fps,
            frame=of_frame,
            sequence=None if frame_folder is None else trained.weights,
            metrics=best_errors(trained.progress),
        )
        shutil.rmtree(folder / "loop")
        os.replace(fresh, bundle)
        return bundle

    def estimate(
        self, frame: str, recordings: Sequence[str], folder: str, *, seed: int | None = None
    ) -> str:
        """Estimates of recordings by a per-frame network, of crops as they are or (with a seed)
        of random versions of them. Returns the folder."""
        target = self.root / folder
        target.mkdir(parents=True, exist_ok=True)
        missing = [r for r in recordings if not (target / f"{r}.parquet").exists()]
        if missing:
            augmentation = asdict(self.settings.frame.augmentation)
            stage = EstimateForTraining(str(self.root / frame / "bundle"), augmentation)
            for recording in missing:
                index = list(recordings).index(recording)
                stage(
                    {
                        "recording_id": recording,
                        "crops_uri": self.data.crop_uri(recording),
                        "estimates_uri": str(target / f"{recording}.parquet"),
                        "seed": None if seed is None else seed * 1_000_003 + index,
                    }
                )
        return folder

    def compare(self, bundle: Path, estimates: str, split: str) -> list[RecordingComparison]:
        """Labels, mean angles and a bundle's networks on the recordings of a split."""
        evaluation = Evaluation(
            EvaluateSettings(
                data=self.data.root,
                model=str(bundle),
                output=str(self.root / "evaluation"),
                split=split,  # type: ignore[arg-type]
            )
        )
        folder = self.root / estimates
        return evaluation.compare(
            {name: str(folder / f"{name}.parquet") for name in self.recordings(split)}
        )

    def errors(self, bundle: Path, estimates: str, split: str = "test") -> dict[str, Errors]:
        """Errors by method, "label" (its speeds alone) among them."""
        known = bundle.parent / f"{split}-errors-{estimates.replace('/', '-')}.json"
        if not known.exists():
            found = _errors(self.compare(bundle, estimates, split), bundle)
            storage.write_json(str(known), found)
        return {name: Errors(**row) for name, row in json.loads(known.read_text()).items()}


def _errors(comparisons: list[RecordingComparison], bundle: Path) -> dict[str, dict[str, float]]:
    from d3ke.networks.bundle import load_bundle

    head = load_bundle(bundle).head
    labels = label_frames(comparisons)
    names = list(comparisons[0].estimates)
    methods = {name: method_frames(comparisons, name) for name in names}
    coordinates = list(head.predicted.coordinates)
    groups = {
        "all": list(range(len(coordinates))),
        "main": [coordinates.index(name) for name in head.predicted.groups["main"]],
    }
    angles: dict[tuple[str, str, bool], dict[str, Any]] = {
        (row["method"], row["group"], row["masked"]): row
        for row in group_table(labels, methods, groups)
    }
    poses = {row["method"]: row for row in pose_table(labels, methods, BodyScales(head))}
    found = {
        name: {
            "mae_all": angles[name, "all", True]["mae_deg"],
            "mae_all_unmasked": angles[name, "all", False]["mae_deg"],
            "mae_main": angles[name, "main", True]["mae_deg"],
            "mpblpe": poses[name]["mpblpe_mm"],
            "mae_body": poses[name]["mae_body_mm"],
            "velocity_error": _velocity_error(comparisons, name),
            "mv_all": angles[name, "all", True]["mv_deg_per_s"],
            "mv_main": angles[name, "main", True]["mv_deg_per_s"],
            "mv_landmarks": poses[name]["mv_landmarks_mm_per_s"],
            "root": poses[name]["root_rotation_deg"],
        }
        for name in names
    }
    still = dict.fromkeys(found[names[0]], 0.0)
    first = names[0]
    found["label"] = still | {
        "mv_all": angles[first, "all", True]["label_mv_deg_per_s"],
        "mv_main": angles[first, "main", True]["label_mv_deg_per_s"],
        "mv_landmarks": poses[first]["label_mv_landmarks_mm_per_s"],
    }
    return {name: {k: float(np.round(v, 4)) for k, v in row.items()} for name, row in found.items()}


def _velocity_error(comparisons: list[RecordingComparison], method: str) -> float:
    """deg/s, of all angles of neighbouring frames."""
    errors = []
    for one in comparisons:
        gap = one.estimates[method].coordinates - one.truth.coordinates
        near = np.diff(one.truth.frame) == 1
        steps = np.diff(one.truth.time_s)[near, None]
        errors.append(np.abs(np.degrees(np.diff(gap, axis=0))[near]) / steps)
    return float(np.concatenate(errors).mean())
