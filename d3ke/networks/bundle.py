"""Model bundles: a folder with everything that scoring needs, none of it a pickle."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from d3ke.errors import D3KEError, InvalidInputError
from d3ke.networks.frame_network import FrameNetwork, FrameNetworkConfig
from d3ke.networks.pickle_guard import find_pickle
from d3ke.networks.prediction import PredictionHead
from d3ke.networks.sequence_network import SequenceNetwork, SequenceNetworkConfig
from d3ke.skeleton import MeasurementSet, PredictedSet, Skeleton

BUNDLE_VERSION = 1
CONFIG, WEIGHTS, CARD, MODEL = "config.json", "weights.safetensors", "card.md", "model.osim"
SKELETON, MEASUREMENTS, PREDICTED = "skeleton.json", "measurements.json", "predicted.json"
REQUIRED = (CONFIG, SKELETON, MEASUREMENTS, PREDICTED, WEIGHTS)


class BundleError(D3KEError):
    """A model bundle that cannot be used; names the folder, the file and the reason."""

    def __init__(self, folder: str, file: str, reason: str, remedy: str = "") -> None:
        text = f"Model bundle {folder!r}, {file}: {reason}." + (f" {remedy}" if remedy else "")
        super().__init__(text, folder, file, reason, remedy)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded model; the networks are on the CPU, in evaluation mode."""

    folder: Path
    """Where it was loaded from."""
    skeleton: Skeleton
    """Skeleton that the estimates are about."""
    head: PredictionHead
    """Head that both networks share."""
    frame: FrameNetwork
    """Per-frame network."""
    sequence: SequenceNetwork | None
    """Sequence network, if the bundle has one."""
    config: dict[str, Any]
    """The settings given to `save_bundle`: how to crop, frame rate, ..."""
    card: str
    """Model card, Markdown."""
    model_osim: Path | None
    """OpenSim model that the skeleton was made of, if the bundle has it."""

    def content_hash(self) -> str:
        """16 hexadecimal digits that change with anything that changes an estimate."""
        digest = hashlib.sha256()
        for name in REQUIRED:
            digest.update(name.encode())
            digest.update(hashlib.sha256((self.folder / name).read_bytes()).digest())
        return digest.hexdigest()[:16]


def save_bundle(
    folder: Path | str,
    *,
    skeleton: Skeleton,
    measurements: MeasurementSet,
    predicted: PredictedSet,
    frame_config: FrameNetworkConfig,
    frame_state: Mapping[str, Tensor],
    sequence_config: SequenceNetworkConfig | None = None,
    sequence_state: Mapping[str, Tensor] | None = None,
    settings: Mapping[str, Any],
    card: str,
    model_osim: Path | None = None,
) -> Path:
    """Write a bundle; an existing one at the same place is replaced in one step.

    Args:
        folder: the bundle's folder.
        skeleton: skeleton with the markers that the networks were trained with.
        measurements: names and order of the factors.
        predicted: names and order of the predicted coordinates.
        frame_config: architecture of the per-frame network.
        frame_state: its state_dict.
        sequence_config: architecture of the sequence network, if there is one.
        sequence_state: its state_dict.
        settings: whatever else scoring needs, as JSON: crop, fps, data hash, figures.
        card: model card, Markdown.
        model_osim: OpenSim model to take along.

    Returns:
        The folder.

    Raises:
        InvalidInputError: a sequence network without one of its two parts, or settings that
            are not JSON.
    """
    if (sequence_config is None) != (sequence_state is None):
        raise InvalidInputError("sequence network", "needs both its config and its state")
    folder = Path(folder)
    config = {
        "bundle_version": BUNDLE_VERSION,
        "frame": asdict(frame_config),
        "sequence": None if sequence_config is None else asdict(sequence_config),
        "settings": dict(settings),
    }
    with _replacing(folder) as staged:
        (staged / CONFIG).write_text(_to_json(config), encoding="utf-8")
        (staged / CARD).write_text(card, encoding="utf-8")
        skeleton.save(staged / SKELETON)
        measurements.save(staged / MEASUREMENTS)
        predicted.save(staged / PREDICTED)
        save_file(_merge_states(frame_state, sequence_state or {}), staged / WEIGHTS)
        if model_osim is not None:
            shutil.copyfile(model_osim, staged / MODEL)
    return folder


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of `folder` if nothing fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        staged = Path(temporary) / "staged"
        staged.mkdir()
        yield staged
        if folder.exists():
            folder.rename(Path(temporary) / "replaced")
        staged.rename(folder)


