"""From tables to batches: joins, masks, units and the images they belong to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_data import FACING, make_data_set

from d3ke.errors import InvalidInputError
from d3ke_platform.schema import CROPS, LABELS, RECORDINGS
from d3ke_platform.storage import read_table
from d3ke_platform.training.batch_plan import BatchPlan
from d3ke_platform.training.crop_files import decode_crop
from d3ke_platform.training.loader import FrameLoader
from d3ke_platform.training.samples import load_samples, require_disjoint_splits
from d3ke_platform.training.settings import TrainSettings
from d3ke_platform.training.train import Training

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data_set(tmp_path_factory.mktemp("data"))


def test_samples_are_crops_with_labels(data):
    samples = load_samples(data, "train")
    # 3 subjects x 2 trials x (12 labelled frontal + 8 labelled sagittal) frames.
    assert len(samples) == 120
    assert samples.dropped["frames"] == 24
    index = samples.recording_ids.index("train_1_m0_sagittal")
    rows = np.flatnonzero(samples.recording == index)
    assert samples.frame[rows].tolist() == [0, 1, 3, 4, 6, 7, 9, 10]
    labels = LABELS.to_numpy(read_table(data.label_uri("train_1_m0")))
    predicted = data.skeleton().index_of("coordinate", data.predicted().coordinates)
    np.testing.assert_allclose(
        samples.coordinates[rows],
        labels["coordinates"][samples.frame[rows]][:, predicted],
        atol=1e-6,
    )
    np.testing.assert_allclose(samples.root_rotation[rows[0]], FACING, atol=1e-7)
    elbow = data.predicted().coordinates.index("elbow_flexion_l")
    assert not samples.coordinate_mask[rows[0], elbow]
    assert samples.coordinate_mask[rows[1:], elbow].all()


def test_subjects_can_be_left_out_and_splits_do_not_mix(data):
    samples = load_samples(data, "train", exclude_subjects=("train_0", "train_2"))
    assert {name.rsplit("_m", 1)[0] for name in samples.recording_ids} == {"train_1"}
    validation = load_samples(data, "validation")
    assert all(name.startswith("validation") for name in validation.recording_ids)
    with pytest.raises(InvalidInputError, match="no labelled crops"):
        load_samples(data, "train", exclude_subjects=("train_0", "train_1", "train_2"))


def test_a_data_set_without_training_subjects(tmp_path):
    lonely = make_data_set(tmp_path, subjects={"validation": 1}, frames=3, trials=1)
    with pytest.raises(InvalidInputError, match="split 'train' of data set .* has no subject"):
        load_samples(lonely, "train")


def test_a_person_in_two_splits_is_named(tmp_path):
    leaking = make_data_set(tmp_path, frames=3, trials=1)
    require_disjoint_splits(leaking)
    recordings = leaking.recordings()
    assert recordings[0]["subject"] == "train_0"
    recordings[0]["split"] = "validation"
    leaking.write_rows(RECORDINGS, recordings)
    with pytest.raises(InvalidInputError, match="'train_0' .* splits train and validation"):
        require_disjoint_splits(leaking)
    # What is refused leaves no run behind that would refuse the repaired data.
    run = tmp_path / "run"
    with pytest.raises(InvalidInputError, match="splits train and validation"):
        Training(TrainSettings(data=leaking.root, output=str(run), in_process=True))
    assert not run.exists()


def test_batches_pair_each_image_with_its_label(data):
    samples = load_samples(data, "train")
    plan = BatchPlan(count=len(samples), batch_size=8, seed=1, world_size=2, rank=1)
    owned = plan.owned()
    share = samples.subset(owned)
    loader = FrameLoader(share, CPU, threads=2)
    steps = plan.epoch(0)
    read = share.crop_table(data).read
    batches = list(loader.batches((np.searchsorted(owned, rows) for rows in steps), read))
    assert len(batches) == plan.steps
    for rows, batch in zip(steps, batches, strict=True):
        assert batch.images.shape == (4, 3, 40, 40)
        assert batch.images.dtype == torch.uint8
        for place, row in enumerate(rows):
            recording = samples.recording_ids[samples.recording[row]]
            jpeg = CROPS.to_numpy(read_table(data.crop_uri(recording)))["jpeg"][samples.row[row]]
            expected = decode_crop(jpeg).transpose(2, 0, 1)
            np.testing.assert_array_equal(batch.images[place].numpy(), expected)
            np.testing.assert_array_equal(
                batch.target.coordinates[place].numpy(), samples.coordinates[row]
            )


def test_decoded_crops_are_rgb(data):
    jpeg = CROPS.to_numpy(read_table(data.crop_uri("train_0_m0_frontal")))["jpeg"][0]
    image = decode_crop(jpeg).astype(int)
    # Squares are drawn in red and green, none in blue.
    assert image[..., 0].max() > 200
    assert image[..., 1].max() > 200
    assert image[..., 2].max() < 180
    with pytest.raises(InvalidInputError, match="cannot be decoded"):
        decode_crop(b"not a picture")
