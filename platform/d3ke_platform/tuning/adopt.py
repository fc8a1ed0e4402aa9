"""A search on top of a training run that exists: its per-frame network is not trained again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from d3ke.errors import InvalidInputError
from d3ke.networks.bundle import load_bundle
from d3ke_platform import cli
from d3ke_platform.errors import UsageError
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.tuning.recipe import recipe_of
from d3ke_platform.tuning.settings import TuneSettings


def adopted_settings(settings: TuneSettings, data_hash: str) -> TuneSettings:
    """The settings with those of the per-frame network in the run `settings.base`.

    What that network predicts is what the sequence network refines: its coordinates are taken over
    too, which the hash of the data does not cover.

    Raises:
        BundleError: the network cannot be read.
        UsageError: there is no finished per-frame network, or it was trained on other data.
        InvalidInputError: it predicts other coordinates than those that `settings` names.
    """
    folder = Path(settings.base) / "frame" / "bundle"
    if not folder.is_dir():
        raise UsageError(
            f"{settings.base} holds no finished per-frame network ({folder} is missing). "
            "Give --base the output of jobs/train.py, or leave it out to train one here."
        )
    made = load_bundle(folder).config
    if made["data_hash"] != data_hash:
        raise UsageError(
            f"The per-frame network of {settings.base} was trained on data {made['data_hash']}, "
            f"{settings.data} is {data_hash}. Train on this data set, or leave --base out."
        )
    trained = _train_settings(made["training"])
    _require_same_coordinates(settings, trained)
    return replace(
        settings, coordinates=trained.coordinates, frame=trained.frame, seed=trained.seed
    )


def _require_same_coordinates(settings: TuneSettings, trained: TrainSettings) -> None:
    """Raise InvalidInputError if the user named other coordinates than the run was trained for."""
    wanted = settings.coordinates
    if not wanted or set(wanted) == set(trained.coordinates):
        return
    raise InvalidInputError(
        "coordinates",
        f"{' '.join(wanted)}, but the per-frame network of {settings.base} predicts "
        f"{' '.join(trained.coordinates) or 'all that the data set names'}",
        "Leave --coordinates out to take its own, or leave --base out.",
    )


def _train_settings(content: dict[str, Any]) -> TrainSettings:
    """Settings from their JSON form, checked like those of a command line."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "train.toml"
        file.write_text(recipe_of(content))
        arguments = ["--config", str(file), "--data", content["data"], "--output", folder]
        return cli.parse(TrainSettings, arguments, job="train")
