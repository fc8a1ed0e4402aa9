"""Windows over recordings: coverage, padding and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fake_data import make_data_set

from d3ke.errors import InvalidInputError
from d3ke_platform.schema import RECORDINGS
from d3ke_platform.training.sequence_stage import batch_norm_momentum
from d3ke_platform.training.sequences import (
    LabelledSequence,
    WindowSet,
    frame_rate,
    window_starts,
)

CPU = torch.device("cpu")


def sequence(length, first=0.0):
    numbers = np.arange(length, dtype=np.float32) + first
    rotation = np.tile(np.eye(3, dtype=np.float32), (length, 1, 1))
    labelled = np.ones(length, bool)
    labelled[1] = False
    return LabelledSequence(
        coordinates=numbers[:, None],
        root_rotation=rotation,
        factors=numbers[:, None],
        labelled=labelled,
        target_coordinates=numbers[:, None] + 0.5,
        target_mask=np.ones((length, 1), bool),
        target_root_rotation=rotation,
        target_factors=numbers[:, None],
        target_marker_mask=np.ones((length, 2), bool),
    )


@pytest.mark.parametrize(("length", "window", "stride"), [(5, 9, 2), (9, 9, 2), (30, 9, 4)])
def test_windows_cover_a_recording(length, window, stride):
    starts = window_starts(length, window, stride)
    covered = {t for start in starts for t in range(start, min(start + window, length))}
    assert covered == set(range(length))
    assert max(starts) + window <= max(length, window)


def test_short_recordings_are_padded_by_their_last_frame():
    windows = WindowSet([sequence(7), sequence(4, first=100)], window=9, stride=2)
    assert (len(windows), windows.window) == (2, 7)
    batch = windows.batch(np.array([0, 1]), CPU)
    assert batch.valid.tolist() == [[True] * 7, [True] * 4 + [False] * 3]
    assert batch.estimate.coordinates[1, :, 0].tolist() == [100, 101, 102, 103, 103, 103, 103]
    assert batch.labelled()[1].tolist() == [True, False, True, True, False, False, False]
    assert batch.target.coordinates[1, 3, 0] == 103.5


def test_long_recordings_are_cut():
    windows = WindowSet([sequence(20)], window=9, stride=4)
    batch = windows.batch(np.arange(len(windows)), CPU)
    assert batch.estimate.coordinates[:, 0, 0].tolist() == [0, 4, 8, 11]
    assert batch.valid.all()


def test_one_frame_rate_only(tmp_path):
    data = make_data_set(tmp_path, frames=3, trials=1)
    recordings = data.recordings()
    names = [row["recording_id"] for row in recordings]
    assert frame_rate(data, names) == 10.0
    recordings[0]["fps"] = 30.0
    data.write_rows(RECORDINGS, recordings)
    with pytest.raises(InvalidInputError, match=r"\[10.0, 30.0\] Hz"):
        frame_rate(data, names)


def test_batch_norm_follows_ever_fewer_batches():
    """VideoPose3D's momentum, 0.1 to 0.001."""
    found = [batch_norm_momentum(epoch, 5) for epoch in range(5)]
    np.testing.assert_allclose(found, [0.1, 0.1 / 10**0.5, 0.01, 0.001 * 10**0.5, 0.001])
    assert batch_norm_momentum(0, 1) == 0.1
