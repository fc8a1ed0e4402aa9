"""Marker files of motion capture systems, .c3d: real files, written with ezc3d."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from c3d_files import write_c3d

from d3ke.errors import InvalidInputError, UnknownNameError
from d3ke.kinematics import MarkerTrajectories, read_trc
from d3ke.kinematics.axes import UP_AXES, ground_from_axes
from d3ke.kinematics.c3d import read_c3d, read_markers

GAIT = Path(__file__).parents[4] / "shared" / "opensim-models" / "gait2354"


def trajectories() -> MarkerTrajectories:
    positions = np.random.default_rng(5).normal(size=(6, 3, 3))
    positions[2, 1] = np.nan
    times = np.arange(6) / 200.0
    return MarkerTrajectories(
        names=("A", "B", "C"), positions=positions, times=times, rate_hz=200.0
    )


@pytest.mark.parametrize("units", ["mm", "cm", "m"])
def test_positions_gaps_and_rate_are_read_in_any_unit(tmp_path, units):
    read = read_c3d(write_c3d(tmp_path / "a.c3d", trajectories(), units=units, first_frame=40))
    assert (read.names, read.rate_hz) == (("A", "B", "C"), 200.0)
    np.testing.assert_allclose(read.positions, trajectories().positions, atol=1e-6)
    np.testing.assert_allclose(read.times, np.arange(6) / 200.0)  # from 0, as OpenSim reads them


@pytest.mark.skipif(not GAIT.is_dir(), reason="../shared/opensim-models is not here")
def test_a_recording_is_the_same_from_c3d_and_trc(tmp_path):
    trc = read_trc(GAIT / "subject01_walk1.trc")
    path = write_c3d(tmp_path / "walk.c3d", trc, axes=ground_from_axes("z").T)
    read = read_markers(path, up="z")
    assert read.names == trc.names
    np.testing.assert_allclose(read.positions, trc.positions, atol=1e-6)
    np.testing.assert_allclose(read.times, trc.times - trc.times[0], atol=1e-3)


def test_only_labelled_markers_are_kept(tmp_path):
    four = trajectories()
    named = MarkerTrajectories(
        names=("RASI", "*12", "RKneeAngles"),
        positions=four.positions,
        times=four.times,
        rate_hz=200.0,
    )
    path = write_c3d(
        tmp_path / "a.c3d", named, prefix="anna:", parameters={"ANGLES": ["anna:RKneeAngles"]}
    )
    assert read_c3d(path).names == ("RASI",)
    bare = write_c3d(tmp_path / "b.c3d", named, parameters={"ANGLES": ["RKneeAngles"]})
    assert read_c3d(bare).names == ("RASI",)


def test_points_at_the_origin_were_not_measured(tmp_path):
    there = trajectories()
    there.positions[4, 0] = 0.0
    read = read_c3d(write_c3d(tmp_path / "a.c3d", there))
    assert np.isnan(read.positions[4, 0]).all()
    assert np.isfinite(read.positions[3, 0]).all()


def test_the_unit_can_be_stated_where_the_file_is_wrong(tmp_path):
    path = write_c3d(tmp_path / "a.c3d", trajectories(), units="furlong")
    with pytest.raises(InvalidInputError, match=r"'furlong'.*known units: mm, cm, m"):
        read_c3d(path)
    np.testing.assert_allclose(
        read_c3d(path, units="m").positions, trajectories().positions, atol=1e-6
    )


@pytest.mark.parametrize("content", [b"", b"nonsense that is no motion capture", b"\x02\x50"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.c3d").write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"a\.c3d.*(not a \.c3d|cannot be read|cut short)"):
        read_c3d(tmp_path / "a.c3d")


def test_a_file_that_was_cut_short_is_no_shorter_recording(tmp_path):
    path = write_c3d(tmp_path / "a.c3d", trajectories())
    whole = path.read_bytes()
    for length in (400, 900, len(whole) - 512):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidInputError, match="cut short"):
            read_c3d(path)


def test_absent_files_and_other_kinds_are_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"no such file"):
        read_c3d(tmp_path / "none.c3d")
    with pytest.raises(InvalidInputError, match=r"must end in \.trc, \.c3d"):
        read_markers(tmp_path / "a.csv")


@pytest.mark.parametrize("up", UP_AXES)
def test_the_axis_that_points_up_becomes_y(up):
    rotation = ground_from_axes(up)
    axis = np.eye(3)["xyz".index(up[-1])] * (-1 if up.startswith("-") else 1)
    np.testing.assert_allclose(rotation @ axis, [0, 1, 0])
    assert np.linalg.det(rotation) == pytest.approx(1.0)


def test_z_up_becomes_ground_as_calibrations_do():
    # Ground's (x, y, z) are a z-up laboratory's (y, z, x).
    np.testing.assert_allclose(ground_from_axes("z") @ [1.0, 2.0, 3.0], [2.0, 3.0, 1.0])
    with pytest.raises(UnknownNameError, match="up axis 'up'"):
        ground_from_axes("up")


def test_a_damaged_file_does_not_take_the_process_along(tmp_path):
    path = write_c3d(tmp_path / "a.c3d", trajectories())
    damaged = bytearray(path.read_bytes())
    damaged[540:543] = b"\x80\x80\x80"  # a length: ezc3d 1.7 reads beyond its memory
    path.write_bytes(bytes(damaged))
    with pytest.raises(InvalidInputError, match=r"a\.c3d: cannot be read as \.c3d"):
        read_c3d(path)


def test_opensim_works_after_reading(tmp_path):
    """In one process ezc3d and OpenSim break each other: they share a table of C++ types."""
    opensim = pytest.importorskip("opensim")
    read_c3d(write_c3d(tmp_path / "a.c3d", trajectories()))
    assert "ezc3d" not in sys.modules
    table = opensim.TimeSeriesTable()
    table.setColumnLabels(["knee"])
    for time in range(8):
        table.appendRow(float(time), opensim.RowVector(1, 1.0))
    splines = opensim.GCVSplineSet(table, opensim.StdVectorString(), 5)  # TypeError, once broken
    assert splines.getSize() == 1