def load_bundle(folder: Path | str) -> Bundle:
    """Load a bundle written by `save_bundle`; needs neither OpenSim nor a network connection.

    Raises:
        BundleError: no bundle, a missing or damaged file, another version, or a pickle among its
            files: nothing here would load it, but whoever is given the folder might.
    """
    folder = Path(folder)
    _check_files(folder)
    config = _read_config(folder)
    try:
        skeleton = Skeleton.load(folder / SKELETON)
        measurements = MeasurementSet.load(folder / MEASUREMENTS)
        predicted = PredictedSet.load(folder / PREDICTED)
        head = PredictionHead(skeleton, measurements, predicted)
        # The weights are in the bundle: whatever the backbone started from is not needed again.
        frame = FrameNetwork(FrameNetworkConfig(**{**config["frame"], "weights": ""}), head)
        sequence = _build_sequence(config["sequence"], head)
    except (D3KEError, OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(str(folder), CONFIG, f"does not describe a model ({error})") from error
    _load_weights(folder, {"frame": frame, "sequence": sequence})
    card, model = folder / CARD, folder / MODEL
    return Bundle(
        folder=folder,
        skeleton=skeleton,
        head=head,
        frame=frame.eval(),
        sequence=None if sequence is None else sequence.eval(),
        config=config["settings"],
        card=card.read_text(encoding="utf-8") if card.exists() else "",
        model_osim=model if model.exists() else None,
    )


def _build_sequence(config: dict[str, Any] | None, head: PredictionHead) -> SequenceNetwork | None:
    if config is None:
        return None
    return SequenceNetwork(
        SequenceNetworkConfig(**{**config, "strides": tuple(config["strides"])}), head
    )


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise BundleError(str(folder), "folder", "does not exist", "Give a trained run's bundle.")
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise BundleError(
            str(folder), missing[0], "is missing", f"A bundle has the files {', '.join(REQUIRED)}."
        )
    pickle = find_pickle(folder)
    if pickle is not None:
        name = str(pickle.relative_to(folder))
        reason = "is or may hold a pickle, which runs code when it is loaded"
        raise BundleError(str(folder), name, reason, "Delete it; a bundle never has one.")


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        version = config["bundle_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(str(folder), CONFIG, f"is damaged ({error})") from error
    if version != BUNDLE_VERSION:
        raise BundleError(
            str(folder),
            CONFIG,
            f"has version {version}, this program reads version {BUNDLE_VERSION}",
            "Train again or install the release that wrote it.",
        )
    return config


def _load_weights(folder: Path, networks: Mapping[str, nn.Module | None]) -> None:
    try:
        arrays = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise BundleError(str(folder), WEIGHTS, f"is damaged ({error})") from error
    for prefix, network in networks.items():
        if network is None:
            continue
        start = f"{prefix}."
        state = {key[len(start) :]: value for key, value in arrays.items() if key.startswith(start)}
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            reason = f"does not fit the {prefix} network of {CONFIG} ({error})"
            raise BundleError(str(folder), WEIGHTS, reason) from error


def _merge_states(frame: Mapping[str, Tensor], sequence: Mapping[str, Tensor]) -> dict[str, Tensor]:
    states = {"frame": frame, "sequence": sequence}
    return {
        # Cloned: safetensors refuses arrays that share memory.
        f"{prefix}.{key.removeprefix('module.')}": value.detach().cpu().contiguous().clone()
        for prefix, state in states.items()
        for key, value in state.items()
    }


def _to_json(config: Mapping[str, Any]) -> str:
    try:
        return json.dumps(config, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InvalidInputError("settings of the bundle", f"not JSON ({error})") from error
