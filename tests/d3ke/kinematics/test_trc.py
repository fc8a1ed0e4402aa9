"""Marker files: what is written is read back, gaps and foreign layouts included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerTrajectories, read_trc, write_trc

SHARED = Path(__file__).parents[4] / "shared" / "opensim-models"


def trajectories(frames: int = 4) -> MarkerTrajectories:
    positions = np.random.default_rng(3).normal(size=(frames, 3, 3))
    positions[1, 2] = np.nan
    positions[0, 0] = np.nan
    return MarkerTrajectories(
        names=("A", "B", "C"),
        positions=positions,
        times=0.5 + np.arange(frames) / 120.0,
        rate_hz=120.0,
    )


def test_write_then_read_keeps_positions_gaps_and_times(tmp_path):
    written = trajectories()
    write_trc(tmp_path / "a.trc", written)
    read = read_trc(tmp_path / "a.trc")
    assert read.names == written.names
    assert read.rate_hz == 120.0
    np.testing.assert_allclose(read.positions, written.positions, atol=1e-8)
    np.testing.assert_allclose(read.times, written.times, atol=1e-6)
    assert not list(tmp_path.glob(".*")), "a temporary file was left"


def test_file_is_in_millimetres_and_opensim_reads_it(tmp_path):
    from d3ke.kinematics.opensim_library import load_opensim

    written = trajectories()
    write_trc(tmp_path / "a.trc", written)
    table = load_opensim().TimeSeriesTableVec3(str(tmp_path / "a.trc"))
    assert table.getTableMetaDataString("Units") == "mm"
    column = table.getDependentColumn("B")
    np.testing.assert_allclose(column[3].to_numpy(), 1e3 * written.positions[3, 1], atol=1e-4)
    assert np.isnan(table.getDependentColumn("C")[1].to_numpy()).all()


def test_metres_and_short_rows_are_understood(tmp_path):
    text = (
        "PathFileType\t4\t(X/Y/Z)\tx.trc\nDataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\n"
        "50\t50\t2\t2\tM\nFrame#\tTime\tP\t\t\tQ\t\t\n\t\tX1\tY1\tZ1\tX2\tY2\tZ2\n\n"
        "1\t0.00\t1\t2\t3\t4\t5\t6\n2\t0.02\t1\t2\t3\n"
    )
    (tmp_path / "x.trc").write_text(text)
    read = read_trc(tmp_path / "x.trc")
    np.testing.assert_array_equal(read.marker("Q")[0], [4, 5, 6])
    assert np.isnan(read.marker("Q")[1]).all()
    with pytest.raises(UnknownNameError, match="'R'"):
        read.marker("R")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "header lines"),
        ("a\nUnits\nfurlong\nFrame#\tTime\tA\n\n1\t0\t1\t2\t3\n", "'furlong'"),
        ("a\nUnits\nmm\nFrame#\tTime\tA\n\n1\t0\t1\t2\t3\n", "DataRate"),
        ("a\nDataRate Units\n10 mm\nFrame#\tTime\tA\n\n", "0 frames"),
        ("a\nDataRate Units\n10 mm\nFrame#\tTime\tA\n\n1\t0\t1\t2\t3\t4\n", "names 5"),
        ("a\nDataRate Units\n10 mm\nFrame#\tTime\tA\n\n1\t\t1\t2\t3\n", "no time"),
    ],
)
def test_unusable_files_are_refused_with_the_reason(tmp_path, text, reason):
    (tmp_path / "bad.trc").write_text(text)
    with pytest.raises(InvalidInputError, match=reason):
        read_trc(tmp_path / "bad.trc")


def test_a_missing_file_is_named():
    with pytest.raises(InvalidInputError, match="nowhere.trc"):
        read_trc("nowhere.trc")


def test_inconsistent_trajectories_are_refused():
    with pytest.raises(InvalidInputError, match="shape"):
        MarkerTrajectories(
            names=("A",), positions=np.zeros((2, 2, 3)), times=np.arange(2.0), rate_hz=1.0
        )
    with pytest.raises(InvalidInputError, match="increase"):
        MarkerTrajectories(
            names=("A",), positions=np.zeros((2, 1, 3)), times=np.zeros(2), rate_hz=1.0
        )
    with pytest.raises(InvalidInputError, match="twice"):
        MarkerTrajectories(
            names=("A", "A"), positions=np.zeros((1, 2, 3)), times=np.zeros(1), rate_hz=1.0
        )


def test_reordering_fills_missing_markers_with_nan():
    chosen = trajectories().reordered(("C", "Z"))
    np.testing.assert_array_equal(chosen.positions[2, 0], trajectories().positions[2, 2])
    assert np.isnan(chosen.positions[:, 1]).all()


def test_recorded_files_agree_with_opensim():
    path = SHARED / "gait2354" / "subject01_static.trc"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    from d3ke.kinematics.opensim_library import load_opensim

    read = read_trc(path)
    table = load_opensim().TimeSeriesTableVec3(str(path))
    assert read.names == tuple(table.getColumnLabels())
    expected = np.array([table.getDependentColumn(name)[0].to_numpy() for name in read.names])
    np.testing.assert_allclose(read.positions[0], expected * 1e-3, atol=1e-9)
