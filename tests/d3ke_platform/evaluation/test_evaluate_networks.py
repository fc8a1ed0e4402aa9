"""An evaluation with real (untrained) networks, without Ray."""

from __future__ import annotations

import json

import evaluation_data as known
import pytest
import torch

from d3ke.networks import (
    FrameNetwork,
    FrameNetworkConfig,
    SequenceNetwork,
    SequenceNetworkConfig,
    save_bundle,
)
from d3ke_platform.data_set import DataSet
from d3ke_platform.evaluation import evaluate as module
from d3ke_platform.evaluation.settings import EvaluateSettings

IMAGE_SIZE = 64
STORED = {"stored_size": 64, "field_of_view": 1.2, "margin": 1.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return known.make_data(tmp_path_factory.mktemp("data"))


def make_bundle(data, folder, *, with_sequence: bool):
    torch.manual_seed(0)
    head = known.head_of(data)
    frame_config = FrameNetworkConfig(backbone="resnet18_half", image_size=IMAGE_SIZE)
    sequence_config = SequenceNetworkConfig(
        window=9, width=16, heads=2, layers=1, feed_forward=32, strides=(3,)
    )
    sequence = SequenceNetwork(sequence_config, head).state_dict() if with_sequence else None
    return save_bundle(
        folder,
        skeleton=head.skeleton,
        measurements=head.measurements,
        predicted=head.predicted,
        frame_config=frame_config,
        frame_state=FrameNetwork(frame_config, head).state_dict(),
        sequence_config=sequence_config if with_sequence else None,
        sequence_state=sequence,
        settings={"crop": STORED, "fps": 10.0, "frame": {"image_size": IMAGE_SIZE}},
        card="",
    )


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """The page takes most of the time and is tested elsewhere."""
    monkeypatch.setattr(module, "write_report", lambda path, content: path)


def run_here(items, stage, *, arguments, **options):
    """`run_stage` in this process."""
    work = stage(**arguments)
    for item in items:
        yield from work(item)


def evaluate_untrained(data, folder, monkeypatch, *, with_sequence: bool):
    """Evaluate untrained networks that predict what `data` names."""
    monkeypatch.setattr(module, "run_stage", run_here)
    bundle = make_bundle(data, folder / "bundle", with_sequence=with_sequence)
    settings = EvaluateSettings(
        data=data.root, model=str(bundle), output=str(folder / "report"), examples=1
    )
    return module.evaluate(settings)


def test_a_model_of_one_region_is_judged_by_its_own_coordinates(data, tmp_path, monkeypatch):
    region = DataSet.open(data.root, coordinates=("legs",))
    summary = evaluate_untrained(region, tmp_path, monkeypatch, with_sequence=True)
    assert (summary.recordings, summary.rejects) == (8, 0)
    assert summary.headline["mae_moving_per_frame_deg"] > 5


@pytest.mark.parametrize("with_sequence", [True, False])
def test_untrained_networks(data, tmp_path, monkeypatch, with_sequence):
    summary = evaluate_untrained(data, tmp_path, monkeypatch, with_sequence=with_sequence)
    assert (summary.recordings, summary.rejects) == (8, 0)
    # They have learnt nothing, so they are no better than the mean; and are judged at all.
    assert summary.headline["mae_moving_per_frame_deg"] > 5
    assert ("mae_moving_sequence_deg" in summary.headline) is with_sequence
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    status = {gate["name"]: gate["status"] for gate in metrics["gates"]}
    (judged,) = (name for name in status if name.startswith("Sequence network: error"))
    assert (status[judged] != "not measured") is with_sequence


def test_estimates_are_kept_and_follow_the_model(data, tmp_path, monkeypatch):
    ran = []

    def counted(items, stage, **options):
        ran.append(len(items))
        yield from run_here(items, stage, **options)

    monkeypatch.setattr(module, "run_stage", counted)
    settings = EvaluateSettings(
        data=data.root,
        model=str(make_bundle(data, tmp_path / "bundle", with_sequence=False)),
        output=str(tmp_path / "report"),
        examples=0,
    )
    first = module.evaluate(settings).headline
    assert module.evaluate(settings).headline == first
    assert ran == [8]
    make_bundle(data, tmp_path / "bundle", with_sequence=True)
    module.evaluate(settings)
    assert ran == [8, 8]
