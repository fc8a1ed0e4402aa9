"""Crops in memory and streamed: the right pictures with the right labels, in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from fake_data import make_data_set

from d3ke.errors import InvalidInputError
from d3ke_platform.schema import CROPS
from d3ke_platform.storage import group_sizes, read_rows, read_table, write_table
from d3ke_platform.training import crop_stream
from d3ke_platform.training.crop_files import decode_crop
from d3ke_platform.training.frame_crops import encoded_bytes, make_frame_crops, streams
from d3ke_platform.training.samples import load_samples
from d3ke_platform.training.settings import FrameTraining
from d3ke_platform.training.worker import LocalWorker

SETTINGS = FrameTraining(batch_size=8, loading="stream", shuffle_buffer=40)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Recordings of two row groups each, but for one."""
    made = make_data_set(tmp_path_factory.mktemp("data"))
    for recording in made.recordings()[1:]:
        uri = made.crop_uri(recording["recording_id"])
        write_table(uri, read_table(uri), group_rows=7)
    return made


def crops(data, tmp_path, settings=SETTINGS):
    samples = load_samples(data, "train")
    worker = LocalWorker(tmp_path, torch.device("cpu"))
    return samples, make_frame_crops(data, samples, settings, seed=3, worker=worker, threads=2)


@pytest.mark.parametrize("loading", ["memory", "stream"])
def test_batches_pair_each_picture_with_its_label(data, tmp_path, loading):
    samples, made = crops(data, tmp_path, replace(SETTINGS, loading=loading))
    assert (made.steps, made.slots) == (15, 8)
    labels, expected = {}, Counter()
    for number in range(len(samples)):
        recording = samples.recording_ids[samples.recording[number]]
        jpeg = CROPS.to_numpy(read_table(data.crop_uri(recording)))["jpeg"][samples.row[number]]
        picture = decode_crop(jpeg).transpose(2, 0, 1).tobytes()
        labels[picture] = samples.coordinates[number]  # both cameras see the same
        expected[picture] += 1
    seen = Counter()
    for batch in made.epoch(1):
        for image, coordinates in zip(batch.images, batch.target.coordinates, strict=True):
            picture = image.numpy().tobytes()
            np.testing.assert_array_equal(coordinates.numpy(), labels[picture])
            seen[picture] += 1
    assert seen == expected


def test_a_shard_is_a_row_group(data):
    samples = load_samples(data, "train")
    table = samples.crop_table(data)
    sizes = table.shard_sizes()
    assert sizes.sum() == len(samples)
    assert len(sizes) == 2 * len(samples.recording_ids) - 1
    assert sorted(group_sizes(table.uris[1])) == [5, 7]


def test_rows_of_a_file_come_as_asked_for(data):
    uri = data.crop_uri(data.recordings()[1]["recording_id"])
    rows = np.array([11, 0, 6, 7, 6])
    found = read_rows(uri, ["frame"], rows).column("frame").to_pylist()
    assert found == rows.tolist()
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_rows(data.uri("nowhere.parquet"), ["frame"], rows)


def test_no_more_is_read_ahead_than_two_rounds(data, tmp_path, monkeypatch):
    """Encoded crops that exist at once: those of the round in use and of the ones ahead of it."""
    _, made = crops(data, tmp_path)
    read, used, ahead = [0], [0], []
    original = crop_stream.CropTable.read

    def counted(table, samples):
        read[0] += len(samples)
        ahead.append(read[0] - used[0])
        return original(table, samples)

    monkeypatch.setattr(crop_stream.CropTable, "read", counted)
    for batch in made.epoch(0):
        used[0] += len(batch.images)
    assert read[0] == 120
    # One round of 40 in use, one finished and one being read, and the steps decoded ahead.
    assert max(ahead) <= 3 * 40 + 4 * 8


def test_large_sets_are_streamed_by_themselves(data):
    samples = load_samples(data, "train")
    size = encoded_bytes(data, samples)
    assert size > 120 * 500
    auto = replace(SETTINGS, loading="auto")
    assert not streams(data, samples, auto)
    assert streams(data, samples, replace(auto, memory_gb=size / 2e9))
    assert not streams(data, samples, replace(auto, memory_gb=0.0, loading="memory"))
