"""Per-frame estimates of the training and validation recordings, for the sequence network.

The per-frame network knows its training subjects: its estimates of them are much better than
those of new people, and a sequence network trained on them would learn to trust its input (24
against 38 mm in the logs of the paper's reference program). Two measures against this:
estimates of augmented crops, several passes with different augmentation (cheap), and cross-fit
folds, where a recording is estimated by a network that has not seen its subject (exact, costs as
many trainings as folds).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d3ke.augmentation import AugmentationConfig, augment
from d3ke.draws import Draws
from d3ke.errors import InvalidInputError
from d3ke.networks.bundle import load_bundle
from d3ke.occluders import OccluderBank
from d3ke_platform.pipelines.ray_data import is_reject, run_stage
from d3ke_platform.schema import CROPS
from d3ke_platform.stages.estimate import (
    CROP_COLUMNS,
    EstimateArrays,
    EstimateCrops,
    bundle_dims,
    choose_device,
    estimates_table,
)
from d3ke_platform.storage import DataSet, exists, read_table, write_table
from d3ke_platform.training.crop_files import decode_crops

_BATCH = 64


class EstimateForTraining:
    """Stage: CROPS of a recording -> ESTIMATES of its crops as they are, or of random versions.

    Items as for `EstimateCrops`, with "seed" besides: None for the crops as they are. Otherwise
    the camera of every crop is turned at random as in training; the estimated root orientation
    is turned back, so that it refers to the stored crop camera like any other estimate. Finished
    files are skipped.
    """

    name = "estimate_for_training"

    def __init__(self, bundle_folder: str, augmentation: dict[str, Any]) -> None:
        self._plain = EstimateCrops(bundle_folder)
        self._bundle = load_bundle(Path(bundle_folder))
        self._config = AugmentationConfig(**augmentation)
        self._device = choose_device("auto")
        folder = self._config.occluders
        self._occluders = OccluderBank(folder).to(self._device) if folder else None
        self._frame = self._bundle.frame.to(self._device).eval()

    def __call__(self, item: dict[str, Any]) -> list[dict[str, Any]]:
        if item["seed"] is None:
            return self._plain(item)
        recording_id = item["recording_id"]
        if exists(item["estimates_uri"]):
            return [{"recording_id": recording_id, "frames": 0}]
        columns = CROPS.to_numpy(read_table(item["crops_uri"]))
        draws = Draws(torch.Generator(self._device).manual_seed(item["seed"]))
        count = len(columns["frame"])
        parts = [
            self._estimate(columns, slice(start, start + _BATCH), draws)
            for start in range(0, count, _BATCH)
        ]
        estimate = EstimateArrays(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        kept = {name: columns[name] for name in CROP_COLUMNS}
        table = estimates_table(
            recording_id,
            estimate,
            {**kept, "confidence": np.ones(count)},
            bundle_dims(self._bundle),
        )
        write_table(item["estimates_uri"], table)
        return [{"recording_id": recording_id, "frames": count}]

    @torch.inference_mode()
    def _estimate(
        self, columns: dict[str, np.ndarray], rows: slice, draws: Draws
    ) -> EstimateArrays:
        images = torch.from_numpy(decode_crops(list(columns["jpeg"][rows]))).to(self._device)
        intrinsics = torch.tensor(columns["crop_intrinsics"][rows], dtype=torch.float32)
        # The turn of the camera is what augmentation does to the identity.
        upright = torch.eye(3, device=self._device).expand(len(images), 3, 3)
        size = self._bundle.frame.config.image_size
        margin = float(self._bundle.config["crop"]["margin"])
        changed, turn = augment(
            images,
            intrinsics.to(self._device),
            upright,
            size,
            draws,
            self._config,
            margin,
            self._occluders,
        )
        estimate = self._frame(changed)
        rotation = turned_back(turn, estimate.root_rotation)
        return EstimateArrays(
            *(v.cpu().numpy() for v in (estimate.coordinates, rotation, estimate.factors))
        )


def turned_back(turn: Tensor, rotation: Tensor) -> Tensor:
    """Undo the camera's `turn` [n,3,3] on rotations [n,3,3] into the turned camera's axes."""
    return turn.transpose(-1, -2) @ rotation


@dataclass(frozen=True, kw_only=True)
class EstimatePass:
    """Recordings to estimate, and the folder for <recording>.parquet."""

    folder: Path
    recordings: tuple[str, ...]
    seed: int | None = None
    """Seed of the augmentation; None: the crops as they are."""


def make_estimates(
    data: DataSet,
    bundle: Path,
    passes: Sequence[EstimatePass],
    augmentation: AugmentationConfig,
    *,
    gpus: float = 0.0,
) -> None:
    """Run all `passes` with the per-frame network of `bundle`; existing files stay.

    Raises:
        InvalidInputError: a recording could not be estimated, with the first reason.
    """
    items = [item for one in passes for item in _items(data, one)]
    if items:
        arguments = {"bundle_folder": str(bundle), "augmentation": asdict(augmentation)}
        stage = EstimateForTraining
        _require_all(run_stage(items, stage, arguments=arguments, name=stage.name, gpus=gpus))


def _items(data: DataSet, one: EstimatePass) -> Iterator[dict[str, Any]]:
    """Items of the recordings that have no file yet."""
    one.folder.mkdir(parents=True, exist_ok=True)
    for index, recording in enumerate(one.recordings):
        uri = str(one.folder / f"{recording}.parquet")
        if not exists(uri):
            yield {
                "item": f"{one.folder.name}/{recording}",
                "recording_id": recording,
                "crops_uri": data.crop_uri(recording),
                "estimates_uri": uri,
                "seed": None if one.seed is None else one.seed * 1_000_003 + index,
            }


def _require_all(rows: Iterable[dict[str, Any]]) -> None:
    rejected = [row for row in rows if is_reject(row)]
    if rejected:
        raise InvalidInputError(
            f"{len(rejected)} recordings",
            f"could not be estimated; {rejected[0]['item']}: {rejected[0]['reason']}",
            "Prepare the data set again or leave these recordings out.",
        )
