"""Bundles: what goes in comes out bit by bit, and damage is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from network_fixtures import full_body_head, random_estimate

from d3ke.errors import InvalidInputError
from d3ke.networks import (
    BundleError,
    FrameNetwork,
    FrameNetworkConfig,
    SequenceNetwork,
    SequenceNetworkConfig,
    load_bundle,
    save_bundle,
)

FRAME = FrameNetworkConfig(backbone="resnet18_half", image_size=64)
SEQUENCE = SequenceNetworkConfig(window=9, width=32, heads=4, layers=1, strides=(3,))


def save(folder: Path, *, seed: int = 0, sequence: bool = True, **changes: object) -> Path:
    torch.manual_seed(seed)
    head = full_body_head()
    frame = FrameNetwork(FRAME, head)
    refine = SequenceNetwork(SEQUENCE, head)
    torch.nn.init.normal_(refine.output.weight)
    arguments = {
        "skeleton": head.skeleton,
        "measurements": head.measurements,
        "predicted": head.predicted,
        "frame_config": FRAME,
        "frame_state": frame.to(memory_format=torch.channels_last).state_dict(),
        "sequence_config": SEQUENCE if sequence else None,
        "sequence_state": refine.state_dict() if sequence else None,
        "settings": {"fps": 10.0, "crop": {"stored_size": 160, "margin": 1.25}},
        "card": "# Card\n",
    }
    return save_bundle(folder, **(arguments | changes))


def test_round_trip_is_bit_equal(tmp_path: Path) -> None:
    osim = tmp_path / "some.osim"
    osim.write_text("<OpenSimDocument/>")
    bundle = load_bundle(save(tmp_path / "bundle", model_osim=osim))
    torch.manual_seed(0)
    head = full_body_head()
    frame, refine = FrameNetwork(FRAME, head).eval(), SequenceNetwork(SEQUENCE, head).eval()
    torch.nn.init.normal_(refine.output.weight)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    for first, second in zip(frame(images), bundle.frame(images), strict=True):
        assert torch.equal(first, second)
    estimate, valid = random_estimate(1, 8), torch.ones(1, 8, dtype=torch.bool)
    assert bundle.sequence is not None
    for first, second in zip(
        refine(estimate, valid), bundle.sequence(estimate, valid), strict=True
    ):
        assert torch.equal(first, second)
    assert bundle.config["crop"]["stored_size"] == 160
    assert bundle.sequence.config == SEQUENCE
    assert bundle.card == "# Card\n"
    assert bundle.model_osim is not None
    assert bundle.model_osim.read_text() == "<OpenSimDocument/>"


def test_a_bundle_without_sequence_network(tmp_path: Path) -> None:
    bundle = load_bundle(save(tmp_path / "bundle", sequence=False))
    assert bundle.sequence is None
    assert bundle.model_osim is None


def test_hash_depends_on_weights_and_settings_only(tmp_path: Path) -> None:
    first = load_bundle(save(tmp_path / "a")).content_hash()
    assert first == load_bundle(save(tmp_path / "b")).content_hash()
    assert len(first) == 16
    assert first != load_bundle(save(tmp_path / "c", seed=1)).content_hash()
    assert first != load_bundle(save(tmp_path / "d", settings={"fps": 30.0})).content_hash()


def test_saving_again_replaces_and_leaves_no_litter(tmp_path: Path) -> None:
    first = load_bundle(save(tmp_path / "bundle")).content_hash()
    assert load_bundle(save(tmp_path / "bundle", seed=1)).content_hash() != first
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_failed_save_leaves_the_old_bundle(tmp_path: Path) -> None:
    first = load_bundle(save(tmp_path / "bundle")).content_hash()
    with pytest.raises(InvalidInputError, match="not JSON"):
        save(tmp_path / "bundle", settings={"bad": object()})
    with pytest.raises(InvalidInputError, match="both"):
        save(tmp_path / "bundle", sequence_state=None)
    assert load_bundle(tmp_path / "bundle").content_hash() == first
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_missing_things_are_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        load_bundle(tmp_path / "nowhere")
    folder = save(tmp_path / "bundle")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match=r"weights\.safetensors: is missing"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", b"{", "config.json: is damaged"),
        ("config.json", b"[]", "config.json: is damaged"),
        ("weights.safetensors", b"\x00" * 40, "weights.safetensors: is damaged"),
        ("skeleton.json", b"{}", "bundle"),
    ],
)
def test_damage_is_named(tmp_path: Path, file: str, content: bytes, says: str) -> None:
    folder = save(tmp_path / "bundle")
    (folder / file).write_bytes(content)
    with pytest.raises(BundleError, match=says):
        load_bundle(folder)


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_another_version_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "bundle")
    edit_config(folder, bundle_version=99)
    with pytest.raises(BundleError, match="version 99, this program reads version 1"):
        load_bundle(folder)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "bundle")
    other = {"backbone": "resnet18", "image_size": 64, "weights": ""}
    edit_config(folder, frame=other)
    with pytest.raises(BundleError, match="does not fit the frame network"):
        load_bundle(folder)
    edit_config(folder, frame=other | {"depth": 3})
    with pytest.raises(BundleError, match="does not describe a model"):
        load_bundle(folder)


def test_loading_needs_no_opensim(tmp_path: Path) -> None:
    import subprocess
    import sys

    folder = save(tmp_path / "bundle")
    code = (
        "import sys; sys.modules['opensim'] = None\n"
        "from d3ke.networks import load_bundle\n"
        f"load_bundle({str(folder)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("name", ["weights.safetensors", "extra.pt", "sub/extra.bin", "card.md"])
def test_a_pickle_anywhere_in_a_bundle_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path / "bundle", sequence=False)
    (folder / name).parent.mkdir(exist_ok=True)
    ran = tmp_path / "ran"
    (folder / name).write_bytes(pickle.dumps(Trap(ran)))
    with pytest.raises(BundleError, match=Path(name).name):
        load_bundle(folder)
    assert not ran.exists()
    pickle.loads((folder / name).read_bytes())  # it would have run
    assert ran.exists()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self._file,)
