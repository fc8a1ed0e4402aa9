"""Every recipe fits every job, and the paper's says what the paper says."""

from __future__ import annotations

import pytest

from d3ke.networks import build_backbone
from d3ke_platform import cli
from d3ke_platform.evaluation.settings import EvaluateSettings
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.pipelines.score import ScoreSettings
from d3ke_platform.sources.movement_table import BML_MOVI_MOVEMENTS
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.tuning.settings import TuneSettings

JOBS = {
    "prepare": (PrepareSettings, ["--output", "o"]),
    "train": (TrainSettings, ["--data", "d", "--output", "o"]),
    "tune": (TuneSettings, ["--data", "d", "--output", "o", "--trials", "3"]),
    "score": (ScoreSettings, ["--archive", "a", "--model", "m", "--output", "o"]),
    "evaluate": (EvaluateSettings, ["--data", "d", "--model", "m", "--output", "o"]),
}


def read(recipe: str, job: str):
    settings, required = JOBS[job]
    beneath = ("train",) if job == "tune" else ()
    return cli.parse(settings, ["--recipe", recipe, *required], job=job, beneath=beneath)


@pytest.mark.parametrize("job", sorted(JOBS))
@pytest.mark.parametrize("recipe", cli.recipe_names())
def test_recipes_are_valid(recipe, job):
    read(recipe, job)


@pytest.mark.parametrize("recipe", ["demo", "demo_quick", "paper", "standard", "standard_small"])
def test_stored_crops_hold_a_pixel_per_pixel_of_the_network(recipe):
    crop, train = read(recipe, "prepare").crop, read(recipe, "train")
    assert crop.stored_size == train.frame.image_size * crop.margin


@pytest.mark.parametrize("recipe", cli.recipe_names())
def test_a_search_starts_from_the_recipes_training(recipe):
    searched, trained = read(recipe, "tune"), read(recipe, "train")
    assert (searched.frame, searched.sequence) == (trained.frame, trained.sequence)


def test_transfer_recipe_takes_a_bundle_and_a_region():
    settings, required = JOBS["train"]
    flags = ["--frame.bundle", "b", "--coordinates", "arms"]
    found = cli.parse(settings, ["--recipe", "transfer", *required, *flags], job="train")
    assert (found.frame.bundle, found.coordinates) == ("b", ("arms",))
    backbone, _ = build_backbone(found.frame.backbone)
    parts = {f"backbone.{name}" for name, _ in backbone.named_modules()}
    assert set(found.frame.freeze) <= parts


def test_paper_recipe():
    settings = read("paper", "train")
    frame, sequence = settings.frame, settings.sequence
    assert frame.backbone == "resnext50_32x4d"
    assert (frame.image_size, frame.batch_size, frame.weight_decay) == (256, 64, 0.001)
    assert frame.epochs == (28, 2)
    assert frame.learning_rate_start == (5e-4, 3.33e-6)
    assert frame.learning_rate_end == (3.33e-5, 1e-6)
    assert (sequence.kind, sequence.window, sequence.batch_size) == ("transformer", 243, 128)
    assert (sequence.epochs, sequence.learning_rate_start) == ((50,), (1e-3,))
    assert sequence.learning_rate_end == (5e-6,)
    assert (sequence.residual, sequence.smoothing, sequence.estimate_passes) == (False, 0, 0)
    for stage in (frame, sequence):
        weights = (stage.loss.joint, stage.loss.marker, stage.loss.body, stage.loss.angle)
        assert weights == (1.0, 2.0, 0.1, 0.06)


def test_standard_recipe_is_a_laboratory_of_many_people():
    settings = read("standard", "prepare").synthetic
    assert settings.subjects >= 24
    assert set(BML_MOVI_MOVEMENTS) <= set(settings.movements)
    assert (settings.rate_hz, settings.label_rate_hz) == (30.0, 120.0)
    assert len(settings.cameras) == 2
    assert settings.lens_distortion > 0
    assert settings.rooms > 10
    assert not settings.clips  # nobody's motion capture unless it is asked for
